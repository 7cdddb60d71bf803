"""Hadoop Streaming on every host: programs that read lines and write KEY<tab>VALUE lines.

A map task has the mapper read one piece after the other and AIOS sort what it writes; a reduce task has AIOS
merge, and the reducer read that. So Spark carries the same blocks as for a module, and the parts are those
of the single-machine engine. Programs are locked in by `aiosctl run --sandbox=streaming`: they see the
system's programs and the files that the command or --file names, which lie at the same path on every host,
and reach no socket, not even AIOS's. `aiosctl` is found on PATH, or named by AIOSCTL.
"""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO

from aios import errors

from .host import open_piece
from .node import ReduceOutput
from .splits import Piece, Split

ATTEMPTS = 4
MAX_COUNTERS = 1000
CHUNK_BYTES = 1 << 20
MAX_TOLD = 300
_COUNTER = re.compile(rb"reporter:counter:([^,]*),(.*),\s*(-?\d{1,18})$", re.DOTALL)


@dataclass(frozen=True)
class Programs:
    mapper: str
    reducer: str  # none: the sorted lines are the output
    files: tuple[str, ...]  # that they may read

    @staticmethod
    def named(mapper: str, reducer: str, files: Sequence[str]) -> "Programs":
        """With the files that a word of a command names."""
        words = (mapper + " " + reducer).split()
        named = [os.path.abspath(one) for one in files]
        return Programs(mapper, reducer, (*named, *(one for one in words if os.path.isfile(one))))


Write = Callable[[memoryview], object]


@contextmanager
def mapped(programs: Programs, split: Split, limit_s: float
           ) -> Iterator[tuple[Split, dict[str, int]]]:
    """What the mapper writes of the split's pieces, as a split of files that last as long as the block,
    and its counters."""
    counters: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="aios-mapped-") as folder:
        pieces = []
        for number, piece in enumerate(split.pieces):
            path = os.path.join(folder, f"{number:05}")
            what = f"{piece.name}, bytes {piece.offset} to {piece.offset + piece.length}"
            environment = {"mapreduce_task_is_map": "true",
                           "mapreduce_task_partition": str(split.number),
                           "mapreduce_map_input_file": piece.name,
                           "mapreduce_map_input_start": str(piece.offset),
                           "mapreduce_map_input_length": str(piece.length)}
            with open_piece(piece) as file, _lines_of(piece, file) as lines:
                _run("mapper", what, programs.mapper, programs, environment, lines, path, limit_s,
                     counters)
            info = os.stat(path)
            if info.st_size:
                pieces.append(Piece(path, 0, info.st_size, info.st_size, info.st_mtime_ns))
        yield Split(split.number, tuple(pieces)), counters


def reduced(programs: Programs, number: int, limit_s: float,
            merge: Callable[[Write], ReduceOutput], write: Write) -> ReduceOutput:
    """What the reducer writes of the lines that `merge` writes."""
    counters: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="aios-reduced-") as folder:
        path = os.path.join(folder, "lines")
        with tempfile.TemporaryFile() as lines:
            facts = merge(lines.write)
            lines.flush()
            _run("reducer", f"part {number}", programs.reducer, programs,
                 {"mapreduce_task_is_map": "false", "mapreduce_task_partition": str(number)}, lines,
                 path, limit_s, counters)
        with open(path, "rb", buffering=0) as made:
            size = 0
            while some := made.read(CHUNK_BYTES):
                write(memoryview(some))
                size += len(some)
    return replace(facts, counters=_sum(facts.counters, counters), output_bytes=size)


def _sum(some: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: some.get(name, 0) + more.get(name, 0) for name in (*some, *more)}


@contextmanager
def _lines_of(piece: Piece, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The lines that begin in the piece, each ended by a newline, in a file of their own."""
    with tempfile.TemporaryFile(prefix="aios-lines-") as lines:
        end = piece.offset + piece.length
        file.seek(max(piece.offset - 1, 0))
        reader = open(file.fileno(), "rb", closefd=False)
        at = piece.offset
        if piece.offset:
            at += len(reader.readline()) - 1
        last = b"\n"
        while at < end:
            line = reader.readline()
            if not line:
                break
            lines.write(line)
            at += len(line)
            last = line[-1:]
        if last != b"\n":
            lines.write(b"\n")
        lines.flush()
        yield lines


def _run(role: str, what: str, command: str, programs: Programs, environment: Mapping[str, str],
         lines: IO[bytes], path: str, limit_s: float, counters: dict[str, int]) -> None:
    """Has the program read `lines` and write the file at `path`, in up to four attempts; adds what it
    counted in the one that succeeded. `Crashed`: none did."""
    exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in environment.items())
    words = [os.environ.get("AIOSCTL") or "aiosctl", "run", "--sandbox=streaming"]
    for one in programs.files:
        words += ["--read", one]
    words += ["--", "sh", "-c", exports + command]
    how, said = "", b""
    for _ in range(ATTEMPTS):
        lines.seek(0)
        with open(path, "wb") as output:
            try:
                done = subprocess.run(words, stdin=lines, stdout=output, stderr=subprocess.PIPE,
                                      timeout=limit_s or None, check=False)
            except subprocess.TimeoutExpired:
                how = "took longer than its limit"
                continue
            except OSError as error:
                raise errors.NotSupported(f"cannot run {words[0]}: {error.strerror}; AIOSCTL names "
                                          f"it") from None
        counted, said = _reports(done.stderr)
        if done.returncode == 0:
            counters.update(_sum(counters, counted))
            return
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        how = f"was ended by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
    told = said[:MAX_TOLD].decode("utf-8", "replace")
    raise errors.Crashed(f"the {role} of {what} {how}, {ATTEMPTS} times" +
                         (f"; it said: {told}" if told else ""))


def _reports(told: bytes) -> tuple[dict[str, int], bytes]:
    """The counters that a program reported, and the last line that is no report."""
    counters: dict[str, int] = {}
    last = b""
    for line in told.split(b"\n"):
        found = _COUNTER.match(line)
        if found:
            name = b".".join(found.groups()[:2]).decode("utf-8", "replace")
            if name in counters or len(counters) < MAX_COUNTERS:
                counters[name] = counters.get(name, 0) + int(found[3])
        elif line and not line.startswith((b"reporter:status:", b"reporter:counter:")):
            last = line
    return counters, last
