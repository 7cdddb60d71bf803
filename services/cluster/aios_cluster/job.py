"""What every engine knows of a job, and what one map or reduce of it is on a host.

An engine's adapter carries a `Job` to its workers and blocks between them; `spark.py` is one. A
worker process keeps its node for the next task of the same job.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import aios
from aios import errors

from . import streaming, unpack
from .node import Node, ReduceOutput, is_host_lost
from .output import Part, PartWriter
from .splits import Split
from .streaming import Programs

ATTEMPTS_ON_A_HOST = 4
FIRST_PAUSE_S = 0.25

_T = TypeVar("_T")


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


@dataclass(frozen=True)
class Failed:
    """The job itself is wrong: the same would happen on every host, so nobody tries again."""

    code: int
    text: str

    def error(self) -> aios.Error:
        return errors.error_of(self.code, self.text)


@dataclass(frozen=True)
class Reduced:
    part: Part
    facts: ReduceOutput
    blocks: int
    block_bytes: int


# Anything else may be due to the host: a file not there, no memory, a full disk, a lost server.
FAULT_OF_THE_JOB = (errors.InvalidArgument, errors.Crashed, errors.SourceChanged, errors.TimedOut,
                    errors.VersionMismatch)

_node: tuple[int, Job, Node] | None = None  # of this process


def close_node() -> None:
    """Ends what this process keeps for its next task."""
    global _node
    if _node is not None and _node[0] == os.getpid():
        _node[2].close()
    _node = None


def _node_for(job: Job) -> Node:
    global _node
    if _node is None or _node[0] != os.getpid() or _node[1] != job:
        close_node()
        _node = (os.getpid(), job, Node(job.module, job.arguments, job_name=job.name,
                                        memory_bytes=job.memory_bytes,
                                        task_limit_s=job.task_limit_s,
                                        boundaries=job.boundaries, names=job.names))
    return _node[2]


def retried(work: Callable[[], _T], faults: tuple[type[aios.Error], ...],
            forget: Callable[[], None] = lambda: None) -> _T | Failed:
    """A server of the host that died is back in a moment, and then it is done again here; an
    instance that stays away is the engine's business: the error is raised. So is what is not one of
    the job's own `faults`."""
    pause_s = FIRST_PAUSE_S
    for attempt in range(1, ATTEMPTS_ON_A_HOST + 1):
        try:
            return work()
        except faults as error:
            return Failed(error.code, str(error))
        except aios.Error as error:
            if not is_host_lost(error) or attempt == ATTEMPTS_ON_A_HOST:
                raise
            forget()
            time.sleep(pause_s)
            pause_s *= 2
    raise AssertionError("not reached")


def _on_node(job: Job, work: Callable[[Node], _T]) -> _T | Failed:
    return retried(lambda: work(_node_for(job)), FAULT_OF_THE_JOB, close_node)


def sample_input(job: Job, sample: Split) -> bytes | Failed:
    """The boundaries that every other task of the job needs."""
    return _on_node(job, lambda node: node.sample(sample, job.partitions))


def unpacked_size(path: str) -> int | Failed:
    """Of a compressed input."""
    try:
        return unpack.size_of(path)
    except errors.Corrupt as error:
        return Failed(error.code, str(error))


def map_split(job: Job, split: Split) -> list[bytes] | Failed:
    """A block for each partition."""
    def work(node: Node) -> list[bytes]:
        if job.programs is None:
            return node.map(split, job.partitions, job.max_bad_records).blocks
        with streaming.mapped(job.programs, split, job.task_limit_s) as (lines, counters):
            return node.map(lines, job.partitions, counters=counters).blocks

    return _on_node(job, work)


def reduce_partition(job: Job, number: int, attempt: str, blocks: Mapping[int, bytes]
                     ) -> Reduced | Failed:
    """Writes part `number`, as `attempt` of it."""
    def work(node: Node) -> Reduced:
        with PartWriter(job.output, number, attempt) as part:
            if job.programs is None or not job.programs.reducer:
                facts = node.reduce(blocks, part.write)
            else:
                facts = streaming.reduced(job.programs, number, job.task_limit_s,
                                          lambda write: node.reduce(blocks, write), part.write)
            return Reduced(part.finish(), facts, len(blocks), sum(map(len, blocks.values())))

    return _on_node(job, work)


def total_counters(all_of: Sequence[Reduced]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in all_of:
        for name, value in one.facts.counters.items():
            total[name] = total.get(name, 0) + value
    return total
