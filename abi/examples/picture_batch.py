#!/usr/bin/python3
"""Looks at JPEG and PNG files, each a partition of a graph of tasks: picture_batch.py OUTPUT PATH...

    picture_batch.py /tmp/counts photos                   on this machine's devices
    picture_batch.py /tmp/counts photos -- --engine spark --master spark://HOST:7077

What follows "--" are options of `aiosctl graph run`: with these the pictures are spread over the hosts
of a cluster, where each AIOS places the tasks on its own devices; with --skip-bad-records what is no
picture is passed over. pictures.json, beside this program,
is the graph. OUTPUT is a folder that is not there yet. AIOSCTL may name aiosctl.
"""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

GRAPH = Path(__file__).with_name("pictures.json")


def counts(path: Path) -> tuple[int, ...]:
    """How many pixels have each of 256 values."""
    return struct.unpack("256I", path.read_bytes())


def main(output: str, paths: list[str], options: list[str]) -> int:
    ran = subprocess.run([os.environ.get("AIOSCTL") or "aiosctl", "graph", "run", GRAPH, *options,
                          "--output", output, "--json", "--input", *paths],
                         stdout=subprocess.DEVNULL, check=False)
    if ran.returncode != 0:
        return ran.returncode
    folder = Path(output)
    for one in json.loads((folder / "manifest.json").read_text())["partitions"]:
        if one["skipped"]:
            print(f"{one['input']}: skipped: {one['error']['text']}")
            continue
        edges, grey = (counts(folder / name) for name in one["outputs"])
        mean = sum(value * count for value, count in enumerate(grey)) / sum(grey)
        print(f"{one['input']}: mean grey {mean:.1f}, edges {100 * sum(edges[128:]) / sum(edges):.1f}%")
    return 0


if __name__ == "__main__":
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    if at < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:at], sys.argv[at + 1:]))
