"""Objects of storage as inputs: "aios:NAME", or "aios:PREFIX/" for all below.

They are those of the instance where the driver runs, read over its link and with its user's rights, every
block verified, into the output folder, which all hosts share: for hosts they are files like any other.
"""

import os
from collections.abc import Iterator, Sequence

import aios
from aios import errors
from aios.storage import Storage

from . import unpack

SCHEME = "aios:"
WINDOW_BYTES = 8 << 20


def bring(inputs: Sequence[str], folder: str) -> tuple[list[str], dict[str, str]]:
    """The inputs with a copy, in `folder`, made for them, in the place of every object; and what the user
    knows the copies as. `NotFound`, `SourceChanged`, `Corrupt`, naming the object; `Unreachable`."""
    paths: list[str] = []
    known_as: dict[str, str] = {}
    if not any(one.startswith(SCHEME) for one in inputs):
        return list(inputs), known_as
    os.mkdir(folder)
    with aios.attach() as instance, instance.storage() as storage:
        for one in inputs:
            if not one.startswith(SCHEME):
                paths.append(one)
                continue
            for name, size, version in _found(storage, one.removeprefix(SCHEME)):
                # What is compressed is told by its name's end.
                ending = os.path.splitext(name)[1] if unpack.is_packed(name) else ""
                path = os.path.join(folder, f"{len(paths):06}{ending}")
                _copy(storage, name, size, version, path)
                paths.append(path)
                known_as[path] = SCHEME + name
    return paths, known_as


def _found(storage: Storage, name: str) -> Iterator[tuple[str, int, int]]:
    """Name, size and version of one, or of all below."""
    if name.endswith("/"):
        below = list(storage.list(name))
        if not below:
            raise errors.NotFound(f"{SCHEME}{name}: storage has no object below")
        yield from ((one.name, one.info.size_bytes, one.info.version) for one in below)
        return
    try:
        info = storage.stat(name)
    except errors.NotFound:
        raise errors.NotFound(f"{SCHEME}{name}: storage has no such object") from None
    except aios.Error as error:
        raise errors.error_of(error.code, f"{SCHEME}{name}: {error}") from None
    yield name, info.size_bytes, info.version


def _copy(storage: Storage, name: str, size: int, version: int, path: str) -> None:
    window, at = bytearray(min(size, WINDOW_BYTES)), 0
    with open(path, "xb", buffering=0) as file:
        while at < size:
            try:
                got = storage.get_into(name, memoryview(window)[:size - at], at, version)
            except errors.NotFound:
                raise errors.SourceChanged(
                    f"{SCHEME}{name}: was removed since the job began") from None
            except errors.SourceChanged:
                raise errors.SourceChanged(
                    f"{SCHEME}{name}: was replaced since the job began") from None
            except aios.Error as error:
                raise errors.error_of(error.code, f"{SCHEME}{name}: {error}") from None
            left = memoryview(window)[:got]
            while left:
                left = left[file.write(left):]
            at += got
            if not got:
                raise errors.Corrupt(f"{SCHEME}{name}: storage gave none of its bytes")
