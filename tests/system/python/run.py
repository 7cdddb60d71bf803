"""Installs the Python package into a virtual environment as its README says, and runs its tests.

usage: run.py AIOSCTL LIBAIOS WORK [TEST...]

WORK is a folder of the build, where the environment is made; the tests are modules of this folder,
or names within them, all without any.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[2] / "abi/python"
# Debian's, whatever else is called python3 on this machine.
PYTHON = "/usr/bin/python3"


def environment():
    """Nothing of the caller's decides which Python, package or instance is tested."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PIP_", "AIOS_")) and name != "VIRTUAL_ENV"}
    # What is not there cannot be fetched from anywhere.
    return {**kept, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1"}


def install(work):
    """The Python of an environment with the package, made from a copy: pip writes into sources."""
    shutil.rmtree(work, ignore_errors=True)
    source, folder = work / "source", work / "venv"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("build", "*.egg-info",
                                                                   "__pycache__"))
    subprocess.run([PYTHON, "-m", "venv", "--system-site-packages", folder], check=True,
                   env=environment())
    subprocess.run([folder / "bin/pip", "install", "--quiet", "--no-build-isolation", "--no-deps",
                    source], check=True, env=environment())
    shutil.rmtree(source)
    return folder / "bin/python"


def main():
    aiosctl, library, work = map(os.path.abspath, sys.argv[1:4])
    python = install(Path(work))
    sys.stdout.flush()
    return subprocess.run([python, HERE / "suite.py", aiosctl, *sys.argv[4:]], check=False,
                          env={**environment(), "AIOS_LIBRARY": library}).returncode


if __name__ == "__main__":
    sys.exit(main())
