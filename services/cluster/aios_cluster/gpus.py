#!/usr/bin/env python3
"""The GPUs of this host, as Spark asks for them: AIOS knows them, and Spark need not look again.

    spark.worker.resource.gpu.discoveryScript    the path of this file, on every host
    spark.worker.resource.gpu.amount             how many of them Spark may give to executors

Prints {"name": "gpu", "addresses": ["0", …]}. An address is the device's index in `aiosctl devices`, which
a task of AIOS may name. Devices that have failed, or are emulated on a processor, are none. `aiosctl` is
found on PATH, or named by AIOSCTL. Exit code 1: the instance cannot be asked.
"""

import json
import os
import subprocess
import sys
from typing import Any


def addresses(listed: dict[str, Any]) -> list[str]:
    """Of what `aiosctl devices --json` says."""
    return [str(device["index"]) for device in listed["devices"]
            if device["kind"] == "gpu" and device["health"] == "ok" and not device["emulated"]]


def main() -> int:
    aiosctl = os.environ.get("AIOSCTL") or "aiosctl"
    try:
        done = subprocess.run([aiosctl, "devices", "--json"], capture_output=True, text=True,
                              check=False)
    except OSError as error:
        print(f"{aiosctl}: {error.strerror}; AIOSCTL names it", file=sys.stderr)
        return 1
    if done.returncode != 0:
        print(done.stderr.strip(), file=sys.stderr)
        return 1
    print(json.dumps({"name": "gpu", "addresses": addresses(json.loads(done.stdout))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
