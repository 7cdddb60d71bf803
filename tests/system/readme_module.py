"""The module that the README shows compiles as it says there and counts what it says; and its input of
k-means is made as it says."""

import collections
import json
import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS / "support"))
from instance import Instance, expect, run_test  # noqa: E402

MAX_LINES = 30
TEXT = b"\n".join([b"one two", b"  one", b"\ttwo one", b"", b"   ", b"three"] * 1000) + b"\nlast"


def compile_module(folder):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    source = re.search(r"```cpp\n(.*?)```", readme, re.DOTALL).group(1)
    expect(source.count("\n") < MAX_LINES, "the README's module is too long")
    (folder / "first_words.cpp").write_text(source, encoding="utf-8")
    command = re.search(r"^\$ (g\+\+ .*)$", readme, re.MULTILINE).group(1).split()
    command[command.index("abi/include")] = str(ROOT / "abi/include")
    environment = {**os.environ, "ASAN_OPTIONS": "", "UBSAN_OPTIONS": ""}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder / "first_words.so"


def centres_of_points(instance):
    """The two lines, run as they are, but for the folder that they write."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    make = re.search(r"^\$ (awk .* > points.csv)", readme, re.MULTILINE).group(1)
    compute = re.search(r"^\$ aiosctl (mapreduce run k-means .*?) +#", readme, re.MULTILINE).group(1)
    subprocess.run(["sh", "-c", make], cwd=instance.work, check=True)
    places = {"points.csv": instance.work / "points.csv", "/tmp/centres": instance.work / "centres"}
    instance.ctl(*(places.get(word, word) for word in compute.split()))
    lines = (instance.work / "centres/part-00000").read_text(encoding="utf-8").splitlines()
    expect(len(lines) == 8, f"eight centres were asked for: {lines}")


def main():
    with Instance(sys.argv[1]) as instance:
        module = compile_module(instance.work)
        text = instance.work / "text"
        text.write_bytes(TEXT)
        output = instance.work / "output"
        job = json.loads(instance.ctl("mapreduce", "run", module, "--input", text, "--output",
                                      output, "--json"))
        counts = collections.Counter(
            line.split()[0] for line in TEXT.split(b"\n") if line.split())
        expected = b"".join(b"%s\t%d\n" % item for item in sorted(counts.items()))
        expect((output / "part-00000").read_bytes() == expected, "it counts otherwise")
        expect(job["distinct_keys"] == len(counts), f"distinct_keys {job['distinct_keys']}")
        centres_of_points(instance)


if __name__ == "__main__":
    sys.exit(run_test(main))
