"""Runs node_test.py and inputs_test.py against an instance of its own, in Debian's Python.

usage: suite.py AIOSCTL LIBAIOS MODULES [TEST...]     MODULES: the folder of the jobs that ship
"""

import faulthandler
import os
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"  # Debian's, with Debian's packages, whatever else is called python3
PATIENCE_S = 270


def main():
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
    from instance import Instance, run_test

    aiosctl, os.environ["AIOS_LIBRARY"], modules, *names = sys.argv[1:]
    codes = []

    def tests():
        with Instance(aiosctl) as booted:
            os.environ["AIOS_SOCKET"] = str(booted.state / "aios.sock")
            booted.modules = Path(modules)
            import node_test
            node_test.instance = booted
            import inputs_test
            loader = unittest.TestLoader()
            found = loader.loadTestsFromNames(names, node_test) if names else (
                unittest.TestSuite(map(loader.loadTestsFromModule, (node_test, inputs_test))))
            result = unittest.TextTestRunner(verbosity=2).run(found)
            node_test.job.close_node()
            booted.wait_running()
            codes.append(0 if result.wasSuccessful() and result.testsRun else 1)

    return run_test(tests) or codes[0]


if __name__ == "__main__":
    if os.path.realpath(sys.executable) != os.path.realpath(PYTHON):
        os.execv(PYTHON, [PYTHON, *sys.argv])
    sys.exit(main())
