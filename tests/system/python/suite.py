"""Runs the tests of this folder against one instance, in the Python that has the package.

usage: suite.py AIOSCTL [TEST...]
"""

import faulthandler
import os
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "support")]
import common  # noqa: E402
from instance import Instance, run_test  # noqa: E402

# Beyond this something hangs: the stack of every thread says where.
PATIENCE_S = 150


def main():
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    with Instance(sys.argv[1]) as common.booted:
        os.environ["AIOS_SOCKET"] = str(common.booted.state / "aios.sock")
        loader = unittest.TestLoader()
        names = sys.argv[2:] or sorted(path.stem for path in HERE.glob("*_test.py"))
        tests = loader.loadTestsFromNames(names)
        result = unittest.TextTestRunner(verbosity=2).run(tests)
        common.booted.wait_running()
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    passed = []
    code = run_test(lambda: passed.append(main()))
    sys.exit(code or passed[0])
