"""Tasks: codelets that run on the instance's devices over buffers in shared memory."""

import ctypes
import operator
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NewType, SupportsIndex

from . import _native, errors, waiting
from ._convert import memory, nanoseconds, string, text, unsigned
from ._native import Access, Mode, WaitKind, check, lib
from ._object import Object
from .region import Region
from .service import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from ._convert import Buffer

MAX_U32 = 2**32 - 1
MAX_COMPLETIONS = 1024
FAILURE_BYTES = 512

CodeletId = NewType("CodeletId", int)
BufferId = NewType("BufferId", int)


@dataclass(slots=True)
class Task:
    """A task to be submitted."""

    tag: int  # the caller's name for it, unique among its unfinished tasks
    codelet: CodeletId
    buffers: Sequence[tuple[BufferId, Mode]] = ()  # at most 16
    arguments: "Buffer" = b""  # at most 64 bytes, which the codelet sees
    grid: Sequence[int] = (1, 1, 1)  # blocks in each direction, their product at most 2^24
    after: Sequence[int] = ()  # tags of at most 12 tasks, submitted before, to be done first
    priority: int = 0  # higher first; equal ones in order of submission
    limit_s: float = 0.0  # run time, after which it is ended; 0: none
    idempotent: bool = True  # may run again after the process that ran it died
    device: int | None = None  # the index of one of `Tenant.devices`; None: any
    deadline_ns: int = 0  # when it should be done, by time.monotonic_ns(); 0: no matter
    # In a graph with a deadline that is not accepted otherwise, see `Tenant.set_cheaper`.
    may_be_cheaper: bool = False
    # Number and size of its gang: the caller's number for 2 to 256 tasks that start together.
    gang: tuple[int, int] | None = None

    def _fill(self, record: _native.TaskRecord) -> None:
        reference = ctypes.byref(record)
        check(lib.aios_task_init(reference, unsigned(self.tag, "tag"),
                                 unsigned(self.codelet, "codelet", MAX_U32)))
        for buffer, mode in self.buffers:
            check(lib.aios_task_add_buffer(reference, unsigned(buffer, "buffer", MAX_U32),
                                           Mode(mode)))
        for tag in self.after:
            check(lib.aios_task_add_dependency(reference, unsigned(tag, "tag")))
        with memory(self.arguments) as (address, size):
            check(lib.aios_task_set_arguments(reference, address, size))
        if not 1 <= len(self.grid) <= len(record.grid):
            raise errors.InvalidArgument(f"a grid has one to three directions: {self.grid}")
        for direction, blocks in enumerate(self.grid):
            record.grid[direction] = unsigned(blocks, "grid", MAX_U32)
        priority = operator.index(self.priority)
        if not -2**31 <= priority < 2**31:
            raise errors.InvalidArgument(f"priority is {priority}; it has 32 bits")
        record.priority = priority
        record.limit_ns = nanoseconds(self.limit_s)
        if self.device is not None:
            record.device = unsigned(self.device, "device", MAX_U32 - 1) + 1
        record.flags = ((_native.TASK_IDEMPOTENT if self.idempotent else 0)
                        | (_native.TASK_MAY_BE_CHEAPER if self.may_be_cheaper else 0))
        record.deadline_ns = unsigned(self.deadline_ns, "deadline_ns")
        if self.gang is not None:
            number, size = self.gang
            check(lib.aios_task_set_gang(reference, unsigned(number, "gang", MAX_U32),
                                         unsigned(size, "gang", MAX_U32)))


@dataclass(frozen=True, slots=True)
class Device:
    """What tasks run on."""

    index: int
    kind: str  # "cpu", "gpu" or "xla"
    backend: str  # "cpu", "cuda", "opencl" or "pjrt"
    name: str  # as the machine names it
    uuid: str  # the same after every start
    memory_bytes: int
    threads: int  # tasks of one job that run at once
    healthy: bool  # False: it is gone, or its driver is away
    emulated: bool  # a double of a device, for tests


