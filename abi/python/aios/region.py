"""Shared memory."""

import ctypes
import math
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

from . import errors
from ._convert import text, unsigned
from ._native import Access, Owned, check, lib
from ._object import Object

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class Region(Object):
    """Shared memory, mapped here; `Instance.create_region` makes it, zero.

    `data` is its buffer, for all that takes one, and `array` a NumPy array over it.

    It is the same memory for everybody who was granted it: what one writes the others read, at any
    moment, unless the region is frozen. Copy what has to be checked, then check the copy.

    Memory views and arrays over a region keep it mapped: `close` only gives up this object, and the
    memory goes with the last of them. They stay good in a forked child, too.
    """

    def __init__(self, owned: Owned):
        super().__init__(owned)
        self._lock = threading.RLock()
        # What every view of the memory refers to, while there are any.
        self._exported: weakref.ref[ctypes.Array[ctypes.c_ubyte]] | None = None

    @property
    def size_bytes(self) -> int:
        return int(lib.aios_region_size(self._native()))

    def __len__(self) -> int:
        return self.size_bytes

    @property
    def writable(self) -> bool:
        """Whether this program may write; views of it are read-only otherwise."""
        return bool(lib.aios_region_is_writable(self._native()))

    @property
    def frozen(self) -> bool:
        """Whether nobody can change it any more, whoever froze it."""
        frozen = ctypes.c_int()
        check(lib.aios_region_is_frozen(self._native(), ctypes.byref(frozen)))
        return frozen.value != 0

    @property
    def data(self) -> memoryview:
        """The memory itself, not a copy: slice it, assign to it, give it to what takes buffers."""
        with self._lock:
            owned = self._native()
            memory = self._exported() if self._exported is not None else None
            if memory is None:
                memory = (ctypes.c_ubyte * self.size_bytes).from_address(
                    lib.aios_region_data(owned))
                memory.region = owned  # type: ignore[attr-defined]
                self._exported = weakref.ref(memory)
            view = memoryview(memory).cast("B")
            return view if self.writable else view.toreadonly()

    def array(self, dtype: "DTypeLike" = "uint8",
              shape: SupportsIndex | Iterable[SupportsIndex] | None = None,
              offset_bytes: SupportsIndex = 0) -> "NDArray[Any]":
        """A NumPy array over the memory from byte `offset_bytes` on, without a copy.

        Without a `shape` it has one dimension and as many items as fit. An array supports DLPack;
        so does this one. Needs NumPy.
        """
        import numpy

        offset = unsigned(offset_bytes, "offset_bytes", self.size_bytes)
        kind = numpy.dtype(dtype)
        if shape is None:
            count = (self.size_bytes - offset) // max(kind.itemsize, 1)
            return numpy.frombuffer(self.data, kind, count, offset)
        given = shape if isinstance(shape, Iterable) else [shape]
        sizes = [unsigned(size, "a size of the shape") for size in given]
        count = unsigned(math.prod(sizes), "the number of items", self.size_bytes)
        # Unlike an ndarray over a buffer, this one cannot be made writable where the memory is not.
        return numpy.frombuffer(self.data, kind, count, offset).reshape(sizes)

    def freeze(self) -> None:
        """Makes it immutable, for everybody and for ever; it was created `freezable`.

        `Busy` while somebody can write to it: a peer, or this program by a view or array that was
        taken from it before; delete those first. `Denied` where it is read-only, or when a peer
        made it unfreezable; `NotSupported` when it was not created for it.
        """
        with self._lock:
            if self.writable and self._exported is not None and self._exported() is not None:
                raise errors.Busy("writable views or arrays of this region are still there; "
                                  "delete them, then freeze it")
            check(lib.aios_region_freeze(self._native()))

    def keep(self, label: str, access: Access = Access.READ) -> None:
        """Leaves it in the job under `label`, for programs that attach to the same job afterwards.

        They find it by `Instance.open_region`, with at most `access`, also when this program has
        ended, until `Instance.forget`, or until no program is left in the job. A label has 1 to 31
        letters, digits, '.', '_' and '-'.
        """
        check(lib.aios_region_keep(self._native(), text(label, "label"), Access(access)))
