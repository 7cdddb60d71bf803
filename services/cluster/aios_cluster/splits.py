"""The input of a job: files and folders, cut into the splits that map tasks read.

Only descriptions travel between hosts; each host opens the files itself, so they lie at the same
path everywhere. The order is that of the single-machine engine: paths as given, folders by the
bytes of their names.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aios import errors

from . import formats

LEAST_SPLIT_BYTES = 1 << 20
USUAL_SPLIT_BYTES = 32 << 20
MAX_SPLITS = 65536
MAX_PIECES = 128  # AIOS_MAX_FILE_RANGES
SAMPLE_PIECE_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file as it was when the job was planned."""

    path: str
    offset: int
    length: int
    file_bytes: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Split:
    """What one map task reads."""

    number: int
    pieces: tuple[Piece, ...]
    first_document: int = 0  # the number of the first piece's file, as in the names

    @property
    def size_bytes(self) -> int:
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Plan:
    splits: list[Split]
    names: bytes  # of the files that are not empty, as the job was given them, packed
    sample: Split  # not one of them: pieces from all over the input
    input_files: int
    input_bytes: int


def _folder(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below; symbolic links and everything else is passed over."""
    for name in sorted(os.listdir(path), key=os.fsencode):
        below = os.path.join(path, name)
        try:
            info = os.lstat(below)
        except FileNotFoundError:
            continue  # removed since the folder was read
        if stat.S_ISDIR(info.st_mode):
            yield from _folder(below)
        elif stat.S_ISREG(info.st_mode):
            yield below, info


def _files(paths: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    for path in paths:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            yield from _folder(path)
        elif stat.S_ISREG(info.st_mode):
            yield path, info
        else:
            raise errors.InvalidArgument(f"{path}: neither a regular file nor a folder")


def _sample(files: Sequence[tuple[str, os.stat_result]], total: int) -> Split:
    """The single-machine engine's, so that boundaries chosen by it are the same."""
    pieces: list[Piece] = []
    file = file_begin = 0
    for i in range(MAX_PIECES if total else 0):
        begin, end = total * i // MAX_PIECES, total * (i + 1) // MAX_PIECES
        while begin - file_begin >= files[file][1].st_size:
            file_begin += files[file][1].st_size
            file += 1
        path, info = files[file]
        offset = begin - file_begin
        length = min(end - begin, SAMPLE_PIECE_BYTES, info.st_size - offset)
        if length:
            pieces.append(Piece(os.path.abspath(path), offset, length, info.st_size,
                                info.st_mtime_ns))
    return Split(-1, tuple(pieces))


def plan(paths: Sequence[str], threads: int) -> Plan:
    """Every byte of every file in exactly one piece, in order; four splits for each of `threads`.

    `OSError`, `InvalidArgument`: of a path.
    """
    files = list(_files(paths))
    for path, info in files:
        if info.st_size and path.endswith((".gz", ".zst")):
            raise errors.InvalidArgument(f"{path}: compressed inputs are read by the single-machine "
                                         f"engine alone; unpack it first")
    total = sum(info.st_size for _, info in files)
    target = max(min(max(total // (4 * max(threads, 1)), LEAST_SPLIT_BYTES), USUAL_SPLIT_BYTES),
                 -(-total // (MAX_SPLITS // 2)))
    splits: list[Split] = []
    pieces: list[Piece] = []
    room = target
    names: list[bytes] = []

    def close() -> None:
        nonlocal room
        if pieces:
            splits.append(Split(len(splits), tuple(pieces), len(names) - len(pieces)))
            pieces.clear()
        room = target

    for path, info in files:
        at = 0
        if info.st_size:
            names.append(os.fsencode(path))
        full = os.path.abspath(path)
        while at < info.st_size:
            left = info.st_size - at
            # What would be left for the next split is not worth one.
            length = left if left < room + target // 8 else room
            pieces.append(Piece(full, at, length, info.st_size, info.st_mtime_ns))
            at, room = at + length, room - length
            if room <= 0 or len(pieces) == MAX_PIECES:
                close()
    close()
    if len(splits) > MAX_SPLITS:
        raise errors.Quota(f"{len(files)} files make more than {MAX_SPLITS} splits; pack small "
                           f"files together, or run the job over fewer")
    return Plan(splits, formats.pack_names(names), _sample(files, total), len(files), total)