def _device(raw: _native.Device) -> Device:
    return Device(raw.index, string(raw.kind), string(raw.backend), string(raw.name),
                  string(raw.uuid), raw.memory_bytes, raw.threads, bool(raw.healthy),
                  bool(raw.emulated))


@dataclass(frozen=True, slots=True)
class Completion:
    """A task that has ended."""

    tag: int
    status: int  # an `errors.Code`; INDETERMINATE: it may have run, and nobody can know
    attempts: int  # since the scheduler last died
    start_ns: int  # CLOCK_MONOTONIC, on the device
    end_ns: int
    peak_memory_bytes: int
    result: tuple[int, ...] = field(default=(0, 0, 0, 0))  # what the codelet wrote to its `result`

    @property
    def ok(self) -> bool:
        return self.status == errors.Code.OK


@dataclass(frozen=True, slots=True)
class Prediction:
    """When a graph with a deadline will be done."""

    finish_ns: int  # by time.monotonic_ns(); 0: the scheduler's policy predicts nothing
    finish_p95_ns: int  # later only once in 20
    tasks: int
    unknown: int  # of them never one has run, or their like: they are not in the prediction
    promised: bool  # False: it was accepted without a promise
    cheaper_tasks: int = 0  # accepted: of them run in a cheaper variant, all that permit it


@dataclass(frozen=True, slots=True)
class Offer:
    """What would have had a graph that was refused done in time.

    Times are those by which it would be done at least 19 times in 20, by time.monotonic_ns().
    """

    cheaper_p95_ns: int | None  # if all its tasks might run in cheaper variants; None: too late
    anywhere_p95_ns: int | None  # if none named a device
    cheaper_tasks: int  # that have a cheaper variant


def _completion(raw: _native.Completion) -> Completion:
    return Completion(raw.tag, errors.code_of(raw.status), raw.attempts, raw.start_ns, raw.end_ns,
                      raw.peak_memory_bytes, tuple(raw.result))


