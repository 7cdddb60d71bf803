"""A kernel of another version is told at once, with both versions: by boot, which looks until a new
instance is up, and by whoever attaches.

usage: versions.py AIOSCTL LIBAIOS
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "abi/python")]
AIOSCTL, LIBRARY = sys.argv[1:3]
os.environ["AIOS_LIBRARY"] = LIBRARY
import aios  # noqa: E402
from instance import COMMAND_TIMEOUT_S, expect, run_test  # noqa: E402
from other_kernel import VERSION as OTHER, answer, listen  # noqa: E402

OWN = re.search(r"abi_version = (\d+)", (ROOT / "abi/proto/kernel_types.hpp").read_text())[1]
# Boot gives up a kernel that says nothing after 60 s.
AT_ONCE_S = 20


def check_said(what, text):
    expect(f"version {OTHER}, and this program version {OWN};" in text, f"{what} says: {text}")


def attaching(folder):
    path = folder / "aios.sock"
    with listen(path) as listener:
        threading.Thread(target=answer, args=[listener], daemon=True).start()
        ended = subprocess.run([AIOSCTL, "--socket", path, "ps"], capture_output=True, text=True,
                               timeout=COMMAND_TIMEOUT_S, check=False)
        expect(ended.returncode != 0, "aiosctl works with a kernel of another version")
        check_said("aiosctl", ended.stderr)
        try:
            aios.attach(str(path))
        except aios.Error as why:
            check_said("libaios", str(why))
        else:
            expect(False, "libaios attaches to a kernel of another version")


def booting(folder):
    libexec = folder / "libexec"
    shutil.copytree(Path(AIOSCTL).resolve().parents[2] / "libexec", libexec, symlinks=True)
    kernel = libexec / "aios-kernel"
    kernel.unlink()
    kernel.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/support/other_kernel.py "$@"\n')
    kernel.chmod(0o700)
    begin = time.monotonic()
    ended = subprocess.run([AIOSCTL, "--state", folder / "state", "boot", "--detach"],
                           env=os.environ | {"AIOS_LIBEXEC": str(libexec)}, capture_output=True,
                           text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    expect(ended.returncode == 1, f"boot: {ended}")
    check_said("boot", ended.stderr)
    expect(time.monotonic() - begin < AT_ONCE_S, "boot waits for what cannot come")


def main():
    with tempfile.TemporaryDirectory(prefix="aios-test-") as name:
        attaching(Path(name))
        booting(Path(name))


if __name__ == "__main__":
    sys.exit(run_test(main))
