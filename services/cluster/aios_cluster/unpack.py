"""Compressed inputs: what ends in .gz or .zst is unpacked where it is read.

Such a file cannot be read from its middle, so it is never cut: one task unpacks it into a file of its
own, in the folder for temporary files, that is gone with the task.
"""

import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import zstandard

from aios import errors

CHUNK_BYTES = 1 << 20
GZIP_ONLY = 16 + zlib.MAX_WBITS
# Both kinds have members that follow one another, each with an object of its own.
_FORMATS: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(GZIP_ONLY),
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}


def is_packed(path: str) -> bool:
    return path.endswith(tuple(_FORMATS))


def chunks(path: str, file: IO[bytes]) -> Iterator[bytes]:
    """What it unpacks to. `Corrupt`, naming the path."""
    begin = next(make for ending, make in _FORMATS.items() if path.endswith(ending))
    member = begin()
    while data := file.read(CHUNK_BYTES):
        while data:
            if member.eof:
                member = begin()
            try:
                unpacked = member.decompress(data)
            except (zlib.error, zstandard.ZstdError):
                raise errors.Corrupt(f"{path}: damaged, or not of the kind its name says") from None
            if unpacked:
                yield unpacked
            data = member.unused_data if member.eof else b""
    if not member.eof:
        raise errors.Corrupt(f"{path}: ends before its compressed text does")


def size_of(path: str) -> int:
    """Of what it unpacks to."""
    with open(path, "rb") as file:
        return sum(map(len, chunks(path, file)))


def unpacked(path: str, file: IO[bytes]) -> IO[bytes]:
    """A file that has no name, to be read, with what it unpacks to. `IoError`: there is no room."""
    try:
        with tempfile.TemporaryFile(prefix="aios-unpacked-") as target:
            for some in chunks(path, file):
                target.write(some)
            target.flush()
            return open(f"/proc/self/fd/{target.fileno()}", "rb", buffering=0)
    except OSError as error:
        raise errors.IoError(f"{path}: cannot be unpacked into {tempfile.gettempdir()}: "
                             f"{error.strerror}") from None
