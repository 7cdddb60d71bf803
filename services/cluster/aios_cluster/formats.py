"""Bytes of the MapReduce engine that a node reads and writes: those of <aios/mapreduce/format.hpp>,
and blocks, which is what an engine beyond one machine carries from host to host.

A block is one partition of everything that one map task wrote:

    "AIOSBLK2", u32 runs, u32 counters, u64 records that map read, u64 bytes of the note,
    u64 of each counter, u64 bytes of each run's part, the note, then these parts, one zstd frame
    with a checksum. All little-endian. The parts are sorted by key; their order is that of the input.

Counters, `records` and the note (JSON: see `Note`) are those of the map task; it says them in the block
of partition 0 alone, so that they are counted once, and only for the attempt whose block is used.
"""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import zstandard

from aios import errors

FORMAT_VERSION = 5
MAX_PARTITIONS = 512
MAX_COUNTERS = 16
RUN_MAGIC = 0x316E75725F726D61
HINT_MAGIC = 0x31746E69685F726D
UNIT_BYTES = 4096
PAGE_BYTES = 4096  # the description's; the boundaries between partitions lie behind it
RECORDS_OFFSET = 2048  # in that page: what the input's records are
BOUNDARY_SLOT_BYTES = 512
MAX_NAMES_BYTES = 32 << 20
TOTAL_ORDER_FLAG = 1
INDEX_STRIDE_BYTES = 16 << 10

_DESCRIPTION = struct.Struct("<QII512s")
_DESCRIBE_ARGUMENTS = struct.Struct("<QQQQ")
_MAP_ARGUMENTS = struct.Struct("<QQQQIIQQII")
_MAP_HINT = struct.Struct("<4Q")
_RUN_HEADER = struct.Struct("<QIIQQ16Q")
_PARTITION_ENTRY = struct.Struct("<QQQII")
_INDEX_ENTRY_BYTES = 16
_REDUCE_ARGUMENTS = struct.Struct("<IIQQQQQQ")
_MERGE_PLAN = struct.Struct("<QQII")
_MERGE_WINDOW = struct.Struct("<IIQQ")
_OUTPUT_HEADER = struct.Struct("<Q16Q")

BLOCK_MAGIC = b"AIOSBLK2"
_BLOCK_HEADER = struct.Struct("<8sIIQQ")
MAX_NOTE_BYTES = 16 << 20
# What one block may unpack to: more is a damaged one, not a large one.
MAX_BLOCK_BYTES = 1 << 31

STOP_DONE, STOP_WINDOW_USED, STOP_OUTPUT_FULL = 0, 1, 2


def round_up(size: int, unit: int = UNIT_BYTES) -> int:
    return (size + unit - 1) // unit * unit


def pack_parameters(arguments: Sequence[str]) -> bytes:
    for one in arguments:
        if "\0" in one:
            raise errors.InvalidArgument("an argument of the job has a NUL")
    return b"".join(one.encode("utf-8", "surrogateescape") + b"\0" for one in arguments)


# ---- the three tasks ----


def boundary_bytes(partitions: int) -> int:
    """Of the boundaries that a job with total order needs."""
    return round_up(partitions * BOUNDARY_SLOT_BYTES) if partitions > 1 else 0


def first_page(records: bytes) -> bytes:
    """Of the parameters. `records` is a packed input format."""
    return (bytes(RECORDS_OFFSET) + records).ljust(PAGE_BYTES, b"\0")


def describe_arguments(parameter_offset: int, parameter_bytes: int, partitions: int = 0) -> bytes:
    """With `partitions` the task also reads files, a sample, and writes boundaries."""
    return _DESCRIBE_ARGUMENTS.pack(parameter_offset, parameter_bytes, 0, partitions)


@dataclass(frozen=True)
class Description:
    counter_names: list[str]
    total_order: bool  # every key of a partition is below every key of the next


