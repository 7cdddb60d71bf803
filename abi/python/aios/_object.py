"""What all objects of this package have in common."""

from types import TracebackType
from typing import TypeVar

from . import errors
from ._native import Owned

_Self = TypeVar("_Self", bound="Object")


class Object:
    """Something of AIOS's that can be closed, and is at the end of a `with` block.

    One that is not is closed when nothing refers to it any more. Closing twice does nothing, and
    using a closed object raises `BadHandle`. What another thread does with it at that moment comes
    to its end first, and so does what was made of it.
    """

    _owned: Owned | None

    def __init__(self, owned: Owned):
        self._owned = owned

    def _native(self) -> Owned:
        owned = self._owned
        if owned is None:
            raise errors.BadHandle(f"this {type(self).__name__} is closed")
        return owned

    @property
    def closed(self) -> bool:
        return self._owned is None

    def close(self) -> None:
        self._owned = None

    def __enter__(self: _Self) -> _Self:
        self._native()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<aios.{type(self).__name__}{' closed' if self.closed else ''}>"
