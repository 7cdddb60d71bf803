"""Waiting in asyncio: calls, requests and completions without blocking the event loop.

    reply = await aios.aio.call(service, opcode, request)

There is no thread behind it: the event loop watches the instance's descriptor, and only while
something waits. The functions here may be cancelled, and combined with asyncio.timeout, gather and
the like. At one time one event loop can wait on an instance: attach once for each loop. What else
blocks in this package blocks in a coroutine, too; asyncio.to_thread is for that.
"""

import asyncio
import ctypes
from typing import TYPE_CHECKING, SupportsIndex

from . import _native, errors
from ._native import MAX_WAIT_ITEMS, Owned, WaitItem, WaitKind, check, lib
from .server import Request, Server
from .service import DEFAULT_TIMEOUT_S, Service
from .tasks import Completion, Tenant
from .waiting import Waitable, fill

if TYPE_CHECKING:
    from ._convert import Buffer


class _Watch:
    """The event loop's watch over one instance, while there are waiters."""

    def __init__(self, instance: Owned, loop: asyncio.AbstractEventLoop):
        self.loop = loop
        self._instance = instance
        self._waiters: dict[asyncio.Future[None], tuple[WaitKind, Owned]] = {}
        self._turn_is_due = False
        fd = ctypes.c_int()
        check(lib.aios_poll_fd(instance, ctypes.byref(fd)))
        self._fd = fd.value
        loop.add_reader(self._fd, self._turn)

    def add(self, kind: WaitKind, owned: Owned) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiters[future] = (kind, owned)
        self._turn_soon()
        return future

    def remove(self, future: "asyncio.Future[None]") -> None:
        """Ends the watch with the last waiter."""
        del self._waiters[future]
        if self._waiters or _watches.get(self._instance.value) is not self:
            return
        del _watches[self._instance.value]
        if not self.loop.is_closed():
            self.loop.remove_reader(self._fd)
        lib.aios_disarm(self._instance)

    def _turn_soon(self) -> None:
        """Once, however many ask: several waiters that come at once are looked at together."""
        if not self._turn_is_due:
            self._turn_is_due = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        """One round of what aios.h says about foreign event loops."""
        self._turn_is_due = False
        if not self._waiters:
            return
        try:
            check(lib.aios_dispatch(self._instance))
            self._look()
            ready = ctypes.c_int()
            if self._pending():
                check(lib.aios_arm(self._instance, ctypes.byref(ready)))
            if ready.value:
                self._turn_soon()
        except errors.Error as error:
            self._fail(error)

    def _pending(self) -> list["asyncio.Future[None]"]:
        return [future for future in self._waiters if not future.done()]

    def _look(self) -> None:
        """Wakes those whose item is ready."""
        pending = self._pending()
        for begin in range(0, len(pending), MAX_WAIT_ITEMS):
            some = pending[begin:begin + MAX_WAIT_ITEMS]
            items = (WaitItem * len(some))()
            for item, future in zip(items, some):
                fill(item, *self._waiters[future])
            code = lib.aios_wait(items, len(some), 0)
            if code not in (errors.Code.OK, errors.Code.TIMED_OUT):
                _native.throw(code)
            for item, future in zip(items, some):
                if item.ready:
                    future.set_result(None)

    def _fail(self, error: errors.Error) -> None:
        """When the instance has ended, so has every call, and who waits for one gets its result."""
        ended = isinstance(error, errors.Unreachable)
        for future in self._pending():
            kind, _ = self._waiters[future]
            if ended and kind is WaitKind.CALL:
                future.set_result(None)
            else:
                future.set_exception(error)


# The watches that are on, by the address of the instance, which they keep.
_watches: dict[int | None, _Watch] = {}


def _watch_of(instance: Owned, loop: asyncio.AbstractEventLoop) -> _Watch:
    watch = _watches.get(instance.value)
    if watch is not None and watch.loop is not loop:
        if not watch.loop.is_closed():
            raise errors.Busy("another event loop waits on this instance; attach once for each")
        watch = None
    if watch is None:
        watch = _watches[instance.value] = _Watch(instance, loop)
    return watch


async def ready(item: Waitable) -> None:
    """Waits until `item` is ready as `aios.wait` means it; for ever if need be."""
    native = item._native()
    watch = _watch_of(native.instance, asyncio.get_running_loop())
    future = watch.add(item._wait_kind, native)
    try:
        await future
    finally:
        watch.remove(future)


async def call(service: Service, opcode: SupportsIndex, request: "Buffer" = b"",
               timeout_s: float | None = DEFAULT_TIMEOUT_S) -> bytes:
    """As `Service.call`. Cancelling it forgets the call, but does not undo it.

    It stays one of the 64 that a server has of a service: see `Service.start`.
    """
    with service.start(opcode, request, timeout_s) as started:
        await ready(started)
        return started.result(0)


async def next_request(server: Server) -> Request:
    """As `Server.next`."""
    while True:
        await ready(server)
        try:
            return server.next(0)
        except errors.TimedOut:
            pass  # another task was faster


async def completions(tenant: Tenant) -> list[Completion]:
    """As `Tenant.completions`: at least one."""
    while True:
        await ready(tenant)
        if some := tenant.completions(0):
            return some