def read_description(reply: memoryview) -> Description:
    """`VersionMismatch`: the module is of another AIOS."""
    version, count, flags, names = _DESCRIPTION.unpack_from(reply)
    if version != FORMAT_VERSION or count > MAX_COUNTERS:
        raise errors.VersionMismatch(
            "the module was built with another aios/mapreduce.hpp than this node's")
    return Description([names[32 * i:32 * i + 32].split(b"\0")[0].decode("utf-8", "replace")
                        for i in range(count)], bool(flags & TOTAL_ORDER_FLAG))


def map_arguments(run_bytes: int, table_bytes: int, piece: int, offset: int, partitions: int,
                  parameter_offset: int, parameter_bytes: int, first_document: int,
                  record_limit: int = 0) -> bytes:
    return _MAP_ARGUMENTS.pack(0, run_bytes, table_bytes, offset, piece, partitions,
                               parameter_offset, parameter_bytes, first_document, record_limit)


@dataclass(frozen=True)
class Hint:
    """Where a map task was that has failed."""

    records: int  # begun by it
    piece: int
    offset: int  # in its file, of the last of them


def read_hint(run: memoryview, pieces: int) -> Hint | None:
    """Of the place of its run; None: it does not say, or not sensibly."""
    magic, records, piece, offset = _MAP_HINT.unpack_from(run)
    return Hint(records, piece, offset) if magic == HINT_MAGIC and records and piece < pieces else None


def run_overhead_bytes(partitions: int) -> int:
    """What a run has beside its records and their index."""
    return _RUN_HEADER.size + partitions * (_PARTITION_ENTRY.size + 2 * _INDEX_ENTRY_BYTES)


@dataclass(frozen=True)
class Run:
    """A sorted run, in memory that others may still write: the numbers are copies."""

    records: int
    counters: tuple[int, ...]
    parts: list[tuple[int, int]]  # (offset, bytes) of each partition


def read_run(run: memoryview, partitions: int) -> Run:
    """`Corrupt`: it makes no sense."""
    table = bytes(run[:_RUN_HEADER.size + partitions * _PARTITION_ENTRY.size])
    if len(table) < _RUN_HEADER.size + partitions * _PARTITION_ENTRY.size:
        raise errors.Corrupt("the job's map task wrote a run that is too short")
    magic, count, _, _, records, *counters = _RUN_HEADER.unpack_from(table)
    if magic != RUN_MAGIC or count != partitions:
        raise errors.Corrupt("the job's map task wrote a run whose header is wrong")
    parts = []
    for i in range(partitions):
        offset, size, *_ = _PARTITION_ENTRY.unpack_from(table, _RUN_HEADER.size +
                                                        i * _PARTITION_ENTRY.size)
        if size > len(run) or offset > len(run) - size:
            raise errors.Corrupt("the job's map task wrote a run with a partition outside")
        parts.append((offset, size))
    return Run(records, tuple(counters), parts)


def output_header_bytes(windows: int) -> int:
    return round_up(_OUTPUT_HEADER.size + 8 * windows)


def pack_names(names: Sequence[bytes]) -> bytes:
    """The names of the input's files that are not empty, in order; nothing when they are too many."""
    begins = [8 * (len(names) + 2)]
    for name in names:
        begins.append(begins[-1] + len(name))
    if begins[-1] > MAX_NAMES_BYTES:
        return b""
    return struct.pack(f"<{len(begins) + 1}Q", len(names), *begins) + b"".join(names)


def reduce_arguments(output_bytes: int, parameter_offset: int, parameter_bytes: int,
                     names_offset: int) -> bytes:
    """Of a task whose buffers are parameters, plan, output, and one with all windows."""
    return _REDUCE_ARGUMENTS.pack(1, 2, 0, 0, output_bytes, parameter_offset, parameter_bytes,
                                  names_offset)


def merge_plan_bytes(windows: int) -> int:
    return _MERGE_PLAN.size + windows * _MERGE_WINDOW.size


def write_merge_plan(plan: memoryview, windows: Sequence[tuple[int, int]]) -> None:
    """All keys of `windows`, each (offset, bytes) of buffer 3 and the last of its run."""
    _MERGE_PLAN.pack_into(plan, 0, 0, 0, 0, len(windows))
    for i, (offset, size) in enumerate(windows):
        _MERGE_WINDOW.pack_into(plan, _MERGE_PLAN.size + i * _MERGE_WINDOW.size, 3, 1, offset, size)