class Tenant(waiting.Waitable):
    """The job at the scheduler, opened by `Instance.tenant`.

    Everything registered belongs to it, and its tasks run in processes of the job's own: a codelet
    that crashes takes none of this program with it. Modules are written with <aios/codelet.h> or
    <aios/kernel.h>. Several threads may use one tenant at once. Closing it cancels what is pending.

    It survives the scheduler, which is started again when it dies: what is registered stays, and
    unfinished tasks run again when they can. Those that are not idempotent end as INDETERMINATE (they
    may have run), and so do those of which a later one, which may have run, overwrites what they
    read; what depends on such a task ends as CANCELLED. Calls meanwhile wait until their timeout.
    When the scheduler is not back in 30 s every call raises `PeerClosed`, in quarantine
    `ServiceDown`: open another tenant then. All calls raise `TimedOut` (it may still be done) and
    `Quota`.
    """

    _wait_kind = WaitKind.TENANT

    def devices(self, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> list[Device]:
        """Those that are known by now, by index."""
        found: list[Device] = []
        raw = _native.Device()
        while True:
            code = lib.aios_tenant_device(self._native(), len(found), nanoseconds(timeout_s),
                                          ctypes.byref(raw))
            if code == errors.Code.NOT_FOUND:
                return found
            check(code)
            found.append(_device(raw))

    def codelet(self, module: "str | os.PathLike[str] | Buffer", function: str,
                timeout_s: float | None = DEFAULT_TIMEOUT_S) -> CodeletId:
        """Registers the codelet `function` of a module: of its file, or of its bytes.

        The module is loaded when the first task needs it; one that cannot be loaded fails that
        task with the reason.
        """
        codelet = ctypes.c_uint32()
        native, name = self._native(), text(function, "function")
        if isinstance(module, (str, os.PathLike)):
            path = text(os.fspath(module), "module")
            check(lib.aios_codelet_register_file(native, path, name, nanoseconds(timeout_s),
                                                 ctypes.byref(codelet)))
        else:
            with memory(module) as (address, size):
                check(lib.aios_codelet_register(native, address, size, name,
                                                nanoseconds(timeout_s), ctypes.byref(codelet)))
        return CodeletId(codelet.value)

    def set_cheaper(self, codelet: CodeletId, cheaper: CodeletId,
                    timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """`cheaper` does what `codelet` does, with the same buffers, sooner and not as well.

        Tasks of graphs with a deadline that permit it run so when the graph would be too late
        otherwise. `InvalidArgument`: it does not run on every kind of device that `codelet` runs on.
        """
        check(lib.aios_codelet_set_cheaper(
            self._native(), unsigned(codelet, "codelet", MAX_U32),
            unsigned(cheaper, "cheaper", MAX_U32), nanoseconds(timeout_s)))

    def buffer(self, region: Region, access: Access, offset: SupportsIndex = 0,
               length: SupportsIndex | None = None,
               timeout_s: float | None = DEFAULT_TIMEOUT_S) -> BufferId:
        """Registers memory of a region, without a `length` all that follows.

        `access` says what tasks may do with it. The region lives on until the buffer is released.
        """
        if length is None:
            length = max(region.size_bytes - unsigned(offset, "offset"), 0)
        buffer = ctypes.c_uint32()
        check(lib.aios_buffer_register(
            self._native(), region._native(), unsigned(offset, "offset"),
            unsigned(length, "length"), Access(access), nanoseconds(timeout_s),
            ctypes.byref(buffer)))
        return BufferId(buffer.value)

    def files(self, ranges: Sequence[tuple[waiting.HasFileno | int, SupportsIndex, SupportsIndex]],
              timeout_s: float | None = DEFAULT_TIMEOUT_S) -> BufferId:
        """Registers parts of files, each (open file, offset, length), as one buffer.

        Tasks read it in place, with pread. The files are regular ones, opened for reading alone,
        and may be closed afterwards. At most 128; `Quota`: too many files are lent at once.
        """
        raw = (_native.FileRange * len(ranges))()
        for one, (file, offset, length) in zip(raw, ranges):
            one.fd = file if isinstance(file, int) else file.fileno()
            one.offset, one.length = unsigned(offset, "offset"), unsigned(length, "length")
        buffer = ctypes.c_uint32()
        check(lib.aios_files_register(self._native(), raw, len(ranges), nanoseconds(timeout_s),
                                      ctypes.byref(buffer)))
        return BufferId(buffer.value)

    def release(self, buffer: BufferId, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """Forgets a buffer. `Busy`: a task that is not finished names it."""
        check(lib.aios_buffer_release(self._native(), unsigned(buffer, "buffer", MAX_U32),
                                      nanoseconds(timeout_s)))

    def submit(self, tasks: Task | Iterable[Task],
               timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """Submits 1 to 1,024 tasks, all or none.

        `InvalidArgument` names the record; `AlreadyExists`: a tag is in use; `Quota`: over 65,536
        tasks are pending or their completions not fetched.
        """
        batch = [tasks] if isinstance(tasks, Task) else list(tasks)
        records = (_native.TaskRecord * len(batch))()
        for record, task in zip(records, batch):
            task._fill(record)
        check(lib.aios_tasks_submit(self._native(), records, len(batch), nanoseconds(timeout_s)))

    def completions(self, timeout_s: float | None = None,
                    at_most: int = MAX_COMPLETIONS, at_least: int = 1) -> list[Completion]:
        """Finished tasks, each once: blocks until there is one, then gives those at hand.

        The list is empty when the time passed first. Who wants to be woken seldom asks for
        `at_least` so many; it is given fewer when there will be no more, when the time has passed,
        and in the main thread a tenth of a second after the first.
        """
        room = unsigned(at_most, "at_most", MAX_COMPLETIONS)
        least = unsigned(at_least, "at_least", room)
        native, count = self._native(), ctypes.c_size_t()
        some = (_native.Completion * room)()
        if not waiting.in_slices(lambda ns: lib.aios_tenant_completions_of(
                native, some, room, least, ns, ctypes.byref(count)), timeout_s):
            return []
        return [_completion(one) for one in some[:count.value]]

    def failure(self, tag: SupportsIndex, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> str:
        """Why a finished task failed. `NotFound`: it did not, or that is no longer known.

        The last 256 failures are remembered, but not over the scheduler's death.
        """
        why = ctypes.create_string_buffer(FAILURE_BYTES)
        check(lib.aios_task_failure(self._native(), unsigned(tag, "tag"), why, FAILURE_BYTES,
                                    nanoseconds(timeout_s)))
        return string(why.value)

    def cancel(self, tag: SupportsIndex, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """Cancels a pending task; its completion says CANCELLED. `Busy`: it runs; `NotFound`."""
        check(lib.aios_task_cancel(self._native(), unsigned(tag, "tag"), nanoseconds(timeout_s)))

    def submit_many(self, tasks: Iterable[Task],
                    timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """Submits any number of tasks, and waits while too many are pending.

        What it raises says as `taken` how many of them, the first ones, are submitted all the same.
        """
        batch = list(tasks)
        records = (_native.TaskRecord * len(batch))()
        for record, task in zip(records, batch):
            task._fill(record)
        taken = ctypes.c_size_t()
        try:
            check(lib.aios_tasks_submit_many(self._native(), records, len(batch),
                                             nanoseconds(timeout_s), ctypes.byref(taken)))
        except errors.Error as error:
            error.taken = taken.value
            raise

    def cancel_all(self, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> int:
        """Cancels everything that is pending; returns how many tasks that were."""
        cancelled = ctypes.c_size_t()
        check(lib.aios_tasks_cancel(self._native(), 0, 2**64 - 1, nanoseconds(timeout_s),
                                    ctypes.byref(cancelled), None))
        return cancelled.value

    def graph(self) -> "Graph":
        """A graph of tasks, empty."""
        native = self._native()
        graph = _native.Owned(lib.aios_graph_free, native)
        check(lib.aios_graph_create(native, ctypes.byref(graph)))
        return Graph(graph)


def _numbers(ids: Sequence[SupportsIndex], what: str) -> "ctypes.Array[ctypes.c_uint32]":
    return (ctypes.c_uint32 * len(ids))(*(unsigned(one, what, MAX_U32) for one in ids))


class Graph(Object):
    """Tasks whose dependencies follow from what they do to buffers, made by `Tenant.graph`.

    They end as if they had run one after the other in the order in which they were added; those
    that only read a buffer may run at the same time. A task's `tag` and `after` are not used here.
    One thread at a time.
    """

    def add(self, task: Task) -> int:
        """The task's number, for `edge` and `completion`.

        `InvalidArgument`: it uses a buffer in two ways that contradict each other.
        """
        record, number = _native.TaskRecord(), ctypes.c_uint32()
        task._fill(record)
        check(lib.aios_graph_add(self._native(), ctypes.byref(record), ctypes.byref(number)))
        return number.value

    def edge(self, before: SupportsIndex, after: SupportsIndex) -> None:
        """`after` starts when `before` is done, whatever their buffers."""
        check(lib.aios_graph_add_edge(self._native(), unsigned(before, "before", MAX_U32),
                                      unsigned(after, "after", MAX_U32)))

    def gang(self, tasks: Sequence[SupportsIndex]) -> None:
        """These tasks start together, each with a thread of a device for itself, or not at all.

        When one ends without success those that do not run are cancelled. `InvalidArgument`: they
        are not 2 to 256 different ones, or one is of a gang. `submit` raises `NotSupported` when
        the devices that they may run on have fewer threads in all, `NoMemory` when their memories
        do not hold the data of all at the same time.
        """
        numbers = _numbers(tasks, "a task")
        check(lib.aios_graph_gang(self._native(), numbers, len(tasks)))

    def reduction(self, buffer: BufferId, partials: Sequence[BufferId], initialise: CodeletId,
                  combine: CodeletId) -> None:
        """From now on tasks that use `buffer` with `Mode.REDUX` are given one of `partials`.

        `initialise` writes the zero of the reduction to its buffer, `combine` adds its second
        buffer to its first; both run where they are needed.
        """
        numbers = _numbers(partials, "a partial")
        check(lib.aios_graph_set_reduction(
            self._native(), unsigned(buffer, "buffer", MAX_U32), numbers, len(partials),
            unsigned(initialise, "initialise", MAX_U32), unsigned(combine, "combine", MAX_U32)))

    def deadline(self, deadline_ns: SupportsIndex) -> None:
        """All of it is to be done by then, of time.monotonic_ns(); 0: no matter.

        Its tasks go before those without a deadline. At most 32,768 tasks.
        """
        check(lib.aios_graph_set_deadline(self._native(), unsigned(deadline_ns, "deadline_ns")))

    def submit(self, timeout_s: float | None = None) -> None:
        """Submits it, once, however large, waiting while too many tasks are pending.

        With a deadline none of its tasks starts before the scheduler has accepted the graph.
        `TooLate`: it would not be done in time, and the text says when; nothing of it was begun,
        and it may be submitted again with another deadline. `Indeterminate`: the scheduler died
        before it said whether it accepts it; tasks of it may have begun, none goes on, and it may
        be submitted again. `InvalidArgument`: tasks wait for one another in a circle, or the
        deadline has passed.
        """
        check(lib.aios_graph_submit(self._native(), nanoseconds(timeout_s)))

    def predicted(self) -> Prediction:
        """What the scheduler predicted when it was last submitted, accepted or not.

        `NotFound`: it has no deadline, or was not submitted.
        """
        raw = _native.Prediction()
        check(lib.aios_graph_predicted(self._native(), ctypes.byref(raw)))
        return Prediction(raw.finish_ns, raw.finish_p95_ns, raw.tasks, raw.unknown,
                          bool(raw.promised), raw.cheaper_tasks)

    def permit_cheaper(self, permitted: bool = True) -> None:
        """Its tasks may run in the cheaper variants of their codelets (`Tenant.set_cheaper`).

        They do when the graph would be too late otherwise.
        """
        check(lib.aios_graph_permit_cheaper(self._native(), int(permitted)))

    def offered(self) -> Offer | None:
        """Of a graph that was refused: what would have had it done in time; None: nothing."""
        raw = _native.Offer()
        code = lib.aios_graph_offered(self._native(), ctypes.byref(raw))
        if code == errors.Code.NOT_FOUND:
            return None
        check(code)
        return Offer(raw.cheaper_p95_ns or None, raw.anywhere_p95_ns or None, raw.cheaper_tasks)

    def wait(self, timeout_s: float | None = None) -> int:
        """Until all its tasks have ended; returns how many failed. `TimedOut`."""
        native, failed = self._native(), ctypes.c_size_t()
        if not waiting.in_slices(
                lambda ns: lib.aios_graph_wait(native, ns, ctypes.byref(failed)), timeout_s):
            raise errors.TimedOut("the graph has not ended")
        return failed.value

    def completion(self, number: SupportsIndex) -> Completion:
        """How the task ended. `Busy`: it has not."""
        raw = _native.Completion()
        check(lib.aios_graph_completion(self._native(), unsigned(number, "number", MAX_U32),
                                        ctypes.byref(raw)))
        return _completion(raw)

    def cancel(self, timeout_s: float | None = DEFAULT_TIMEOUT_S) -> None:
        """Cancels what is pending of it; what runs ends by itself."""
        check(lib.aios_graph_cancel(self._native(), nanoseconds(timeout_s)))
