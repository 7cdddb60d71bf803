"""The input of a job: files and folders, cut into the splits that map tasks read.

Only descriptions travel between hosts; each host opens the files itself, so they lie at the same
path everywhere. The order is that of the single-machine engine: paths as given, folders by the
bytes of their names.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO

from aios import errors

from . import formats, unpack

LEAST_SPLIT_BYTES = 1 << 20
USUAL_SPLIT_BYTES = 32 << 20
MAX_SPLITS = 65536
MAX_PIECES = 128  # AIOS_MAX_FILE_RANGES
SAMPLE_PIECE_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file as it was when the job was planned; of a compressed one, of what it unpacks to."""

    path: str
    offset: int
    length: int
    file_bytes: int  # as it lies there
    modified_ns: int
    known_as: str = ""  # to the user, if not by that path

    @property
    def name(self) -> str:
        return self.known_as or self.path


def whole(path: str) -> Piece:
    """All of a file, as it is now. `OSError`."""
    info = os.stat(path)
    return Piece(os.path.abspath(path), 0, info.st_size, info.st_size, info.st_mtime_ns)


def open_unchanged(piece: Piece) -> IO[bytes]:
    """The piece's file, on whatever host. `NotFound`, `Denied`, `IoError`; `SourceChanged`: it is not
    what was planned."""
    try:
        file = open(piece.path, "rb", buffering=0)
    except OSError as error:
        kind = errors.NotFound if isinstance(error, FileNotFoundError) else (
            errors.Denied if isinstance(error, PermissionError) else errors.IoError)
        raise kind(f"{piece.name}: {error.strerror}; the input has to be at the same path on "
                   f"every host") from None
    info = os.fstat(file.fileno())
    if (info.st_size, info.st_mtime_ns) != (piece.file_bytes, piece.modified_ns):
        file.close()
        raise errors.SourceChanged(f"{piece.name}: changed since the job began")
    return file


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


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    name: str  # as the user gave it
    packed: bool
    size_bytes: int  # of what is read of it
    info: os.stat_result

    def piece(self, offset: int, length: int) -> Piece:
        path = os.path.abspath(self.path)
        return Piece(path, offset, length, self.info.st_size, self.info.st_mtime_ns,
                     self.name if self.name != path else "")


Sizes = Callable[[list[str]], list[int]]


def _measured(paths: Sequence[str], known_as: Mapping[str, str], sizes: Sizes) -> list[_File]:
    found = list(_files(paths))
    packed = [path for path, info in found if info.st_size and unpack.is_packed(path)]
    size_of = dict(zip(packed, sizes([os.path.abspath(path) for path in packed])))
    return [_File(path, known_as.get(path, path), path in size_of,
                  size_of.get(path, info.st_size), info) for path, info in found]


def _sample(files: Sequence[_File], total: int) -> Split:
    """The single-machine engine's, so that boundaries chosen by it are the same."""
    pieces: list[Piece] = []
    file = file_begin = 0
    for i in range(MAX_PIECES if total else 0):
        begin, end = total * i // MAX_PIECES, total * (i + 1) // MAX_PIECES
        while begin - file_begin >= files[file].size_bytes:
            file_begin += files[file].size_bytes
            file += 1
        offset = begin - file_begin
        length = min(end - begin, SAMPLE_PIECE_BYTES, files[file].size_bytes - offset)
        if length:
            pieces.append(files[file].piece(offset, length))
    return Split(-1, tuple(pieces))


def _sizes_here(paths: list[str]) -> list[int]:
    return [unpack.size_of(path) for path in paths]


def _target(total: int, threads: int, least: int = LEAST_SPLIT_BYTES) -> int:
    """Bytes of a split."""
    return max(min(max(total // (4 * max(threads, 1)), least), USUAL_SPLIT_BYTES),
               -(-total // (MAX_SPLITS // 2)))


def plan(paths: Sequence[str], threads: int, sizes: Sizes = _sizes_here,
         known_as: Mapping[str, str] | None = None) -> Plan:
    """Every byte of every file in exactly one piece, in order; four splits for each of `threads`. A
    compressed file is one piece; `sizes` says what such files unpack to. `known_as` has the names of files
    that the user knows by others.

    `OSError`, `InvalidArgument`, `Corrupt`: of a path.
    """
    files = _measured(paths, known_as or {}, sizes)
    total = sum(one.size_bytes for one in files)
    target = _target(total, threads)
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

    for one in files:
        at = 0
        if one.size_bytes:
            names.append(os.fsencode(one.name))
        while at < one.size_bytes:
            left = one.size_bytes - at
            # What would be left for the next split is not worth one.
            length = left if one.packed or left < room + target // 8 else room
            pieces.append(one.piece(at, length))
            at, room = at + length, room - length
            if room <= 0 or len(pieces) == MAX_PIECES:
                close()
    close()
    if len(splits) > MAX_SPLITS:
        raise errors.Quota(f"{len(files)} files make more than {MAX_SPLITS} splits; pack small "
                           f"files together, or run the job over fewer")
    return Plan(splits, formats.pack_names(names), _sample(files, total), len(files), total)


Begins = Callable[[list[tuple[Piece, list[int]]]], list[list[int]]]


def align(planned: Plan, begins: Begins) -> Plan:
    """The same with pieces that begin and end where records do. `begins` is asked of files that are in more
    than one piece, about the offsets where they are cut: where the first record there, or after it, begins."""
    asked: dict[int, tuple[Piece, list[int]]] = {}
    for split in planned.splits:
        for document, piece in enumerate(split.pieces, split.first_document):
            if piece.offset:
                asked.setdefault(document, (piece, []))[1].append(piece.offset)
    moved = {(document, offset): begin
             for (document, (_, offsets)), found in zip(asked.items(), begins(list(asked.values())))
             for offset, begin in zip(offsets, found)}

    def aligned(document: int, piece: Piece) -> Piece:
        begin, end = (moved.get((document, offset), offset)
                      for offset in (piece.offset, piece.offset + piece.length))
        return replace(piece, offset=begin, length=end - begin)

    return replace(planned, splits=[
        replace(split, pieces=tuple(aligned(document, piece) for document, piece
                                    in enumerate(split.pieces, split.first_document)))
        for split in planned.splits])


def plan_whole(paths: Sequence[str], threads: int, known_as: Mapping[str, str] | None = None) -> Plan:
    """For jobs that read files whole, as they lie there and also when they are empty, and have much to do
    for each."""
    files = [_File(path, (known_as or {}).get(path, path), False, info.st_size, info)
             for path, info in _files(paths)]
    total = sum(one.size_bytes for one in files)
    target = _target(total, threads, 1)
    splits: list[Split] = []
    pieces: list[Piece] = []
    for one in files:
        pieces.append(one.piece(0, one.size_bytes))
        if sum(piece.length for piece in pieces) >= target or len(pieces) == MAX_PIECES:
            splits.append(Split(len(splits), tuple(pieces)))
            pieces = []
    if pieces:
        splits.append(Split(len(splits), tuple(pieces)))
    return Plan(splits, b"", Split(-1, ()), len(files), total)