def read_output_header(output: memoryview, windows: Sequence[tuple[int, int]]
                       ) -> tuple[int, tuple[int, ...], list[int]]:
    """Records merged, counters, and how much of each window is used up. `Corrupt`."""
    header = bytes(output[:_OUTPUT_HEADER.size + 8 * len(windows)])
    records, *counters = _OUTPUT_HEADER.unpack_from(header)
    used = list(struct.unpack_from(f"<{len(windows)}Q", header, _OUTPUT_HEADER.size))
    if any(one > size for one, (_, size) in zip(used, windows)):
        raise errors.Corrupt("the job's reduce task says it read past the end of a run")
    return records, tuple(counters), used


# ---- blocks ----


@dataclass(frozen=True)
class Note:
    """What else a map task has to tell."""

    skipped: list[tuple[int, int, int]] = field(default_factory=list)  # piece, offset, code
    counters: dict[str, int] = field(default_factory=dict)  # of programs

    def pack(self) -> bytes:
        return json.dumps([self.skipped, self.counters]).encode() if self.skipped or self.counters else b""

    @staticmethod
    def unpack(packed: bytes) -> "Note":
        """`Corrupt`."""
        if not packed:
            return Note()
        try:
            skipped, counters = json.loads(packed)
            return Note([(int(piece), int(offset), int(code)) for piece, offset, code in skipped],
                        {str(name): int(value) for name, value in counters.items()})
        except (ValueError, TypeError, AttributeError):
            raise errors.Corrupt("a block has a note that makes no sense") from None


def pack_block(parts: Sequence[bytes], counters: Sequence[int], records: int,
               note: bytes = b"") -> bytes:
    """The parts, in the order of the input, are copied."""
    header = _BLOCK_HEADER.pack(BLOCK_MAGIC, len(parts), len(counters), records, len(note))
    numbers = struct.pack(f"<{len(counters) + len(parts)}Q", *counters, *map(len, parts))
    packer = zstandard.ZstdCompressor(level=1, write_checksum=True)
    return header + numbers + note + packer.compress(b"".join(parts))


@dataclass(frozen=True)
class Block:
    """A block, unpacked as far as its numbers."""

    counters: tuple[int, ...]
    records: int
    part_bytes: tuple[int, ...]
    note: Note
    packed: memoryview

    @property
    def size_bytes(self) -> int:
        return sum(self.part_bytes)

    def unpack_into(self, target: memoryview) -> None:
        """Fills `size_bytes` of it. `Corrupt`."""
        try:
            unpacked = zstandard.ZstdDecompressor().decompress(
                self.packed, max_output_size=max(self.size_bytes, 1))
        except zstandard.ZstdError as error:
            raise errors.Corrupt(f"a block is damaged: {error}") from None
        if len(unpacked) != self.size_bytes:
            raise errors.Corrupt("a block is shorter than it says")
        target[:len(unpacked)] = unpacked


def read_block(block: bytes) -> Block:
    """`Corrupt`: it is none."""
    view = memoryview(block)
    if len(view) < _BLOCK_HEADER.size:
        raise errors.Corrupt("a block is too short")
    magic, parts, counters, records, note_bytes = _BLOCK_HEADER.unpack_from(view)
    begin = _BLOCK_HEADER.size + 8 * (parts + counters)
    end = begin + note_bytes
    if (magic != BLOCK_MAGIC or counters > MAX_COUNTERS or note_bytes > MAX_NOTE_BYTES or
            end > len(view)):
        raise errors.Corrupt("a block does not begin like one")
    numbers = struct.unpack_from(f"<{counters + parts}Q", view, _BLOCK_HEADER.size)
    part_bytes = numbers[counters:]
    if sum(part_bytes) > MAX_BLOCK_BYTES:
        raise errors.Corrupt("a block says it is larger than a block can be")
    return Block(numbers[:counters], records, part_bytes, Note.unpack(bytes(view[begin:end])),
                 view[end:])
