"""Calling servers."""

import ctypes
from typing import TYPE_CHECKING, SupportsIndex

from . import errors, waiting
from ._convert import memory, nanoseconds, unsigned
from ._native import Access, Owned, WaitItem, WaitKind, check, lib
from .region import Region

if TYPE_CHECKING:
    from ._convert import Buffer

DEFAULT_TIMEOUT_S = 30.0
MAX_U16 = 2**16 - 1


class Call(waiting.Waitable):
    """A call under way; closing it forgets it, but does not undo it."""

    _wait_kind = WaitKind.CALL

    @property
    def done(self) -> bool:
        """Whether `result` would not block."""
        done = ctypes.c_int()
        check(lib.aios_call_is_done(self._native(), ctypes.byref(done)))
        return done.value != 0

    def result(self, timeout_s: float | None = None) -> bytes:
        """Waits for the end; the reply, any number of times, or the error that the call ended with.

        A call ends by itself when its own timeout passes. `TimedOut` after `timeout_s`, too: then
        it is still under way.
        """
        native = self._native()
        if not self._wait(native, timeout_s):
            raise errors.TimedOut("the call is still under way")
        size = ctypes.c_size_t()
        check(lib.aios_call_reply_bytes(native, ctypes.byref(size)))
        reply = ctypes.create_string_buffer(size.value)
        check(lib.aios_call_result(native, reply, size))
        return reply.raw

    @staticmethod
    def _wait(native: Owned, timeout_s: float | None) -> bool:
        item = WaitItem()
        waiting.fill(item, WaitKind.CALL, native)
        return waiting.in_slices(lambda ns: lib.aios_wait(ctypes.byref(item), 1, ns), timeout_s)


class Service(waiting.Waitable):
    """A connection to a server, made by `Instance.connect`.

    It connects at its first call, and again after the server died. Any number of threads may call
    over it at once. Calls that are under way when it is closed come to their end first.
    """

    _wait_kind = WaitKind.SERVICE

    def start(self, opcode: SupportsIndex, request: "Buffer" = b"",
              timeout_s: float | None = DEFAULT_TIMEOUT_S) -> Call:
        """Calls a method without waiting for it; the call ends after `timeout_s` at the latest.

        A server need not have more than 64 calls of a service under way; those that have timed
        out or were closed count until it answers them. So calls that wait long, as for an event, have a
        service of their own.

        `request` has at most 440 bytes, as the protocol of the service defines them: of `struct`,
        of a ctypes.Structure, of an array. More goes into a region.
        """
        native = self._native()
        call = Owned(lib.aios_call_free, native)
        with memory(request) as (address, size):
            check(lib.aios_call_start(native, unsigned(opcode, "opcode", MAX_U16), address, size,
                                      nanoseconds(timeout_s), ctypes.byref(call)))
        return Call(call)

    def call(self, opcode: SupportsIndex, request: "Buffer" = b"",
             timeout_s: float | None = DEFAULT_TIMEOUT_S) -> bytes:
        """Calls a method and waits for its reply.

        Raises what the server answered; `PeerClosed`: it died during the call; `TimedOut`: it may
        still be done; `ServiceDown`; `Quota`: over 4,096 calls wait.
        """
        with self.start(opcode, request, timeout_s) as call:
            return call.result()

    def grant(self, region: Region, access: Access = Access.READ,
              timeout_s: float | None = DEFAULT_TIMEOUT_S) -> int:
        """Gives the server the region, with which it may map it and pass it on.

        Its number there, to be named in any number of requests over the present connection. A
        region is granted once: `Quota` when programs of this user have 2,048 grants at the server.
        """
        native, shared, handle = self._native(), region._native(), ctypes.c_uint64()
        if not waiting.in_slices(
                lambda ns: lib.aios_grant(native, shared, Access(access), ns,
                                          ctypes.byref(handle)), timeout_s):
            raise errors.TimedOut("the server did not accept a connection in time")
        return handle.value

    def receive(self, handle: SupportsIndex, access: Access = Access.READ) -> Region:
        """The region that the server granted and named in a reply by the number `handle`."""
        native = self._native()
        region = Owned(lib.aios_region_close, native.instance)
        check(lib.aios_region_receive(native, unsigned(handle, "handle"), Access(access),
                                      ctypes.byref(region)))
        return Region(region)
