"""k-means with Apache Spark as the engine.

Points are read where splits are, gathered into chunks that Spark keeps in memory or on disk, and makes again
when it loses them. Each step is a task for each chunk, and one that moves the centres by the sums of all.
What Spark carries are blocks: arrays, compressed, with a checksum.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pyspark import RDD, SparkContext, StorageLevel

from . import formats
from .job import Failed, Job, Reduced, on_kmeans, sound
from .kmeans import KMeansHost, Moved, Shape, Step, lines_of
from .node import ReduceOutput
from .output import PartWriter
from .spark import this_attempt
from .splits import Plan, Split

# A number, and what is carried for it.
Numbered = tuple[int, bytes | Failed]
T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """The job's arguments, checked by aiosctl."""

    k: int
    iterations: int
    tolerance: float
    seed: int


@dataclass(frozen=True)
class Carried:
    """Blocks that went through shuffles: what was received of them, however often it was sent."""

    blocks: int = 0
    size_bytes: int = 0

    def __add__(self, other: "Carried") -> "Carried":
        return Carried(self.blocks + other.blocks, self.size_bytes + other.size_bytes)

    @staticmethod
    def of(received: list[tuple[int, Numbered]]) -> "Carried":
        return Carried(len(received), sum(len(block) for _, (_, block) in received
                                          if not isinstance(block, Failed)))

    def pack(self) -> bytes:
        return struct.pack("<2Q", self.blocks, self.size_bytes)

    @staticmethod
    def unpack(packed: bytes) -> "Carried":
        return Carried(*struct.unpack("<2Q", packed))


@dataclass(frozen=True)
class Led:
    parts: list[Reduced]
    shape: Shape
    iterations: int
    converged: bool
    carried: Carried  # until the parts: when points were gathered, and in every step
    notes: list[str]

    @property
    def counters(self) -> dict[str, int]:
        return {"points": self.shape.points, "dimensions": self.shape.dimensions,
                "iterations": self.iterations, "converged": int(self.converged)}


def _pack(*arrays: bytes) -> bytes:
    return formats.pack_block(arrays, (), 0)


def _unpack(packed: bytes) -> list[bytes]:
    block = formats.read_block(packed)
    data = bytearray(block.size_bytes)
    block.unpack_into(memoryview(data))
    arrays, at = [], 0
    for size in block.part_bytes:
        arrays.append(bytes(data[at:at + size]))
        at += size
    return arrays


def _joined(received: Iterable[tuple[int, Numbered]]) -> list[list[bytes]] | Failed:
    """Arrays of all that was received, in the order of their numbers."""
    blocks: dict[int, bytes] = {}
    for _, (number, block) in received:
        if isinstance(block, Failed):
            return block
        blocks[number] = block
    return [_unpack(blocks[number]) for number in sorted(blocks)]


# ---- on hosts -----------------------------------------------------------------------------------


def _reader(split: Split, points: int, dimensions: int) -> Callable[[KMeansHost], bytes]:
    return lambda host: host.read(split, points, dimensions)


def _read(job: Job, shape: Shape, some: Iterable[tuple[Split, int, int]]
          ) -> Iterator[tuple[int, Numbered]]:
    """The points of splits, cut where chunks are: (chunk, (number of the first point, points))."""
    for split, first, count in some:
        rows = on_kmeans(job, _reader(split, count, shape.dimensions))
        if isinstance(rows, Failed):
            yield 0, (0, rows)
            return
        at = first
        while at < first + count:
            chunk = at // shape.chunk_points
            end = min((chunk + 1) * shape.chunk_points, first + count)
            yield chunk, (at, _pack(rows[(at - first) * shape.row_bytes:
                                         (end - first) * shape.row_bytes]))
            at = end


def _gather(number: int, some: Iterable[tuple[int, Numbered]]) -> Iterator[Numbered]:
    """A chunk: its points, and what was carried for it."""
    received = list(some)
    pieces = _joined(received)
    yield number, pieces if isinstance(pieces, Failed) else _pack(
        b"".join(one for one, in pieces), Carried.of(received).pack())


def _of_sample(shape: Shape, number: int, chunk: bytes) -> bytes:
    rows, carried = _unpack(chunk)
    first, size = number * shape.chunk_points, shape.row_bytes
    return _pack(b"".join(rows[(i - first) * size:(i - first + 1) * size] for i in shape.sample()
                          if 0 <= (i - first) * size < len(rows)), carried)


def _counted(made: T | Failed, carried: Carried) -> tuple[T, Carried] | Failed:
    return made if isinstance(made, Failed) else (made, carried)


def _begin(job: Job, shape: Shape, some: Iterable[tuple[int, Numbered]]
           ) -> Iterator[tuple[bytes, Carried] | Failed]:
    received = list(some)
    pieces = _joined(received)
    if isinstance(pieces, Failed):
        yield pieces
        return
    sample = b"".join(rows for rows, _ in pieces)
    carried = sum((Carried.unpack(of_chunk) for _, of_chunk in pieces), Carried.of(received))
    yield _counted(on_kmeans(job, lambda host: host.begin(shape, sample)), carried)


def _step(job: Job, shape: Shape, chunk: bytes, centres: bytes) -> Step | Failed:
    return on_kmeans(job, lambda host: host.step(shape, _unpack(chunk)[0], centres))


def _sums(job: Job, shape: Shape, chunk: bytes, centres: bytes) -> bytes | Failed:
    made = _step(job, shape, chunk, centres)
    return made if isinstance(made, Failed) else _pack(made.sums, made.counts)


