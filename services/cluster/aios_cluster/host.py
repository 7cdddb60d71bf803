"""One attachment to the AIOS of this host: tasks, memory and files lent to them.

What it began ends with its process. It must be made after the last fork. Methods block; one thread uses it
at a time. Every error is an `aios.Error`; `is_host_lost` says which ones are about the host and not about the job.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import IO, Self

import aios
from aios import errors

from . import unpack
from .formats import round_up
from .records import Records
from .splits import Piece, Split, open_unchanged


class HostSilent(errors.Unreachable):
    """The AIOS of this host did not answer a call in time. `TimedOut` is of tasks that exceed their limit: it is
    about the job."""


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except errors.TimedOut as error:
        raise HostSilent(str(error)) from None


def is_host_lost(error: BaseException) -> bool:
    """The AIOS of this host is gone, or one of its servers: the same elsewhere may well succeed."""
    return isinstance(error, (errors.Unreachable, errors.PeerClosed, errors.ServiceDown))


def open_piece(piece: Piece) -> IO[bytes]:
    """The piece's file; of a compressed one what it unpacks to."""
    file = open_unchanged(piece)
    try:
        if not unpack.is_packed(piece.name):
            return file
        unpacked = unpack.unpacked(piece.name, file)
    except BaseException:
        file.close()
        raise
    file.close()
    return unpacked


class Host:
    """`job_name` is the job of AIOS that all of it belongs to; `task_limit_s` ends a task that runs longer (0:
    never)."""

    def __init__(self, socket_path: str | None, job_name: str | None, task_limit_s: float):
        self._limit_s = task_limit_s
        self._tag = 0
        with ExitStack() as undo:
            with _asking():
                self._instance = undo.enter_context(aios.attach(socket_path, job_name=job_name))
                self._tenant = undo.enter_context(self._instance.tenant())
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def run(self, codelet: aios.CodeletId, buffers: Sequence[tuple[aios.BufferId, aios.Mode]],
            arguments: bytes, blocks: int = 1) -> tuple[int, ...]:
        """The task's result words. What it failed with may begin by "@PIECE:OFFSET "."""
        self._tag += 1
        task = aios.Task(self._tag, codelet, buffers, arguments, grid=(blocks, 1, 1),
                         limit_s=self._limit_s)
        with _asking():
            self._tenant.submit(task)
            done = self._tenant.completions()[0]
            if done.ok:
                return done.result
            why = self._tenant.failure(self._tag)
        raise errors.error_of(done.status, why)

    def codelet(self, module: str | bytes, name: str) -> aios.CodeletId:
        """A function of a module, for `run`."""
        with _asking():
            return self._tenant.codelet(module, name)

    def buffer(self, region: aios.Region, access: aios.Access, length: int | None = None) -> aios.BufferId:
        """The region, or what it begins with, for tasks."""
        with _asking():
            return self._tenant.buffer(region, access, 0, length)

    def memory(self, undo: ExitStack, size: int, name: str, access: aios.Access
               ) -> tuple[memoryview, aios.BufferId]:
        """At least so much of it, for tasks, until `undo` ends."""
        region = undo.enter_context(self._instance.create_region(round_up(max(size, 1)), name))
        buffer = self.buffer(region, access)
        undo.callback(self._forget, buffer)
        return region.data, buffer

    def array(self, undo: ExitStack, size: int, name: str, access: aios.Access
              ) -> tuple[memoryview, aios.BufferId]:
        """Exactly so much of it, which is not 0."""
        region = undo.enter_context(self._instance.create_region(round_up(size), name))
        buffer = self.buffer(region, access, size)
        undo.callback(self._forget, buffer)
        return region.data[:size], buffer

    def lend(self, split: Split, undo: ExitStack, cut: Records = Records()) -> aios.BufferId:
        """The split's files, opened, checked to be those that were planned, and lent; with `cut`, pieces that
        begin anywhere are moved to where records do."""
        with ExitStack() as opened:
            files: dict[str, IO[bytes]] = {}
            for piece in split.pieces:
                if piece.path not in files:
                    files[piece.path] = opened.enter_context(open_piece(piece))
            ranges = cut.align_ranges(
                [(files[piece.path], piece.offset, piece.length) for piece in split.pieces])
            with _asking():
                buffer = self._tenant.files(ranges)
        undo.callback(self._forget, buffer)
        return buffer

    def _forget(self, buffer: aios.BufferId) -> None:
        try:
            with _asking():
                self._tenant.release(buffer)
        except aios.Error as error:
            if not is_host_lost(error):
                raise
