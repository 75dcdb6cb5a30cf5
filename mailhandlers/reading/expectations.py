"""Mail that is expected: contexts that count only what arrives within them."""

from __future__ import annotations

import os
import warnings
from functools import cached_property
from types import TracebackType
from typing import TypeVar

from .criteria import Criteria
from .message import StoredMessage
from .search import NoMessageError, Search, line_of

_E = TypeVar("_E", bound="_Expectation")


class _Expectation:
    """Mail that arrives after the ``with`` line, and until some time after its block."""

    _entered = False

    def __init__(
        self, path: str | os.PathLike[str], seconds: float, criteria: Criteria
    ) -> None:
        self._seconds = seconds
        self._search = Search(path, criteria)

    def __enter__(self: _E) -> _E:
        self._entered = True
        self._search.skip_present()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish()

    def __del__(self) -> None:
        if not self._entered:
            warnings.warn("expect() and expect_none() need a 'with'", stacklevel=2)

    def _finish(self) -> None:
        raise NotImplementedError


class Expected(_Expectation):
    """The context of :meth:`Inbox.expect`."""

    @cached_property
    def message(self) -> StoredMessage:
        """The first message that came; asking within the block waits for it there."""
        if not self._entered:
            raise RuntimeError("expect() needs a 'with', or it can't tell what is new")
        return self._search.wait(self._seconds)

    def _finish(self) -> None:
        _ = self.message


class ExpectedNone(_Expectation):
    """The context of :meth:`Inbox.expect_none`."""

    def _finish(self) -> None:
        try:
            message = self._search.wait(self._seconds)
        except NoMessageError:
            return
        raise AssertionError(f"a message came where none was expected: {line_of(message)}")
