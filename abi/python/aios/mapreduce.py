"""MapReduce jobs: a module over input files, into an output folder."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from . import _native, errors
from ._convert import NS_PER_S, nanoseconds, string, text, unsigned
from ._native import Owned, Phase, check, lib
from .waiting import HasFileno

MAX_U32 = 2**32 - 1
PACKED_FORMAT_BYTES = 4096  # room enough
Path = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    phase: Phase
    input_bytes: int
    mapped_bytes: int  # of the input; fetching and unpacking: of what is copied or unpacked
    merge_bytes: int  # of sorted runs, known when the reduce phase begins
    merged_bytes: int
    records: int  # read by map
    distinct_keys: int  # written
    tasks: int
    attempts: int  # of those tasks
    spilled_bytes: int
    skipped_records: int  # not among the records


@dataclass(frozen=True, slots=True)
class Result:
    """What a job came to."""

    progress: Progress  # at the end
    input_files: int
    output_bytes: int
    elapsed_s: float  # from the call to the committed output
    counters: dict[str, int]  # those that the module declares


@dataclass(frozen=True, slots=True)
class Stage:
    """A job of a chain: it reads what the one before it wrote."""

    module: Path
    arguments: Sequence[str] = ()
    label: str = "job"


# Sees the progress; False cancels the job, and so does an exception.
OnProgress = Callable[[Progress], object]


def _progress(raw: _native.MapreduceProgress) -> Progress:
    return Progress(Phase(raw.phase), raw.input_bytes, raw.mapped_bytes, raw.merge_bytes,
                    raw.merged_bytes, raw.records, raw.distinct_keys, raw.tasks, raw.attempts,
                    raw.spilled_bytes, raw.skipped_records)


Handler = Callable[[int, FrameType | None], Any]


class _Signals:
    """While a job runs in the main thread, signals leave a note, and `deliver` runs their handlers.

    Python would run them at the beginning of the callback that the library calls, where what they
    raise is lost; KeyboardInterrupt is such.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Handler] = {}
        self._noted: list[tuple[int, FrameType | None]] = []

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.append((number, frame))

    def deliver(self) -> None:
        while self._noted:
            number, frame = self._noted.pop(0)
            self._handlers[number](number, frame)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        try:
            with ExitStack() as restore:
                if threading.current_thread() is threading.main_thread():
                    for number in signal.valid_signals():
                        self._hold_back(number, restore)
                yield
        finally:
            self.deliver()

    def _hold_back(self, number: int, restore: ExitStack) -> None:
        handler = signal.getsignal(number)
        if callable(handler):
            self._handlers[number] = handler
            restore.callback(signal.signal, number, handler)
            signal.signal(number, self._note)


class _Watch:
    """The callback of a job."""

    def __init__(self, on_progress: OnProgress | None, signals: _Signals):
        self._on_progress = on_progress
        self._signals = signals
        self.error: BaseException | None = None

    def __call__(self, context: int | None, progress: Any) -> int:
        """Not 0 cancels the job."""
        try:
            self._signals.deliver()
            if self._on_progress is None:
                return 0
            return 1 if self._on_progress(_progress(progress.contents)) is False else 0
        except BaseException as error:
            self.error = error
            return 1


def _strings(values: Sequence[bytes]) -> Any:
    return (ctypes.c_char_p * len(values))(*values)


def _path(path: Path, what: str) -> bytes:
    return text(os.fspath(path), what)


def _stages(then: Sequence[Stage]) -> Any:
    """A pointer to the first of them, each with one to the next."""
    first = None
    for one in reversed(then):
        if isinstance(one.arguments, str):
            raise TypeError("the arguments of a stage are a list")
        stage = _native.MapreduceStage(
            label=text(one.label, "label"), module_path=_path(one.module, "module"),
            arguments=_strings([text(given, "an argument") for given in one.arguments]),
            argument_count=len(one.arguments))
        if first is not None:
            stage.then = first
        first = ctypes.pointer(stage)
    return first


def pack_format(input_format: str, field: str | None = None) -> bytes:
    """These two arguments of `Instance.mapreduce` as modules read them: for engines that carry jobs to
    hosts themselves. `InvalidArgument`, `TooLarge`: naming what is wrong."""
    packed, size = ctypes.create_string_buffer(PACKED_FORMAT_BYTES), ctypes.c_size_t()
    check(lib.aios_mapreduce_pack_format(text(input_format, "input_format"),
                                         None if field is None else text(field, "field"), packed,
                                         len(packed), ctypes.byref(size)))
    return packed.raw[:size.value]


def align(input_format: str, file: HasFileno | int, offsets: Sequence[int]) -> list[int]:
    """Where splits of an open file may begin: each offset moved to where the first record at it, or behind
    it, begins. What tasks find by themselves, lines, stays where it is; CSV is read for that, once if
    the offsets ascend. `IoError`, `SourceChanged`."""
    moved = (ctypes.c_uint64 * len(offsets))(*(unsigned(one, "an offset") for one in offsets))
    check(lib.aios_mapreduce_align(text(input_format, "input_format"),
                                   file if isinstance(file, int) else file.fileno(), moved,
                                   len(offsets)))
    return list(moved)


def run(instance: Owned, module: Path, inputs: Sequence[Path], output: Path,
        arguments: Sequence[str], label: str, reducers: int, threads: int, memory_bytes: int,
        task_limit_s: float, input_format: str, field: str | None, then: Sequence[Stage],
        max_bad_records: int, on_progress: OnProgress | None) -> Result:
    """`Instance.mapreduce`."""
    if isinstance(inputs, (str, os.PathLike)) or isinstance(arguments, str):
        raise TypeError("inputs and arguments are lists")
    options = _native.MapreduceOptions(
        label=text(label, "label"), module_path=_path(module, "module"),
        arguments=_strings([text(one, "an argument") for one in arguments]),
        argument_count=len(arguments), inputs=_strings([_path(one, "an input") for one in inputs]),
        input_count=len(inputs), output=_path(output, "output"),
        reducers=unsigned(reducers, "reducers", MAX_U32),
        threads=unsigned(threads, "threads", MAX_U32),
        memory_bytes=unsigned(memory_bytes, "memory_bytes"),
        task_limit_ns=nanoseconds(task_limit_s), input_format=text(input_format, "input_format"),
        field=None if field is None else text(field, "field"), then=_stages(then),
        max_bad_records=unsigned(max_bad_records, "max_bad_records"))
    result = _native.MapreduceResult()
    signals = _Signals()
    watch = _Watch(on_progress, signals)
    callback = _native.MapreduceCallback(watch)
    with signals.held_back():
        try:
            check(lib.aios_mapreduce_run(instance, ctypes.byref(options), callback, None,
                                         ctypes.byref(result)))
        except errors.Cancelled:
            if watch.error is not None:
                raise watch.error from None
            raise
    return Result(_progress(result.progress), result.input_files, result.output_bytes,
                  result.elapsed_ns / NS_PER_S,
                  {string(one.name): one.value for one in result.counters[:result.counter_count]})
