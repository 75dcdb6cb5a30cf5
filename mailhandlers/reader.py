"""Reading back: find a message, wait for it, count, filter, clear.

The format of a store is found from its path. Every call looks again.
"""

from __future__ import annotations

import heapq
import itertools
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar

from . import stores
from .formats import FormatError
from .message import StoredMessage
from .stores import Entry, GoneError, Raw, Store, StoreError

__all__ = ["Inbox", "NoMessageError", "StoreError", "read_latest", "read_messages"]

_E = TypeVar("_E", bound="_Expectation")
_SHORTEST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25
_LOOK_SHARE = 0.005  # of a core, for looking
_MOST_MISSES = 5
_RECENT = 50


class NoMessageError(LookupError):
    """No message met the criteria in time; the text says what came instead."""


@dataclass(frozen=True)
class Criteria:
    """What a message must be. None asks for nothing."""

    to: str | None = None
    """One of the envelope's recipients, ignoring case."""
    mail_from: str | None = None
    """The reverse-path, ignoring case; empty for a bounce."""
    subject: str | re.Pattern[str] | None = None
    """The subject, or a pattern to search in it."""
    matching: str | re.Pattern[str] | None = None
    """A regular expression to search in the decoded headers and text."""
    where: Callable[[StoredMessage], object] | None = None
    """A function that is true of the message."""

    def allow(self, raw: Raw) -> bool:
        """Tell what the envelope alone can tell, before the content is parsed."""
        return all(self._of_envelope(raw))

    def match(self, message: StoredMessage) -> bool:
        """Tell whether *message*, which :meth:`allow` allows, meets the rest."""
        return all(self._of_message(message))

    def count(self, message: StoredMessage) -> int:
        """Return how many criteria *message* meets: the nearest miss meets the most."""
        raw = Raw(message.envelope, message.original_content)
        return sum(self._of_envelope(raw)) + sum(self._of_message(message))

    def __str__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ", ".join(
            f"{name}={value.pattern if isinstance(value, re.Pattern) else value!r}"
            for name, value in given
            if value is not None
        )

    def _of_envelope(self, raw: Raw) -> Iterator[bool]:
        envelope = raw.envelope
        if self.to is not None:
            to = self.to.casefold()
            yield envelope is not None and to in map(str.casefold, envelope.rcpt_tos)
        if self.mail_from is not None:
            mail_from = self.mail_from.casefold()
            yield envelope is not None and mail_from == envelope.mail_from.casefold()

    def _of_message(self, message: StoredMessage) -> Iterator[bool]:
        if isinstance(self.subject, re.Pattern):
            yield self.subject.search(_subject(message)) is not None
        elif self.subject is not None:
            yield self.subject == _subject(message)
        if self.matching is not None:
            headers = "".join(f"{name}: {value}\n" for name, value in message.items())
            shown = f"{headers}\n{message.text or message.html}"
            yield re.search(self.matching, shown) is not None
        if self.where is not None:
            yield bool(self.where(message))


def read_latest(
    path: str | os.PathLike[str], *, timeout: float = 0, **criteria: Any
) -> StoredMessage:
    """Return the newest message of the store at *path* that meets the *criteria*.

    Waits up to *timeout* seconds for one. The criteria are those of :class:`Criteria`:
    ``to``, ``mail_from``, ``subject``, ``matching``, ``where``. Raises NoMessageError,
    and StoreError where *path* holds no store.
    """
    return _Search(path, Criteria(**criteria)).wait(timeout)


def read_messages(path: str | os.PathLike[str], **criteria: Any) -> Iterator[StoredMessage]:
    """Yield the messages of the store at *path* that meet the *criteria*, oldest first.

    One message is in memory at a time. Raises StoreError where *path* holds no store.
    """
    wanted = Criteria(**criteria)
    return _matching(stores.find(path, wanted.to).oldest_first(), wanted, strict=True)


