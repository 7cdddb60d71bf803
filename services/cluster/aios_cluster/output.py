"""The output folder of a job, like that of the single-machine engine: parts, manifest.json, and
_SUCCESS when all of it is there and on disk.

Attempts write DIR/_temporary/NAME.ATTEMPT, wherever they run; the driver moves those that won
into place and removes the rest. The folder is on a file system that all hosts share. An attempt
that comes too late finds no _temporary and fails, or writes what nobody looks at.

Until the end a part is in both places, by a link, and the driver keeps a file in _temporary locked: so the next
job there, of any engine, can tell what a driver that was killed has left, and removes it, unless _SUCCESS
says that the output is complete.
"""

import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO

import xxhash

from aios import errors

TEMPORARY, MANIFEST, SUCCESS = "_temporary", "manifest.json", "_SUCCESS"
OWNER = "_owner"  # in TEMPORARY


def part_name(number: int) -> str:
    return f"part-{number:05}"


def attempt_path(folder: str, name: str, attempt: str) -> str:
    return os.path.join(folder, TEMPORARY, f"{name}.{attempt}")


@dataclass(frozen=True)
class Part:
    """What an attempt wrote, to TEMPORARY/name.attempt."""

    name: str
    attempt: str
    size_bytes: int
    xxh3: str


class PartWriter:
    """One attempt at a part. On disk after `finish`, unless it is not to be flushed; removed when that is not
    reached."""

    def __init__(self, folder: str, number: int, attempt: str):
        self._name, self._attempt = part_name(number), attempt
        self._path = attempt_path(folder, self._name, attempt)
        self._hash = xxhash.xxh3_64()
        self._size = 0
        self._finished = False
        self._file: BinaryIO = open(self._path, "xb", buffering=0)

    def write(self, lines: memoryview) -> None:
        self._hash.update(lines)
        self._size += len(lines)
        while lines:
            lines = lines[self._file.write(lines):]

    def finish(self, flush: bool = True) -> Part:
        if flush:
            os.fsync(self._file.fileno())
        self._finished = True
        return Part(self._name, self._attempt, self._size, self._hash.hexdigest())

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()
        if not self._finished:
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass  # the job is over, and everything of it is removed


def _in_use(path: str) -> errors.AlreadyExists:
    return errors.AlreadyExists(f"{path}: another job writes there; name another output folder")


def _lock(owner: int, path: str) -> None:
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise _in_use(path) from None


def _files(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Regular files right below, by what tells them from any other."""
    for entry in os.scandir(path):
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(info.st_mode):
            yield entry.path, (info.st_dev, info.st_ino)


def remove_leftovers(path: str) -> None:
    """Of a job whose driver is gone. `AlreadyExists`: it still runs."""
    temporary = os.path.join(path, TEMPORARY)
    try:
        owner = os.open(os.path.join(temporary, OWNER), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # there is nothing, or it is somebody else's
    try:
        _lock(owner, path)
        if not os.path.lexists(os.path.join(path, SUCCESS)):
            own = {which for _, which in _files(temporary)}
            for file, which in _files(path):
                if which in own:
                    os.unlink(file)
        for entry in list(os.scandir(temporary)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            elif entry.name != OWNER:
                os.unlink(entry.path)
        os.unlink(os.path.join(temporary, OWNER))
        os.rmdir(temporary)
    finally:
        os.close(owner)


class OutputFolder:
    """The driver's side. Leaves nothing of its own behind unless `commit` was reached."""

    def __init__(self, path: str):
        """`AlreadyExists`: there is something in it. `OSError`."""
        self.path = os.path.abspath(path)
        self._published: list[str] = []
        self._committed = False
        try:
            os.mkdir(self.path)
            self._made = True
        except FileExistsError:
            self._made = False
        remove_leftovers(self.path)
        if os.listdir(self.path):
            raise errors.AlreadyExists(
                f"{path}: the output folder is not empty; name another, or empty it first")
        os.mkdir(os.path.join(self.path, TEMPORARY))
        self._owner = os.open(os.path.join(self.path, TEMPORARY, OWNER),
                              os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _lock(self._owner, self.path)

    def temporary(self, *names: str) -> str:
        """A path for what has to lie somewhere until the end."""
        return os.path.join(self.path, TEMPORARY, *names)

    def commit(self, parts: Sequence[Part], facts: dict[str, Any]) -> None:
        """`facts` come before the list of parts in the manifest."""
        for part in parts:
            self._publish(f"{part.name}.{part.attempt}", part.name)
        listed = [{"name": part.name, "bytes": part.size_bytes, "xxh3": part.xxh3}
                  for part in parts]
        self._write(MANIFEST, json.dumps({**facts, "parts": listed}, indent=2) + "\n")
        self._sync()
        self._write(SUCCESS, "")
        self._committed = True
        shutil.rmtree(os.path.join(self.path, TEMPORARY), ignore_errors=True)
        self._sync()

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self.path, TEMPORARY, name), "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._publish(name, name)

    def _publish(self, temporary: str, name: str) -> None:
        # A link, unlike a rename, does not replace what somebody else has put there.
        source, target = os.path.join(self.path, TEMPORARY, temporary), os.path.join(self.path, name)
        os.link(source, target)
        self._published.append(target)

    def _sync(self) -> None:
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if not self._committed:
            self._remove()
        os.close(self._owner)

    def _remove(self) -> None:
        for path in self._published:
            os.unlink(path)
        shutil.rmtree(os.path.join(self.path, TEMPORARY), ignore_errors=True)
        if self._made:
            try:
                os.rmdir(self.path)
            except OSError:
                pass  # somebody else has put something there
