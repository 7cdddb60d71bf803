"""What every engine knows of a job, and what one map or reduce of it is on a host.

An engine's adapter carries a `Job` to its workers and blocks between them; `spark.py` is one. A
worker process keeps its node for the next task of the same job.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import aios
from aios import errors

from . import images, streaming, unpack
from .host import Host, HostSilent, is_host_lost, open_piece
from .kmeans import KMeansHost
from .node import Node, ReduceOutput
from .output import Part, PartWriter
from .records import Records
from .splits import Piece, Split
from .streaming import Programs

ATTEMPTS_ON_A_HOST = 4
FIRST_PAUSE_S = 0.25

_T = TypeVar("_T")
_H = TypeVar("_H", bound=Host)


@dataclass(frozen=True)
class Job:
    """All that a worker needs beside its split or blocks. Travels pickled."""

    name: str  # the engine's name for the application: at most 31 letters, digits, '.', '_', '-'
    module: bytes
    arguments: tuple[str, ...]
    partitions: int
    output: str
    memory_bytes: int
    task_limit_s: float
    boundaries: bytes = b""
    names: bytes = b""  # of the input's files
    max_bad_records: int = 0
    programs: Programs | None = None  # Streaming's, whose lines the module sorts
    records: Records = Records()  # what the input's are
    device_job: str = ""  # the one that the module is for, if it is for one
    is_last: bool = True  # of a chain: its parts are the output


@dataclass(frozen=True)
class Failed:
    """The job itself is wrong: the same would happen on every host, so nobody tries again."""

    code: int
    text: str

    def error(self) -> aios.Error:
        return errors.error_of(self.code, self.text)


def sound(results: Iterable[_T | Failed]) -> list[_T]:
    """What hosts found out; what one of them says is wrong with the job is raised."""
    found: list[_T] = []
    for one in results:
        if isinstance(one, Failed):
            raise one.error()
        found.append(one)
    return found


@dataclass(frozen=True)
class Reduced:
    part: Part
    facts: ReduceOutput
    blocks: int
    block_bytes: int


# Anything else may be due to the host: a file not there, no memory, a full disk, a lost server.
FAULT_OF_THE_JOB = (errors.InvalidArgument, errors.Crashed, errors.SourceChanged, errors.TimedOut,
                    errors.VersionMismatch)

_kept: tuple[int, Job, Host] | None = None  # of this process


def close_node() -> None:
    """Ends what this process keeps for its next task."""
    global _kept
    if _kept is not None and _kept[0] == os.getpid():
        _kept[2].close()
    _kept = None


def _kept_for(job: Job, make: Callable[[Job], _H]) -> _H:
    """A job has one kind of host."""
    global _kept
    if _kept is not None and _kept[:2] == (os.getpid(), job):
        return cast(_H, _kept[2])
    close_node()
    made = make(job)
    _kept = (os.getpid(), job, made)
    return made


def _make_node(job: Job) -> Node:
    return Node(job.module, job.arguments, job_name=job.name, memory_bytes=job.memory_bytes,
                task_limit_s=job.task_limit_s, boundaries=job.boundaries, names=job.names,
                records=job.records)


def _make_kmeans(job: Job) -> KMeansHost:
    return KMeansHost(job.module, job_name=job.name, task_limit_s=job.task_limit_s)


def retried(work: Callable[[], _T], faults: tuple[type[aios.Error], ...],
            forget: Callable[[], None] = lambda: None) -> _T | Failed:
    """A server of the host that died is back in a moment, and then it is done again here; an
    instance that stays away, or has not answered for as long as calls wait, is the engine's business:
    the error is raised. So is what is not one of the job's own `faults`."""
    pause_s = FIRST_PAUSE_S
    for attempt in range(1, ATTEMPTS_ON_A_HOST + 1):
        try:
            return work()
        except faults as error:
            return Failed(error.code, str(error))
        except aios.Error as error:
            last = attempt == ATTEMPTS_ON_A_HOST or isinstance(error, HostSilent)
            if not is_host_lost(error):
                raise
            forget()
            if last:
                raise
            time.sleep(pause_s)
            pause_s *= 2
    raise AssertionError("not reached")


def _on_host(work: Callable[[], _T]) -> _T | Failed:
    return retried(work, FAULT_OF_THE_JOB, close_node)


def _on_node(job: Job, work: Callable[[Node], _T]) -> _T | Failed:
    return _on_host(lambda: work(_kept_for(job, _make_node)))


def on_kmeans(job: Job, work: Callable[[KMeansHost], _T]) -> _T | Failed:
    """Does it on this host, again when a server of it dies; what is the job's own fault is a value."""
    return _on_host(lambda: work(_kept_for(job, _make_kmeans)))


def sample_input(job: Job, sample: Split) -> bytes | Failed:
    """The boundaries that every other task of the job needs."""
    return _on_node(job, lambda node: node.sample(sample, job.partitions))


def unpacked_size(path: str) -> int | Failed:
    """Of a compressed input."""
    try:
        return unpack.size_of(path)
    except errors.Corrupt as error:
        return Failed(error.code, str(error))


def record_begins(records: Records, piece: Piece, offsets: Sequence[int]) -> list[int] | Failed:
    """Where the first record at each of these offsets of the piece's file, or after it, begins."""
    def work() -> list[int]:
        with open_piece(piece) as file:
            return records.align(file, offsets)

    return _on_host(work)


def map_split(job: Job, split: Split) -> list[bytes] | Failed:
    """A block for each partition."""
    if job.device_job == images.NAME:
        return _map_images(job, split)

    def work(node: Node) -> list[bytes]:
        if job.programs is None:
            return node.map(split, job.partitions, job.max_bad_records).blocks
        with streaming.mapped(job.programs, split, job.task_limit_s) as (lines, counters):
            return node.map(lines, job.partitions, counters=counters).blocks

    return _on_node(job, work)


def _map_images(job: Job, split: Split) -> list[bytes] | Failed:
    return retried(lambda: images.mapped(
        job.module, job.arguments, split, memory_bytes=job.memory_bytes,
        task_limit_s=job.task_limit_s, max_bad_records=job.max_bad_records),
        (*FAULT_OF_THE_JOB, *images.OF_AN_IMAGE))


def reduce_partition(job: Job, number: int, attempt: str, blocks: Mapping[int, bytes]
                     ) -> Reduced | Failed:
    """Writes part `number`, as `attempt` of it."""
    def work() -> Reduced:
        with PartWriter(job.output, number, attempt) as part:
            facts = _reduce(job, number, blocks, part)
            return Reduced(part.finish(job.is_last), facts, len(blocks),
                           sum(map(len, blocks.values())))

    return _on_host(work)


def _reduce(job: Job, number: int, blocks: Mapping[int, bytes], part: PartWriter) -> ReduceOutput:
    if job.device_job == images.NAME:
        return images.reduced(number, blocks, part.write)
    node = _kept_for(job, _make_node)
    if job.programs is None or not job.programs.reducer:
        return node.reduce(blocks, part.write)
    return streaming.reduced(job.programs, number, job.task_limit_s,
                             lambda write: node.reduce(blocks, write), part.write)


def total_counters(all_of: Sequence[Reduced]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in all_of:
        for name, value in one.facts.counters.items():
            total[name] = total.get(name, 0) + value
    return total
