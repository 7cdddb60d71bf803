"""The node contract: what an engine beyond one machine asks of the AIOS of each host.

    with Node(module, ["the", "arguments"]) as node:
        boundaries = node.sample(sample, partitions=8)    # once; all nodes are given them
    with Node(module, ["the", "arguments"], boundaries=boundaries) as node:
        output = node.map(split, partitions=8)      # on any host: 8 blocks
        ...the engine carries block p of every split to whoever reduces partition p...
        result = node.reduce({split.number: block, ...}, lines.write)

Nothing in it is of a certain engine. Map and reduce depend on nothing but their arguments: they may
be done again, or twice at once, anywhere, and give the same bytes. So the engine may lose a host,
an attempt or a block, and have it made again; AIOS keeps nothing that it would have to ask for.

A node is one attachment to the host's instance, as `host.py` has it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import aios
from aios import errors

from . import formats
from .formats import round_up
from .host import Host, is_host_lost
from .records import Records
from .splits import Piece, Split
from .suspect import Suspect

KIB, MIB = 1 << 10, 1 << 20
MAX_TABLE_BYTES = 64 * MIB
MAX_RUN_BYTES = 64 * MIB
# A table must hold the largest record whole, with what it needs around it.
TABLE_PER_RECORD_BYTE = 16
LEAST_OUTPUT_BYTES = 4 * MIB
LEAST_MEMORY_BYTES = 32 * MIB

_PLACE = re.compile(r"^@(\d+):(\d+) ", re.DOTALL)


@dataclass(frozen=True)
class MapOutput:
    blocks: list[bytes]  # one for each partition, never None
    records: int
    runs: int
    skipped: list[tuple[int, int, int]] = field(default_factory=list)  # piece, offset, code


@dataclass(frozen=True)
class ReduceOutput:
    counters: dict[str, int]  # of the map tasks whose blocks were given, and of this reduce
    records: int  # read by these map tasks
    distinct_keys: int
    output_bytes: int
    skipped: list[tuple[int, int, int, int]] = field(default_factory=list)  # split, piece, offset, code


# Failures that one record may be the reason of, so that the job can go on without it.
_OF_A_RECORD = (errors.Crashed, errors.TimedOut, errors.InvalidArgument)


def about(error: aios.Error, pieces: Sequence[Piece], hint: formats.Hint | None = None) -> aios.Error:
    """What a task failed with, naming the file that it was about, and the place in it."""
    if is_host_lost(error):
        return error
    why = str(error)
    place = _PLACE.match(why)
    if place and int(place[1]) < len(pieces):
        why = f"{pieces[int(place[1])].name}, at byte {place[2]}: {why[place.end():]}"
    elif hint is not None and isinstance(error, _OF_A_RECORD):
        why = f"{pieces[hint.piece].name}, at byte {hint.offset}: {why}"
    elif pieces:
        last = f" to {pieces[-1].name}" if len(pieces) > 1 else ""
        why = f"{pieces[0].name}{last}: {why}"
    return errors.error_of(error.code, why)


class Node(Host):
    """`module` is a path, or the bytes of the module (made with <aios/mapreduce.hpp>). `boundaries` are
    what `sample` gave, on any node; `names` those of the plan; `records` what the input's are.

    `memory_bytes` is for the table, the run, the blocks and the output of one task; `task_limit_s`
    ends a task that runs longer (0: never). `job_name` is the job of AIOS that all of it belongs to:
    nodes of one application on one host name the same.
    """

    def __init__(self, module: str | bytes, arguments: Sequence[str] = (), *,
                 socket_path: str | None = None, job_name: str | None = None,
                 memory_bytes: int = 512 * MIB, task_limit_s: float = 0.0, boundaries: bytes = b"",
                 names: bytes = b"", records: Records = Records()):
        if memory_bytes < LEAST_MEMORY_BYTES:
            raise errors.InvalidArgument(
                f"a node needs at least {LEAST_MEMORY_BYTES // MIB} MiB of memory")
        super().__init__(socket_path, job_name, task_limit_s)
        self._memory_bytes = memory_bytes
        self._records = records
        try:
            self._codelets = {name: self.codelet(module, name)
                              for name in ("describe", "map", "reduce")}
            parameters = formats.pack_parameters(arguments)
            header = formats.first_page(records.packed) + boundaries
            self._boundary_bytes = len(boundaries)
            self._names_at = len(header) if names else 0
            self._at = len(header) + len(names), len(parameters)  # where the parameters lie
            region = self._undo.enter_context(
                self._instance.create_region(round_up(sum(self._at)), "job"))
            region.data[:sum(self._at)] = header + names + parameters
            self._parameters = self.buffer(region, aios.Access.READ)
            described = self._describe()
            self.counter_names, self._total_order = described.counter_names, described.total_order
        except BaseException:
            self.close()
            raise

    # ---- tasks ----

    def _run(self, codelet: str, buffers: Sequence[tuple[aios.BufferId, aios.Mode]],
             arguments: bytes) -> tuple[int, ...]:
        return self.run(self._codelets[codelet], [(self._parameters, aios.Mode.READ), *buffers],
                        arguments)

    def _describe(self) -> formats.Description:
        with ExitStack() as undo:
            reply, buffer = self.memory(undo, formats.PAGE_BYTES, "description",
                                        aios.Access.WRITE)
            self._run("describe", [(buffer, aios.Mode.WRITE)],
                      formats.describe_arguments(*self._at))
            described = formats.read_description(reply)
        return described

    def sample(self, split: Split, partitions: int) -> bytes:
        """Boundaries between partitions, from a sample of the input; none for a job without total
        order. A sample that the job fails on gives none that divide: its map tasks say why."""
        if not self._total_order or partitions == 1:
            return b""
        size = formats.boundary_bytes(partitions)
        boundaries = bytes(size)
        with ExitStack() as undo:
            reply, buffer = self.memory(undo, formats.PAGE_BYTES + size, "boundaries",
                                        aios.Access.WRITE)
            files = self.lend(split, undo, self._records)
            try:
                self._run("describe", [(buffer, aios.Mode.WRITE), (files, aios.Mode.READ)],
                          formats.describe_arguments(*self._at, partitions))
                boundaries = bytes(reply[formats.PAGE_BYTES:formats.PAGE_BYTES + size])
            except _OF_A_RECORD:
                pass
            except aios.Error as error:
                raise about(error, split.pieces) from None
        return boundaries

    # ---- map ----

    def map(self, split: Split, partitions: int, max_bad_records: int = 0,
            counters: Mapping[str, int] | None = None) -> MapOutput:
        """Reads a split and gives a block for each partition.

        `SourceChanged`: a file is no longer what was planned; what the job itself fails with names
        the file and the place in it, after it failed on more than `max_bad_records` records. The
        `counters` are those of the programs that made the split.
        """
        if not 1 <= partitions <= formats.MAX_PARTITIONS:
            raise errors.InvalidArgument(f"1 to {formats.MAX_PARTITIONS} partitions")
        if self._total_order and self._boundary_bytes != formats.boundary_bytes(partitions):
            raise errors.InvalidArgument(f"the job needs the boundaries of {partitions} partitions; "
                                         f"make them with sample()")
        reading = _Reading(split, partitions, self._memory_bytes, max_bad_records)
        with ExitStack() as undo:
            files = self.lend(split, undo) if split.pieces else aios.BufferId(0)
            while not reading.done:
                self._map_some(reading, files)
        counted, records = reading.counters[:len(self.counter_names)], reading.records
        note = formats.Note(reading.skipped, dict(counters or {})).pack()
        first, *others = reading.parts
        blocks = [formats.pack_block(first, counted, records, note),
                  *(formats.pack_block(parts, (), 0) for parts in others)]
        return MapOutput(blocks, records, reading.runs, reading.skipped)

    def _map_some(self, reading: "_Reading", files: aios.BufferId) -> None:
        """One task: as much of the split as fits in a table and a run."""
        run_bytes, table_bytes = reading.room()
        with ExitStack() as undo:
            run, buffer = self.memory(undo, run_bytes, "run", aios.Access.WRITE)
            arguments = formats.map_arguments(len(run), table_bytes, reading.piece, reading.offset,
                                              reading.partitions, *self._at,
                                              reading.split.first_document,
                                              reading.suspect.record_limit)
            try:
                words = self._run("map", [(buffer, aios.Mode.WRITE), (files, aios.Mode.READ)],
                                  arguments)
            except aios.Error as error:
                reading.failed(error, formats.read_hint(run, len(reading.split.pieces)))
                return
            reading.take(words, run)

    # ---- reduce ----

    def reduce(self, blocks: Mapping[int, bytes], write: Callable[[memoryview], object]
               ) -> ReduceOutput:
        """Merges the blocks of one partition, by the number of their split, and writes its lines.

        `write` is given them in order, in pieces whose memory is good until it returns. `Corrupt`:
        of a block; `NoMemory`: the partition does not fit; what the job itself fails with.
        """
        opened = [formats.read_block(blocks[number]) for number in sorted(blocks)]
        total = sum(block.size_bytes for block in opened)
        if total > self._memory_bytes:
            raise errors.NoMemory(
                f"a partition has {total // MIB + 1} MiB of sorted runs, the node's memory is "
                f"{self._memory_bytes // MIB} MiB; use more reducers or more memory")
        merge = _Merge()
        counters = [0] * formats.MAX_COUNTERS
        with ExitStack() as undo:
            data, runs = self.memory(undo, total, "blocks", aios.Access.READ)
            for block in opened:
                for i, count in enumerate(block.counters):
                    counters[i] += count
                merge.add(block, data)
            while merge.windows:
                self._merge_some(merge, runs, counters, write)
        named = dict(zip(self.counter_names, counters))
        skipped: list[tuple[int, int, int, int]] = []
        for number, block in zip(sorted(blocks), opened):
            skipped += [(number, *one) for one in block.note.skipped]
            for name, value in block.note.counters.items():
                named[name] = named.get(name, 0) + value
        return ReduceOutput(named, sum(block.records for block in opened), merge.keys, merge.bytes,
                            skipped)

    def _merge_some(self, merge: "_Merge", runs: aios.BufferId, counters: list[int],
                    write: Callable[[memoryview], object]) -> None:
        """One task: as many keys as fit in the output."""
        windows = merge.windows
        with ExitStack() as undo:
            plan, plan_buffer = self.memory(undo, formats.merge_plan_bytes(len(windows)), "plan",
                                            aios.Access.READ)
            formats.write_merge_plan(plan, windows)
            header = formats.output_header_bytes(len(windows))
            output, buffer = self.memory(undo, header + merge.output_bytes, "output",
                                         aios.Access.WRITE)
            words = self._run(
                "reduce", [(plan_buffer, aios.Mode.READ), (buffer, aios.Mode.WRITE),
                           (runs, aios.Mode.READ)],
                formats.reduce_arguments(len(output), *self._at, self._names_at))
            stop, written, keys = words[:3]
            _, counted, used = formats.read_output_header(output, windows)
            if stop > formats.STOP_OUTPUT_FULL or not header <= written <= len(output):
                raise errors.Corrupt("the job's reduce task returned what makes no sense")
            for i, count in enumerate(counted):
                counters[i] += count
            if written > header:
                write(output[header:written])
            merge.advance(keys, written - header, used, self._memory_bytes)


class _Reading:
    """How far a split is read, and the parts of its runs."""

    def __init__(self, split: Split, partitions: int, memory_bytes: int, max_bad_records: int):
        self.split = split
        self.partitions = partitions
        self.suspect = Suspect()
        self.skipped: list[tuple[int, int, int]] = []
        self._max_bad_records = max_bad_records
        self.piece = self.offset = self.records = self.runs = 0
        self.counters = [0] * formats.MAX_COUNTERS
        self.parts: list[list[bytes]] = [[] for _ in range(partitions)]
        self._memory_bytes = memory_bytes
        self._need_bytes = 0  # of a run, for its next record alone

    @property
    def done(self) -> bool:
        return self.piece == len(self.split.pieces)

    def room(self) -> tuple[int, int]:
        """Bytes of the next run, and of the table."""
        usual = min(self._memory_bytes // 4, MAX_RUN_BYTES,
                    self.split.size_bytes + self.split.size_bytes // 2 + 64 * KIB)
        needed = self._need_bytes + self._need_bytes // 64 + 64 * KIB
        run = max(usual, needed) + formats.run_overhead_bytes(self.partitions)
        table = max(min(self._memory_bytes // 4, MAX_TABLE_BYTES),
                    TABLE_PER_RECORD_BYTE * self._need_bytes)
        return run, table

    def take(self, words: Sequence[int], run: memoryview) -> None:
        """What a map task returned; `Corrupt` when it makes no sense."""
        piece, offset, records, size = words
        forward = (piece, offset) > (self.piece, self.offset)
        if piece > len(self.split.pieces) or size > len(run) or (size and not forward):
            raise errors.Corrupt("the job's map task returned what makes no sense; was it built "
                                 "with this aios/mapreduce.hpp?")
        if size == 0:  # a single record does not fit; `records` is what it needs
            if records <= self._need_bytes or records > self._memory_bytes // 4:
                raise errors.NoMemory(f"one record of {self.split.pieces[piece].name} makes "
                                      f"{records // MIB + 1} MiB at once; give the node at least "
                                      f"{4 * (records // MIB + 1)} MiB")
            self._need_bytes = records
            return
        header = formats.read_run(run[:size], self.partitions)
        skipping = self.suspect.skipping
        self.suspect.succeeded(records)
        for parts, (at, length) in zip(self.parts, header.parts):
            if length:
                parts.append(bytes(run[at:at + length]))
        self.counters = [a + b for a, b in zip(self.counters, header.counters)]
        self.piece, self.offset, self._need_bytes = piece, offset, 0
        self.records += 0 if skipping else records
        self.runs += 1

    def failed(self, error: aios.Error, hint: formats.Hint | None) -> None:
        """Goes on, to find the record that it failed on or without it; or raises what it failed with."""
        told = about(error, self.split.pieces, hint)
        if (not self._max_bad_records or not isinstance(error, _OF_A_RECORD) or
                self.suspect.skipping):
            raise told from None
        if not self.suspect.failed(hint.records if hint else 0):
            return
        piece, offset = (hint.piece, hint.offset) if hint else (self.piece, self.offset)
        if len(self.skipped) == self._max_bad_records:
            raise too_many_bad(self.split.pieces[piece].name, offset, error, self._max_bad_records)
        self.skipped.append((piece, offset, int(error.code)))


def too_many_bad(name: str, offset: int, error: aios.Error, limit: int) -> aios.Error:
    why = _PLACE.sub("", str(error))
    return errors.error_of(error.code, f"{name}, at byte {offset}: one bad record more than the {limit} "
                                       f"that may be skipped: {why}")


class _Merge:
    """What is still to be merged of a partition, whose runs lie in one memory."""

    def __init__(self) -> None:
        self.windows: list[tuple[int, int]] = []  # (offset, bytes), in the order of the input
        self.keys = self.bytes = 0
        self.output_bytes = LEAST_OUTPUT_BYTES
        self._end = 0

    def add(self, block: formats.Block, memory: memoryview) -> None:
        block.unpack_into(memory[self._end:self._end + block.size_bytes])
        for size in block.part_bytes:
            if size:
                self.windows.append((self._end, size))
            self._end += size
        # Far fewer tasks than that, for what is merged is seldom larger than what was read.
        self.output_bytes = max(self.output_bytes, round_up(self._end // 4))

    def advance(self, keys: int, written: int, used: Sequence[int], memory_bytes: int) -> None:
        """What one task did. Without a single key its output was too small for the next one."""
        self.keys += keys
        self.bytes += written
        self.windows = [(at + done, size - done)
                        for (at, size), done in zip(self.windows, used) if done < size]
        if keys or not self.windows:
            return
        if any(used):
            raise errors.Corrupt("the job's reduce task used records up without a key")
        if self.output_bytes >= memory_bytes:
            raise errors.NoMemory("the lines of one key do not fit in the node's memory")
        self.output_bytes = min(2 * self.output_bytes, memory_bytes)
