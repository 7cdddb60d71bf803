"""What the records of the input are: `aiosctl mapreduce run --input-format … --field …`.

Splits of CSV and of records of a fixed length begin where a record does. libaios finds that, for this and
for the single-machine engine.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from aios.mapreduce import align, pack_format

Range = tuple[IO[bytes], int, int]  # of an open file: offset, length


@dataclass(frozen=True)
class Records:
    name: str = "text"
    packed: bytes = b""  # as modules read it; text needs nothing

    @staticmethod
    def named(name: str, field: str | None) -> "Records":
        """`InvalidArgument`, `TooLarge`."""
        return Records(name or "text", pack_format(name, field or None))

    @property
    def are_cut(self) -> bool:
        """By whoever makes splits: tasks cannot find by themselves where they begin."""
        return self.name.startswith(("csv", "fixed"))

    def align(self, file: IO[bytes], offsets: Sequence[int]) -> list[int]:
        """Moved to where records begin."""
        return align(self.name, file, offsets) if self.are_cut else list(offsets)

    def align_ranges(self, ranges: Sequence[Range]) -> list[Range]:
        """With the records that begin in them."""
        moved: list[Range] = []
        for file in dict.fromkeys(file for file, _, _ in ranges) if self.are_cut else ():
            of = [(offset, offset + length) for one, offset, length in ranges if one is file]
            ends = self.align(file, [offset for both in of for offset in both])
            moved += [(file, begin, end - begin) for begin, end in zip(ends[::2], ends[1::2])]
        return moved or list(ranges)


# What a job of a chain after the first one reads: lines of no document.
LATER_STAGE = Records(packed=struct.pack("<32xI", 1))
