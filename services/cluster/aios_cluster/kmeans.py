"""The job k-means on every host: what services/mapreduce/jobs/README.md says, step by step.

A `Host` does each on its devices, with the module's own codelets; an engine carries points, sums and centres
between hosts, as arrays in bytes. All of it is the same bits wherever it runs, so it may be done again, or
twice at once: as on one machine shares of 1,024 points are added up in the order of the input. So points are
gathered into chunks of whole shares, however the input is split.
"""

import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import aios
from aios import errors

from .elf import section
from .host import Host
from .node import about
from .splits import Split

NAME = "k-means"
PARTS = 2
SHARE_POINTS = 1024
LEAST_SHARES = 16  # of a chunk
MAX_CHUNKS = 64
MAX_POINTS = MAX_CELLS = 1 << 31
BLOCK_THREADS = 256
FLOAT_BYTES = 4
SAMPLE_POINTS, SAMPLE_OF_CENTRE = 4096, 16
LINE_BEGIN_BYTES, COORDINATE_BYTES = 64, 32  # room for the text of a centre
MIB = 1 << 20


@dataclass(frozen=True)
class Shape:
    """Of the whole job."""

    points: int
    dimensions: int
    centres: int
    seed: int

    @property
    def row_bytes(self) -> int:
        return FLOAT_BYTES * self.dimensions

    @property
    def centres_bytes(self) -> int:
        return self.row_bytes * self.centres

    @property
    def chunk_points(self) -> int:
        shares = -(-self.points // SHARE_POINTS)
        return SHARE_POINTS * max(LEAST_SHARES, -(-shares // MAX_CHUNKS))

    @property
    def chunks(self) -> int:
        return -(-self.points // self.chunk_points)

    def sample(self) -> list[int]:
        """The points from which the first centres are chosen."""
        count = min(self.points, max(SAMPLE_POINTS, SAMPLE_OF_CENTRE * self.centres))
        return [i * self.points // count for i in range(count)]

    def check(self, memory_bytes: int) -> None:
        """`InvalidArgument`, `TooLarge`."""
        if not self.points:
            raise errors.InvalidArgument("there is no point in the input")
        if self.points > MAX_POINTS:
            raise errors.TooLarge(f"the input has {self.points} points, and k-means takes at most "
                                  f"{MAX_POINTS}")
        if self.centres * self.dimensions > MAX_CELLS:
            raise errors.TooLarge(f"k={self.centres} centres of {self.dimensions} numbers are more than "
                                  f"{MAX_CELLS} numbers")
        of_a_share = self.centres_bytes + FLOAT_BYTES * self.centres
        chunk = self.chunk_points * (self.row_bytes + FLOAT_BYTES + of_a_share // SHARE_POINTS)
        needed = max(chunk, -(-self.points // SHARE_POINTS) * of_a_share)
        if needed > memory_bytes:
            raise errors.TooLarge(f"{self.points} points of {self.dimensions} numbers with "
                                  f"k={self.centres} need {needed // MIB + 1} MiB in one task, which may "
                                  f"use {memory_bytes // MIB} MiB; run it with a larger --memory-mb")


@dataclass(frozen=True)
class Step:
    """What a step did to a chunk: a centre for each point; sums and counts of its shares."""

    labels: bytes
    sums: bytes
    counts: bytes


@dataclass(frozen=True)
class Moved:
    centres: bytes
    points_of: bytes  # u64 each
    farthest: float  # that one of them went


class KMeansHost(Host):
    def __init__(self, module: bytes, *, job_name: str | None = None, task_limit_s: float = 0.0,
                 socket_path: str | None = None):
        super().__init__(socket_path, job_name, task_limit_s)
        try:
            steps = section(module, ".aios.codelets.kmeans")
            if steps is None:
                raise errors.InvalidArgument("the module does not bring the codelets 'kmeans'")
            self._codelets = {
                **{name: self.codelet(module, name)
                   for name in ("measure", "read", "begin", "move", "show")},
                **{name: self.codelet(steps, name)
                   for name in ("kmeans_assign", "kmeans_sum")}}
        except BaseException:
            self.close()
            raise

    def _do(self, codelet: str, buffers: Sequence[tuple[aios.BufferId, aios.Mode]], arguments: bytes,
            blocks: int = 1) -> tuple[int, ...]:
        return self.run(self._codelets[codelet], buffers, arguments, blocks)

    def _input(self, undo: ExitStack, data: bytes, name: str) -> tuple[aios.BufferId, aios.Mode]:
        memory, buffer = self.array(undo, len(data), name, aios.Access.READ)
        memory[:] = data
        return buffer, aios.Mode.READ

    def _room(self, undo: ExitStack, size: int, name: str
              ) -> tuple[memoryview, tuple[aios.BufferId, aios.Mode]]:
        memory, buffer = self.array(undo, size, name, aios.Access.WRITE)
        return memory, (buffer, aios.Mode.WRITE)

    def measure(self, split: Split) -> tuple[int, int]:
        """Points of a split, and the numbers of its first one."""
        with ExitStack() as undo:
            files = self.lend(split, undo)
            try:
                words = self._do("measure", [(files, aios.Mode.READ)], struct.pack("<Q", 0))
            except aios.Error as error:
                raise about(error, split.pieces) from None
        return words[0], words[1]

    def read(self, split: Split, points: int, dimensions: int) -> bytes:
        """The points of a split, by rows."""
        if not points:
            return b""
        with ExitStack() as undo:
            rows, room = self._room(undo, FLOAT_BYTES * points * dimensions, "k-means-points")
            files = self.lend(split, undo)
            try:
                self._do("read", [room, (files, aios.Mode.READ)],
                         struct.pack("<QII", points, dimensions, 0))
            except aios.Error as error:
                raise about(error, split.pieces) from None
            read = bytes(rows)
        return read

    def begin(self, shape: Shape, sample: bytes) -> bytes:
        """The first centres. `InvalidArgument`: there are more than points, or than different ones."""
        with ExitStack() as undo:
            centres, room = self._room(undo, shape.centres_bytes, "k-means-centres")
            self._do("begin", [self._input(undo, sample, "k-means-sample"), room],
                     struct.pack("<QQII", shape.points, shape.seed, shape.dimensions, shape.centres))
            first = bytes(centres)
        return first

    def step(self, shape: Shape, points: bytes, centres: bytes) -> Step:
        """Every point of a chunk to its nearest centre, and the points of each centre added up."""
        count = len(points) // shape.row_bytes
        shares = -(-count // SHARE_POINTS)
        with ExitStack() as undo:
            rows = self._input(undo, points, "k-means-points")
            labels, of_labels = self._room(undo, FLOAT_BYTES * count, "k-means-labels")
            sums, of_sums = self._room(undo, shares * shape.centres_bytes, "k-means-sums")
            counts, of_counts = self._room(undo, FLOAT_BYTES * shares * shape.centres,
                                           "k-means-counts")
            self._do("kmeans_assign", [rows, self._input(undo, centres, "k-means-centres"), of_labels],
                     struct.pack("<3I", count, shape.dimensions, shape.centres),
                     -(-count // BLOCK_THREADS))
            self._do("kmeans_sum", [rows, (of_labels[0], aios.Mode.READ), of_sums, of_counts],
                     struct.pack("<4I", count, shape.dimensions, shape.centres, SHARE_POINTS), shares)
            done = Step(bytes(labels), bytes(sums), bytes(counts))
        return done

    def move(self, shape: Shape, centres: bytes, sums: bytes, counts: bytes) -> Moved:
        """Every centre to the mean of its points; sums and counts are those of all shares, in order."""
        with ExitStack() as undo:
            moved, of_moved = self._room(undo, len(centres), "k-means-centres")
            moved[:] = centres
            points_of, of_points = self._room(undo, 8 * shape.centres, "k-means-points-of")
            words = self._do("move", [self._input(undo, sums, "k-means-sums"),
                                      self._input(undo, counts, "k-means-counts"),
                                      (of_moved[0], aios.Mode.READ_WRITE), of_points],
                             struct.pack("<QII", shape.points, shape.dimensions, shape.centres))
            farthest = struct.unpack("<d", struct.pack("<Q", words[0]))[0]
            done = Moved(bytes(moved), bytes(points_of), farthest)
        return done

    def show(self, shape: Shape, centres: bytes, points_of: bytes) -> bytes:
        """The lines of the centres."""
        size = shape.centres * (LINE_BEGIN_BYTES + COORDINATE_BYTES * shape.dimensions)
        with ExitStack() as undo:
            text, room = self._room(undo, size, "k-means-text")
            words = self._do("show", [self._input(undo, centres, "k-means-centres"),
                                      self._input(undo, points_of, "k-means-points-of"), room],
                             struct.pack("<QII", shape.points, shape.dimensions, shape.centres))
            lines = bytes(text[:words[0]])
        return lines


def lines_of(labels: bytes) -> bytes:
    return b"".join(b"%d\n" % one for (one,) in struct.iter_unpack("<I", labels))
