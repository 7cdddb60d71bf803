"""What can go wrong: one class for each code of libaios, all of them below `Error`.

A server may raise them as well: `Request` turns one into the answer with that code.
"""

import enum


class Code(enum.IntEnum):
    """The codes of libaios, by number."""

    OK = 0
    INVALID_ARGUMENT = 1
    BAD_HANDLE = 2
    WRONG_TYPE = 3
    DENIED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    QUOTA = 7
    NO_MEMORY = 8
    NO_SPACE = 9
    BUSY = 10
    TIMED_OUT = 11
    PEER_CLOSED = 12
    SERVICE_DOWN = 13
    UNREACHABLE = 14
    NOT_SUPPORTED = 15
    TOO_LARGE = 16
    IO_ERROR = 17
    CORRUPT = 18
    CANCELLED = 19
    CRASHED = 20
    INDETERMINATE = 21
    SOURCE_CHANGED = 22
    PROTOCOL_ERROR = 23
    VERSION_MISMATCH = 24
    INTERNAL = 25
    TOO_LATE = 26


def code_of(number: int) -> int:
    """The `Code` with that number; the number itself where a later library has a new one."""
    try:
        return Code(number)
    except ValueError:
        return number


class Error(Exception):
    """What a call of AIOS failed with; its text says what failed, where, and what to do."""

    code: int = Code.INTERNAL
    taken: int | None = None  # from `Tenant.submit_many`: so many tasks were submitted, the first


class InvalidArgument(Error, ValueError):
    """A value that makes no sense here."""

    code = Code.INVALID_ARGUMENT


class BadHandle(Error):
    """An object that was closed, that a parent process made before a fork, or a void number."""

    code = Code.BAD_HANDLE


class WrongType(Error):
    """What was named is something else."""

    code = Code.WRONG_TYPE


class Denied(Error):
    """Not allowed."""

    code = Code.DENIED


class NotFound(Error):
    """There is nothing of that name."""

    code = Code.NOT_FOUND


class AlreadyExists(Error):
    """The name is taken."""

    code = Code.ALREADY_EXISTS


class Quota(Error):
    """More than this job may have."""

    code = Code.QUOTA


class NoMemory(Error, MemoryError):
    """The machine has no memory left for it."""

    code = Code.NO_MEMORY


class NoSpace(Error):
    """The disk is full."""

    code = Code.NO_SPACE


class Busy(Error):
    """Not now: somebody else is at it."""

    code = Code.BUSY


class TimedOut(Error, TimeoutError):
    """The time was over first. What was asked for may still be done."""

    code = Code.TIMED_OUT


class PeerClosed(Error):
    """The server died during the call: nobody knows whether it was done."""

    code = Code.PEER_CLOSED


class ServiceDown(Error):
    """The server crashed too often, and is not started again."""

    code = Code.SERVICE_DOWN


class Unreachable(Error):
    """No instance of AIOS answers, or the one that was attached to has ended."""

    code = Code.UNREACHABLE


class NotSupported(Error):
    """This machine, or this object, cannot do it."""

    code = Code.NOT_SUPPORTED


class TooLarge(Error):
    """Above a fixed limit."""

    code = Code.TOO_LARGE


class IoError(Error):
    """A file or disk failed."""

    code = Code.IO_ERROR


class Corrupt(Error):
    """Stored bytes are not those that were written."""

    code = Code.CORRUPT


class Cancelled(Error):
    """Somebody ended it before it was done."""

    code = Code.CANCELLED


class Crashed(Error):
    """The code that ran took its process with it."""

    code = Code.CRASHED


class Indeterminate(Error):
    """It may have been done in part."""

    code = Code.INDETERMINATE


class SourceChanged(Error):
    """What was read changed meanwhile."""

    code = Code.SOURCE_CHANGED


class ProtocolError(Error):
    """The other side does not speak the protocol."""

    code = Code.PROTOCOL_ERROR


class VersionMismatch(Error):
    """The other side speaks another version of the protocol."""

    code = Code.VERSION_MISMATCH


class Internal(Error):
    """A defect of AIOS."""

    code = Code.INTERNAL


class TooLate(Error):
    """It would not be done by its deadline, and was not begun."""

    code = Code.TOO_LATE


_CLASSES: dict[int, type[Error]] = {
    kind.code: kind
    for kind in (
        InvalidArgument, BadHandle, WrongType, Denied, NotFound, AlreadyExists, Quota, NoMemory,
        NoSpace, Busy, TimedOut, PeerClosed, ServiceDown, Unreachable, NotSupported, TooLarge,
        IoError, Corrupt, Cancelled, Crashed, Indeterminate, SourceChanged, ProtocolError,
        VersionMismatch, Internal, TooLate)
}


def error_of(code: int, text: str) -> Error:
    """The exception that stands for `code`."""
    error = _CLASSES.get(code, Error)(text)
    error.code = code_of(code)
    return error
