"""Waiting for several things at once, and how all waiting gives way to signals."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from select import POLLIN
from typing import Any, Protocol, TypeVar, Union

from . import errors
from ._convert import nanoseconds
from ._native import FOREVER, MAX_WAIT_ITEMS, Owned, WaitItem, WaitKind, lib, throw
from ._object import Object

# Python runs signal handlers in its main thread, between two of its instructions; so there
# nothing blocks for longer at a time, and Ctrl-C takes effect within it.
SLICE_NS = 100_000_000


def _slice_ns(remaining_ns: int) -> int:
    if threading.get_ident() != threading.main_thread().ident:
        return remaining_ns
    return min(remaining_ns, SLICE_NS)


def in_slices(attempt: Callable[[int], Any], timeout_s: float | None) -> bool:
    """Repeats `attempt(timeout_ns)`, which answers a code, until it does not time out.

    False: the time has passed. Any other error is raised.
    """
    timeout_ns = nanoseconds(timeout_s)
    end_ns = time.monotonic_ns() + timeout_ns
    while True:
        remaining_ns = timeout_ns
        if timeout_ns != FOREVER:
            remaining_ns = max(end_ns - time.monotonic_ns(), 0)
        slice_ns = _slice_ns(remaining_ns)
        code = attempt(slice_ns)
        if code == errors.Code.OK:
            return True
        if code != errors.Code.TIMED_OUT:
            throw(code)
        if slice_ns == remaining_ns and remaining_ns != FOREVER:
            return False


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Waitable(Object):
    """What `wait` can wait for."""

    _wait_kind: WaitKind


_POINTER_FIELDS = {WaitKind.CALL: "call", WaitKind.SERVICE: "service", WaitKind.SERVER: "server",
                   WaitKind.TENANT: "tenant"}


def fill(item: WaitItem, kind: WaitKind, owned: Owned) -> None:
    """The caller keeps `owned` while the item is in use."""
    item.kind = kind
    setattr(item.what, _POINTER_FIELDS[kind], owned.value)


_Item = TypeVar("_Item", bound=Union[Waitable, HasFileno, int])


def wait(items: Iterable[_Item], timeout_s: float | None = None) -> list[_Item]:
    """Blocks until at least one of 1 to 256 items is ready; those that are, in their order.

    A `Call` is ready when it has ended, a `Service` when the connection that it had is gone, a
    `Server` when there is a request, a `Tenant` when there are completions, and a descriptor, or what has a
    `fileno()`, when it can be read. The list is empty when the time passed first.
    """
    wanted = list(items)
    if not 0 < len(wanted) <= MAX_WAIT_ITEMS:
        raise errors.InvalidArgument(f"wait takes 1 to {MAX_WAIT_ITEMS} items, not {len(wanted)}")
    native = (WaitItem * len(wanted))()
    held: Sequence[Owned | None] = [_fill_any(item, of) for item, of in zip(native, wanted)]
    ready = in_slices(lambda ns: lib.aios_wait(native, len(wanted), ns), timeout_s)
    del held
    return [of for item, of in zip(native, wanted) if item.ready] if ready else []


def _fill_any(item: WaitItem, of: Waitable | HasFileno | int) -> Owned | None:
    if isinstance(of, Waitable):
        owned = of._native()
        fill(item, of._wait_kind, owned)
        return owned
    item.kind = WaitKind.FD
    item.what.fd.fd = of if isinstance(of, int) else of.fileno()
    item.what.fd.events = POLLIN
    return None
