"""Answering calls."""

import ctypes
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, SupportsIndex

from . import _native, errors, waiting
from ._convert import memory, unsigned
from ._native import Access, Owned, WaitKind, check, lib
from .region import Region

if TYPE_CHECKING:
    from ._convert import Buffer


@dataclass(frozen=True, slots=True)
class Peer:
    """Who made a call, as the kernel knows it."""

    process_id: int  # of AIOS, as `aiosctl ps` shows it; not a pid
    job_id: int
    protocol_version: int
    client: int  # the connection: another number for each one that was made
    uid: int


def _refuse(request: Owned) -> None:
    lib.aios_request_fail(request, errors.Code.CANCELLED, b"the server did not answer")


class Request:
    """A call that somebody makes of this program: answer it by `reply` or `fail`, once.

    That may happen at any later time, in any order, and from any thread. At the end of a `with`
    block an exception is the answer: an `Error` with its code, any other as `Internal`. One that
    is given up unanswered has failed with `Cancelled`.
    """

    def __init__(self, owned: Owned):
        self._lock = threading.Lock()
        self._owned: Owned | None = owned
        size = ctypes.c_size_t()
        address = lib.aios_request_data(owned, ctypes.byref(size))
        peer = _native.Peer()
        check(lib.aios_request_peer(owned, ctypes.byref(peer)))
        self.opcode: int = lib.aios_request_opcode(owned)
        # What the client sent: check its length, then what it says.
        self.data: bytes = ctypes.string_at(address, size.value) if size.value else b""
        self.peer = Peer(peer.process_id, peer.job_id, peer.protocol_version, peer.client, peer.uid)

    @property
    def answered(self) -> bool:
        return self._owned is None

    def region(self, handle: SupportsIndex, access: Access = Access.READ) -> Region:
        """The region that the client granted and that its request names by the number `handle`."""
        with self._lock:
            native = self._native()
            region = Owned(lib.aios_region_close, native.instance)
            check(lib.aios_request_region(native, unsigned(handle, "handle"), Access(access),
                                          ctypes.byref(region)))
        return Region(region)

    def grant(self, region: Region, access: Access = Access.READ) -> int:
        """Gives the client the region; its number there, to be named in the reply."""
        handle = ctypes.c_uint64()
        with self._lock:
            check(lib.aios_request_grant(self._native(), region._native(), Access(access),
                                         ctypes.byref(handle)))
        return handle.value

    def reply(self, data: "Buffer" = b"") -> None:
        """Answers, without blocking; at most 432 bytes, more goes into a region.

        `TooLarge` beyond that, and then the client gets an error, too. `PeerClosed`: nobody waits
        for the answer any more.
        """
        with memory(data) as (address, size), self._lock:
            native = self._native()
            pointer = ctypes.c_void_p(native.value)
            # It is freed, so nobody else may. No signal may come in between: Python looks for
            # those at calls, and there is none.
            self._owned = native.value = None
            code = lib.aios_request_reply(pointer, address, size)
            check(code)

    def fail(self, code: int, text: str) -> None:
        """Answers with an error, an `errors.Code`, which the client's call raises.

        Of the text, 432 bytes reach the client.
        """
        if code == errors.Code.OK:
            raise errors.InvalidArgument("OK is no error")
        why = text.replace("\0", "").encode("utf-8", "replace")
        with self._lock:
            native = self._native()
            pointer = ctypes.c_void_p(native.value)
            self._owned = native.value = None  # as in `reply`
            answered = lib.aios_request_fail(pointer, code, why)
            check(answered)

    def _native(self) -> Owned:
        if self._owned is None:
            raise errors.BadHandle("this request is answered")
        return self._owned

    def __enter__(self) -> "Request":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.answered or error is None:
            with self._lock:
                self._owned = None
            return
        code = error.code if isinstance(error, errors.Error) else errors.Code.INTERNAL
        try:
            self.fail(code, f"{type(error).__name__}: {error}")
        except errors.PeerClosed:
            pass  # whoever asked is gone, and the exception in the block says more

    def __repr__(self) -> str:
        state = "answered" if self.answered else f"opcode {self.opcode}, {len(self.data)} bytes"
        return f"<aios.Request {state}>"


class Server(waiting.Waitable):
    """Serves other programs under a label of the job; made by `Instance.serve`.

    Programs that attach to the same job afterwards reach it by `Instance.connect`. There is no
    thread and no callback: ask for the next request, answer it, ask again. Closing it ends the
    clients' connections and gives the label up; a program that just ends leaves the label, with
    its clients, to its successor.
    """

    _wait_kind = WaitKind.SERVER

    def next(self, timeout_s: float | None = None) -> Request:
        """The oldest request that was not taken yet; blocks until there is one, or `TimedOut`.

        Opcode 0 is the null call of every protocol and is answered inside. At most 64 requests of
        one client are under way at once.
        """
        native = self._native()
        # It outlives the server, and needs the attachment only.
        request = Owned(_refuse, native.instance)
        if not waiting.in_slices(
                lambda ns: lib.aios_server_next(native, ns, ctypes.byref(request)), timeout_s):
            raise errors.TimedOut("no request came in time")
        return Request(request)

    def __iter__(self) -> Iterator[Request]:
        """Every request that comes, for ever."""
        while True:
            yield self.next()