class Inbox:
    """A live view of the store at *path*: every call looks again."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def __iter__(self) -> Iterator[StoredMessage]:
        return read_messages(self.path)

    def __len__(self) -> int:
        return sum(1 for _ in read_messages(self.path))

    def __bool__(self) -> bool:
        return True  # an empty inbox is an inbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {os.fspath(self.path)!r}>"

    def latest(self, *, timeout: float = 0, **criteria: Any) -> StoredMessage:
        """Return the newest message, as :func:`read_latest` does."""
        return read_latest(self.path, timeout=timeout, **criteria)

    def messages(self, **criteria: Any) -> list[StoredMessage]:
        """Return the messages that meet the *criteria*, oldest first."""
        return list(read_messages(self.path, **criteria))

    def expect(self, *, timeout: float = 30, **criteria: Any) -> Expected:
        """Return a context whose ``message`` is the first that arrives from its start on.

        Its end waits for it, up to *timeout* seconds, and raises NoMessageError.
        """
        return Expected(self.path, timeout, Criteria(**criteria))

    def expect_none(self, *, within: float = 1, **criteria: Any) -> ExpectedNone:
        """Return a context in which, and *within* seconds after which, no mail may come.

        Its end raises AssertionError as soon as one does.
        """
        return ExpectedNone(self.path, within, Criteria(**criteria))

    def clear(self) -> None:
        """Remove all messages; the server may run on."""
        stores.find(self.path).clear()


class _Expectation:
    """Mail that arrives after the ``with`` line, and until some time after its block."""

    def __init__(
        self, path: str | os.PathLike[str], seconds: float, criteria: Criteria
    ) -> None:
        self._seconds = seconds
        self._search = _Search(path, criteria)
        self._entered = False

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
        raise AssertionError(f"a message came where none was expected: {_line(message)}")


class _Search:
    """A look at a store, repeated until it finds."""

    def __init__(self, path: str | os.PathLike[str], criteria: Criteria) -> None:
        self._path = os.path.abspath(path)
        self._criteria = criteria
        self._only_new: Callable[[Entry], bool] | None = None

    def skip_present(self) -> None:
        """Take only what arrives from now on."""
        self._only_new = stores.find(self._path, self._criteria.to).mark()

    def wait(self, timeout: float) -> StoredMessage:
        """Return a message: the newest, or the first new one. Raises NoMessageError."""
        deadline = time.monotonic() + timeout
        unseen = self._only_new
        before = None
        while True:
            started = time.monotonic()
            state = stores.state(self._path)
            if state != before or stores.is_fresh(state):
                before = state
                store = stores.find(self._path, self._criteria.to)
                # Marked before the look: what comes meanwhile is for the next.
                mark = store.mark() if timeout > 0 else None
                if message := self._look(store, unseen):
                    return message
                unseen = mark
            now = time.monotonic()
            if now >= deadline:
                raise self._error(timeout)
            pause = min(max((now - started) / _LOOK_SHARE, _SHORTEST_PAUSE), _LONGEST_PAUSE)
            time.sleep(min(pause, deadline - now))

    def _look(
        self, store: Store, unseen: Callable[[Entry], bool] | None
    ) -> StoredMessage | None:
        if unseen is None:
            entries = store.newest_first()
            return next(_matching(entries, self._criteria, strict=True), None)
        entries = store.only(unseen)
        if self._only_new is not None:
            entries = reversed(list(entries))
        return next(_matching(entries, self._criteria), None)

    def _error(self, timeout: float) -> NoMessageError:
        store = stores.find(self._path)
        entries = store.newest_first() if self._only_new is None else store.only(self._only_new)
        others = list(_matching(itertools.islice(entries, _RECENT), Criteria()))
        misses = heapq.nlargest(_MOST_MISSES, others, key=self._criteria.count)
        text = f"no message in {self._path}"
        if str(self._criteria):
            text += f" with {self._criteria}"
        if self._only_new is not None:
            text += ", arriving from the 'with' line on"
        if timeout:
            text += f", in {timeout:g} s"
        if misses:
            text += "; the nearest misses:" + "".join(f"\n  {_line(miss)}" for miss in misses)
        else:
            text += (
                "; no other came" if os.path.exists(self._path) else "; nothing is there yet"
            )
        return NoMessageError(text)


def _matching(
    entries: Iterable[Entry], criteria: Criteria, *, strict: bool = False
) -> Iterator[StoredMessage]:
    """Yield what meets the *criteria*; what can't be read doesn't hide the rest.

    Raises StoreError in the end if *strict* and there was something, but no message.
    """
    any_good = False
    first_bad = None
    for entry in entries:
        try:
            raw = entry.read()
        except GoneError:
            continue
        except FormatError as error:
            first_bad = first_bad or f"{entry.place}: {error}"
            continue
        any_good = True
        if criteria.allow(raw):
            message = raw.parsed()
            if criteria.match(message):
                yield message
    if strict and first_bad and not any_good:
        raise StoreError(first_bad)


def _subject(message: StoredMessage) -> str:
    return str(message["Subject"] or "")


def _line(message: StoredMessage) -> str:
    to = ", ".join(message.envelope.rcpt_tos) if message.envelope else str(message["To"])
    return f"to {to}: {_subject(message)!r}"
