"""Objects in the storage of the instance: named, immutable, checksummed."""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, SupportsIndex

from . import _native
from ._convert import memory, nanoseconds, string, text, unsigned
from ._native import check, lib
from ._object import Object
from .region import Region
from .service import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from ._convert import Buffer, WritableBuffer

LIST_PAGE = 256


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What storage knows of an object."""

    size_bytes: int
    version: int  # grows with every put of the store
    created_ns: int  # CLOCK_REALTIME
    checksum: int  # XXH3-64 over the block checksums


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """An object in a listing."""

    name: str
    info: ObjectInfo


def _info(raw: _native.ObjectInfo) -> ObjectInfo:
    return ObjectInfo(raw.size_bytes, raw.version, raw.created_ns, raw.checksum)


class Storage(Object):
    """The user's objects; opened by `Instance.storage`.

    Names look like paths: 1 to 199 bytes, components separated by single '/', none empty, "." or
    "..", no control characters. A put replaces the object at one moment, and when it returns the
    object survives a crash of the machine. Every byte that a get gives was verified.

    Every call blocks until it is answered, at most `timeout_s`, also when a signal comes. Calls of
    several threads over one Storage take turns; open one for each to have several under way. When
    storage dies during a call, the call is made again by itself, and what it changes is changed
    once. All raise `TimedOut` (a put, remove or rename may still be done), `Indeterminate` (of
    those: storage died during the call, and was not back in time to say whether it was done),
    `ServiceDown`, `PeerClosed` (the instance has ended), `InvalidArgument` for a name, `Quota`.
    """

    def put(self, name: str, data: "Buffer",
            timeout_s: float | None = DEFAULT_TIMEOUT_S) -> ObjectInfo:
        """Stores the bytes of any buffer. Raises `NoSpace`, `TooLarge`, `NoMemory`, too."""
        info = _native.ObjectInfo()
        with memory(data) as (address, size):
            check(lib.aios_storage_put(self._native(), text(name, "name"), address, size,
                                       nanoseconds(timeout_s), ctypes.byref(info)))
        return _info(info)

    def get(self, name: str, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> bytearray:
        """The whole object.

        Raises `NotFound`, `Corrupt`, and `SourceChanged` when it was replaced meanwhile.
        """
        info = self.stat(name, timeout_s)
        data = bytearray(info.size_bytes)
        del data[self.get_into(name, data, version=info.version, timeout_s=timeout_s):]
        return data

    def get_into(self, name: str, data: "WritableBuffer", offset: SupportsIndex = 0,
                 version: SupportsIndex = 0, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> int:
        """Fills `data` from byte `offset` of the object on; how many bytes: fewer at its end.

        `version` 0 means the newest; otherwise `SourceChanged` when the newest is another: so one
        object is read in several pieces. After an error `data` may have been written to.
        """
        filled = ctypes.c_size_t()
        with memory(data, writable=True) as (address, size):
            check(lib.aios_storage_get(
                self._native(), text(name, "name"), unsigned(version, "version"),
                unsigned(offset, "offset"), address, size, nanoseconds(timeout_s),
                ctypes.byref(filled), None))
        return filled.value

    def put_region(self, name: str, region: Region, region_offset: SupportsIndex = 0,
                   length: SupportsIndex | None = None,
                   timeout_s: float | None = DEFAULT_TIMEOUT_S) -> ObjectInfo:
        """Stores a part of a region, without a `length` all that follows, without a copy.

        `SourceChanged`: the region's bytes changed meanwhile.
        """
        info = _native.ObjectInfo()
        check(lib.aios_storage_put_region(
            self._native(), text(name, "name"), region._native(),
            unsigned(region_offset, "region_offset"), _rest(region, region_offset, length),
            nanoseconds(timeout_s), ctypes.byref(info)))
        return _info(info)

    def get_region(self, name: str, region: Region, region_offset: SupportsIndex = 0,
                   length: SupportsIndex | None = None, offset: SupportsIndex = 0,
                   version: SupportsIndex = 0, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> int:
        """As `get_into`, straight from the disk into a part of a region."""
        filled = ctypes.c_uint64()
        check(lib.aios_storage_get_region(
            self._native(), text(name, "name"), unsigned(version, "version"),
            unsigned(offset, "offset"), region._native(),
            unsigned(region_offset, "region_offset"), _rest(region, region_offset, length),
            nanoseconds(timeout_s), ctypes.byref(filled), None))
        return filled.value

    def stat(self, name: str, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> ObjectInfo:
        """Raises `NotFound`."""
        info = _native.ObjectInfo()
        check(lib.aios_storage_stat(self._native(), text(name, "name"), nanoseconds(timeout_s),
                                    ctypes.byref(info)))
        return _info(info)

    def list(self, prefix: str = "",
             timeout_s: float | None = DEFAULT_TIMEOUT_S) -> Iterator[ObjectEntry]:
        """The objects whose name begins with `prefix`, in the order of their names' bytes.

        They are asked for in pages, each within `timeout_s`, as the iteration goes on.
        """
        entries = (_native.ObjectEntry * LIST_PAGE)()
        count, more, after = ctypes.c_size_t(), ctypes.c_int(1), b""
        while more.value:
            check(lib.aios_storage_list(
                self._native(), text(prefix, "prefix"), after, entries, LIST_PAGE,
                nanoseconds(timeout_s), ctypes.byref(count), ctypes.byref(more)))
            page = [ObjectEntry(string(entry.name), _info(entry.info))
                    for entry in entries[:count.value]]
            if not page:
                return
            after = entries[count.value - 1].name
            yield from page

    def remove(self, name: str, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """Raises `NotFound`."""
        check(lib.aios_storage_remove(self._native(), text(name, "name"), nanoseconds(timeout_s)))

    def rename(self, name: str, to: str, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """Replaces `to` if it is there, at one moment. Raises `NotFound`."""
        check(lib.aios_storage_rename(self._native(), text(name, "name"), text(to, "to"),
                                      nanoseconds(timeout_s)))


def _rest(region: Region, offset: SupportsIndex, length: SupportsIndex | None) -> int:
    if length is None:
        return max(region.size_bytes - unsigned(offset, "region_offset"), 0)
    return unsigned(length, "length")
