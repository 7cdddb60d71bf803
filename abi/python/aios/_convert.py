"""From Python's values to those of the library, and back."""

import ctypes
import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, SupportsIndex

from . import errors
from ._native import FOREVER

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer
    from numpy.typing import NDArray

    # Whatever has contiguous memory of its own: bytes, memoryview, array, ctypes, NumPy.
    Buffer = ReadableBuffer | NDArray[Any]
    WritableBuffer = WriteableBuffer | NDArray[Any]

NS_PER_S = 1_000_000_000
MAX_U64 = 2**64 - 1


def nanoseconds(seconds: float | None) -> int:
    """A time span; None is for ever."""
    if seconds is None or seconds == math.inf:
        return FOREVER
    if not seconds >= 0:
        raise errors.InvalidArgument(f"a time is not negative, and a number: {seconds}")
    return min(int(seconds * NS_PER_S), FOREVER - 1)


def unsigned(number: SupportsIndex, what: str, most: int = MAX_U64) -> int:
    """An integer, of NumPy perhaps; ctypes would cut off what does not fit."""
    try:
        plain = operator.index(number)
    except TypeError:
        raise TypeError(f"{what} is an int, not {type(number).__name__}") from None
    if not 0 <= plain <= most:
        raise errors.InvalidArgument(f"{what} is {plain}; it is 0 to {most}")
    return plain


def text(string: str, what: str) -> bytes:
    """As the library wants it. Names need not be UTF-8: bytes that are not are escaped in `str`."""
    if not isinstance(string, str):
        raise TypeError(f"{what} is a str, not {type(string).__name__}")
    encoded = string.encode("utf-8", "surrogateescape")
    if b"\0" in encoded:
        raise errors.InvalidArgument(f"{what} has a NUL: {string!r}")
    return encoded


def string(raw: bytes) -> str:
    """The reverse of `text`."""
    return raw.decode("utf-8", "surrogateescape")


class _PyBuffer(ctypes.Structure):
    """Py_buffer, as the stable ABI of Python fixes it."""

    _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t),
                ("itemsize", ctypes.c_ssize_t), ("readonly", ctypes.c_int),
                ("ndim", ctypes.c_int), ("format", ctypes.c_void_p), ("shape", ctypes.c_void_p),
                ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p),
                ("internal", ctypes.c_void_p)]


_PYBUF_SIMPLE = 0
_PYBUF_WRITABLE = 1
_get_buffer = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(_PyBuffer),
                                ctypes.c_int)(("PyObject_GetBuffer", ctypes.pythonapi))
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(_PyBuffer))(
    ("PyBuffer_Release", ctypes.pythonapi))


@contextmanager
def memory(data: "Buffer", writable: bool = False) -> Iterator[tuple[int | None, int]]:
    """Address and size of the memory of `data`, which stays where it is meanwhile.

    ctypes itself can do that only for writable objects. TypeError for what is no buffer;
    BufferError, or ValueError from NumPy, for what is not contiguous or read-only.
    """
    view = _PyBuffer()
    _get_buffer(data, ctypes.byref(view), _PYBUF_WRITABLE if writable else _PYBUF_SIMPLE)
    try:
        yield view.buf, view.len
    finally:
        _release_buffer(ctypes.byref(view))