def _move(job: Job, shape: Shape, centres: bytes, some: Iterable[tuple[int, Numbered]]
          ) -> Iterator[tuple[Moved, Carried] | Failed]:
    received = list(some)
    shares = _joined(received)
    if isinstance(shares, Failed):
        yield shares
        return
    sums, counts = (b"".join(both) for both in zip(*shares))
    yield _counted(on_kmeans(job, lambda host: host.move(shape, centres, sums, counts)),
                   Carried.of(received))


def _last(job: Job, shape: Shape, number: int, chunk: bytes | Failed, centres: bytes
          ) -> list[tuple[int, Numbered]]:
    """For each part what it needs of a chunk."""
    made = chunk if isinstance(chunk, Failed) else _step(job, shape, chunk, centres)
    if isinstance(made, Failed):
        return [(0, (number, made))]
    return [(0, (number, _pack(made.sums, made.counts))),
            (1, (number, _pack(lines_of(made.labels))))]


def _write(job: Job, shape: Shape, centres: bytes, number: int, attempt: str,
           received: list[tuple[int, Numbered]]) -> Reduced | Failed:
    pieces = _joined(received)
    if isinstance(pieces, Failed):
        return pieces
    arrays = [b"".join(of_all) for of_all in zip(*pieces)]

    def work(host: KMeansHost) -> Reduced:
        text = host.show(shape, centres, host.move(shape, centres, *arrays).points_of
                         ) if number == 0 else arrays[0]
        with PartWriter(job.output, number, attempt) as part:
            part.write(memoryview(text))
            of_first, carried = number == 0, Carried.of(received)
            facts = ReduceOutput({}, shape.points * of_first, shape.centres * of_first, len(text))
            return Reduced(part.finish(), facts, carried.blocks, carried.size_bytes)

    return on_kmeans(job, work)


# ---- the driver ---------------------------------------------------------------------------------


class _Leader:
    def __init__(self, context: SparkContext, job: Job, plan: Plan, given: Given):
        self._context, self._plan, self._given = context, plan, given
        self._job = context.broadcast(job)
        self._memory_bytes = job.memory_bytes

    def _measure(self) -> tuple[Shape, list[tuple[Split, int, int]]]:
        """And for each split the number of its first point, and how many it has."""
        shared = self._job
        found: list[tuple[int, int]] = sound(self._context.parallelize(
            self._plan.splits, max(len(self._plan.splits), 1)).map(
                lambda split: on_kmeans(shared.value, lambda host: host.measure(split))).collect())
        total = sum(points for points, _ in found)
        shape = Shape(total, next((numbers for _, numbers in found if numbers), 0), self._given.k,
                      self._given.seed)
        shape.check(self._memory_bytes)
        work, first = [], 0
        for split, (points, _) in zip(self._plan.splits, found):
            work.append((split, first, points))
            first += points
        return shape, work

    def _chunks(self, shape: Shape, work: list[tuple[Split, int, int]]) -> RDD[Any]:
        shared = self._job
        return self._context.parallelize(work, len(work)).mapPartitions(
            lambda some: _read(shared.value, shape, some)).partitionBy(
                shape.chunks, lambda chunk: chunk).mapPartitionsWithIndex(
                    _gather).persist(StorageLevel.MEMORY_AND_DISK)

    @staticmethod
    def _in_one_task(chunks: RDD[Any], each: Any, all_of: Any) -> Any:
        """`all_of` is given what `each` made of every chunk, and a failure instead of any of it."""
        return sound(chunks.map(lambda one: (0, (one[0], one[1] if isinstance(one[1], Failed)
                                                 else each(*one)))).partitionBy(
            1, lambda _: 0).mapPartitions(all_of).collect())[0]

    def lead(self) -> Led:
        shape, work = self._measure()
        shared, given = self._job, self._given
        chunks = self._chunks(shape, work)
        carried: Carried
        centres, carried = self._in_one_task(
            chunks, lambda number, chunk: _of_sample(shape, number, chunk),
            lambda some: _begin(shared.value, shape, some))
        iterations, farthest = 0, 0.0
        converged = False
        while not converged and iterations < given.iterations:
            at = self._context.broadcast(centres)
            moved: Moved
            moved, of_step = self._in_one_task(
                chunks, lambda _, chunk, at=at: _sums(shared.value, shape, chunk, at.value),
                lambda some, at=at: _move(shared.value, shape, at.value, some))
            at.unpersist()
            carried += of_step
            centres, farthest = moved.centres, moved.farthest
            converged = farthest <= given.tolerance
            iterations += 1
        parts = self._output(chunks, shape, centres)
        chunks.unpersist()
        notes = [] if converged else [
            f"not converged after {iterations} iterations: a centre still moved by "
            f"{farthest:.6g}; allow more with iterations=, or a tolerance="]
        return Led(parts, shape, iterations, converged, carried, notes)

    def _output(self, chunks: RDD[Any], shape: Shape, centres: bytes) -> list[Reduced]:
        shared, at = self._job, self._context.broadcast(centres)
        written = chunks.flatMap(
            lambda one: _last(shared.value, shape, one[0], one[1], at.value)).partitionBy(
                2, lambda part: part).mapPartitionsWithIndex(
                    lambda number, some: [_write(shared.value, shape, at.value, number,
                                                 this_attempt(), list(some))])
        parts: list[Reduced] = sound(written.collect())
        return sorted(parts, key=lambda one: one.part.name)


def lead(context: SparkContext, job: Job, plan: Plan, arguments: dict[str, Any]) -> Led:
    """Runs the job up to its written parts."""
    return _Leader(context, job, plan, Given(
        int(arguments["k"]), int(arguments["iterations"]), float(arguments["tolerance"]),
        int(arguments["seed"]))).lead()
