"""What the tests of the Python package share."""

import contextlib
import os
import struct
import subprocess
import sys
import threading
import unittest
from pathlib import Path

import aios
from instance import Instance

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PACKAGE = ROOT / "abi/python"
PATIENCE_S = 20

# Of abi/proto/echo.hpp.
ECHO_VERSION = 2
ECHO, HOLD, RELEASE, SUM = 1, 2, 3, 4
MESSAGE = struct.Struct("=Q256s")
WORD = struct.Struct("=Q")

# The instance that suite.py has booted.
booted: Instance


class Case(unittest.TestCase):
    def attach(self, **options):
        return self.enterContext(aios.attach(**options))

    def folder(self):
        """A folder of this test's own."""
        folder = booted.work / self.id()
        folder.mkdir()
        return folder

    @contextlib.contextmanager
    def no_leak(self):
        """Whatever the block opens it has closed at its end."""
        before = descriptors()
        yield
        self.assertEqual(descriptors(), before)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def echo(service, value):
    return MESSAGE.unpack(service.call(ECHO, MESSAGE.pack(value, b"")))[0]


def hold(service, key, timeout_s=PATIENCE_S):
    """A call that is answered by `release`."""
    return service.start(HOLD, WORD.pack(key), timeout_s)


def release(service, key):
    """How many calls it answered."""
    return WORD.unpack(service.call(RELEASE, WORD.pack(key)))[0]


def run_python(code, *arguments, environment=None, timeout_s=PATIENCE_S):
    """A program of its own; what it printed."""
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], text=True,
                          capture_output=True, timeout=timeout_s, check=False,
                          env={**os.environ, **(environment or {})})


class Thread(threading.Thread):
    """One whose exception or result `join` gives; it must end in time."""

    def __init__(self, body, *arguments):
        super().__init__(daemon=True)
        self._body, self._arguments = body, arguments
        self._result, self._error = None, None
        self.start()

    def run(self):
        try:
            self._result = self._body(*self._arguments)
        except BaseException as error:
            self._error = error

    def result(self):
        self.join(PATIENCE_S)
        if self.is_alive():
            raise AssertionError("the thread hangs")
        if self._error is not None:
            raise self._error
        return self._result


def booted_folder(name):
    """A folder that several tests share."""
    folder = booted.work / name
    folder.mkdir(exist_ok=True)
    return folder


def build_folder():
    return Path(booted.aiosctl).resolve().parents[2]
