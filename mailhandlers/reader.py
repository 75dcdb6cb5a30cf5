"""Reading back: find a message, wait for it, count, filter, clear.

The format of a store is found from its path. Every call looks again.
"""

from __future__ import annotations

import heapq
import itertools
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from . import stores
from .criteria import Criteria, Wanted
from .formats import FormatError
from .message import StoredMessage
from .stores import Entry, GoneError, IsNew, Raw, StoreError
from .watch import Watch

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Inbox", "NoMessageError", "StoreError", "read_latest", "read_messages"]

_E = TypeVar("_E", bound="_Expectation")
_MOST_MISSES = 5
_RECENT = 50
_LONGEST_SHOWN = 200


class NoMessageError(LookupError):
    """No message met the criteria in time; the text says what came instead."""


def read_latest(
    path: str | os.PathLike[str], *, timeout: float = 0, **criteria: Unpack[Wanted]
) -> StoredMessage:
    """Return the newest message of the store at *path* that meets the *criteria*.

    Waits up to *timeout* seconds for one. The criteria are ``to`` (one of the envelope's
    recipients), ``mail_from``, ``subject`` (a string, or a compiled pattern to search),
    ``matching`` (a pattern to search in headers and text) and ``where`` (a function of
    the message). Raises NoMessageError, and StoreError where *path* holds no store.
    """
    return _Search(path, Criteria.of(criteria)).wait(timeout)


def read_messages(
    path: str | os.PathLike[str], **criteria: Unpack[Wanted]
) -> Iterator[StoredMessage]:
    """Yield the messages of the store at *path* that meet the *criteria*, oldest first.

    One message is in memory at a time. Raises StoreError where *path* holds no store.
    """
    wanted = Criteria.of(criteria)
    return _Found(wanted, strict=True).messages(stores.find(path, wanted.to).oldest_first())


class Inbox:
    """A live view of the store at *path*: every call looks again."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def __iter__(self) -> Iterator[StoredMessage]:
        return read_messages(self.path)

    def __len__(self) -> int:
        entries = stores.find(self.path).newest_first()
        return sum(1 for _ in _Found(Criteria(), strict=True).contents(entries))

    def __bool__(self) -> bool:
        return True  # an empty inbox is an inbox

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {os.fspath(self.path)!r}>"

    def latest(self, *, timeout: float = 0, **criteria: Unpack[Wanted]) -> StoredMessage:
        """Return the newest message, as :func:`read_latest` does."""
        return read_latest(self.path, timeout=timeout, **criteria)

    def messages(self, **criteria: Unpack[Wanted]) -> list[StoredMessage]:
        """Return the messages that meet the *criteria*, oldest first."""
        return list(read_messages(self.path, **criteria))

    def expect(self, *, timeout: float = 30, **criteria: Unpack[Wanted]) -> Expected:
        """Return a context whose ``message`` is the first that arrives from its start on.

        Its end waits for it, up to *timeout* seconds, and raises NoMessageError.
        """
        return Expected(self.path, timeout, Criteria.of(criteria))

    def expect_none(self, *, within: float = 1, **criteria: Unpack[Wanted]) -> ExpectedNone:
        """Return a context in which, and *within* seconds after which, no mail may come.

        Its end raises AssertionError as soon as one does.
        """
        return ExpectedNone(self.path, within, Criteria.of(criteria))

    def clear(self) -> None:
        """Remove all messages; the server may run on."""
        stores.find(self.path).clear()


class _Expectation:
    """Mail that arrives after the ``with`` line, and until some time after its block."""

    _entered = False

    def __init__(
        self, path: str | os.PathLike[str], seconds: float, criteria: Criteria
    ) -> None:
        self._seconds = seconds
        self._search = _Search(path, criteria)

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
        raise AssertionError(f"a message came where none was expected: {_line(message)}")


class _Search:
    """A look at a store, repeated until it finds."""

    def __init__(self, path: str | os.PathLike[str], criteria: Criteria) -> None:
        self._path = os.path.abspath(path)
        self._criteria = criteria
        self._only_new: IsNew | None = None

    def skip_present(self) -> None:
        """Take only what arrives from now on."""
        self._only_new = stores.find(self._path).mark()

    def wait(self, timeout: float) -> StoredMessage:
        """Return a message: the newest, or the first new one. Raises NoMessageError."""
        deadline = time.monotonic() + timeout
        watch = Watch(self._path)
        unseen = self._only_new
        first = True
        while True:
            started = time.monotonic()
            if watch.changed() or first:
                first = False
                store = stores.find(self._path, self._criteria.to)
                watch.follow(store.folders)
                # Marked before the look: what comes meanwhile is for the next.
                mark = store.mark() if timeout > 0 else None
                entries = store.newest_first() if unseen is None else store.only(unseen)
                if (message := self._pick(entries)) is not None:
                    return message
                unseen = mark
            now = time.monotonic()
            if now >= deadline:
                raise NoMessageError(self._miss(timeout))
            watch.pause(now - started, deadline)

    def _pick(self, newest_first: Iterator[Entry]) -> StoredMessage | None:
        if self._only_new is None:
            found = _Found(self._criteria, strict=True)
            return next(found.messages(newest_first), None)
        oldest_first = reversed(list(newest_first))
        return next(_Found(self._criteria).messages(oldest_first), None)

    def _miss(self, timeout: float) -> str:
        """Return why there is no message, for somebody who has only this text."""
        store = stores.find(self._path)
        entries = store.newest_first() if self._only_new is None else store.only(self._only_new)
        found = _Found(Criteria())
        others = (
            (self._criteria.count(message), -number, _line(message))
            for number, message in enumerate(found.messages(itertools.islice(entries, _RECENT)))
        )
        misses = [line for _, _, line in heapq.nlargest(_MOST_MISSES, others)]
        text = f"no message in {self._path}"
        if str(self._criteria):
            text += f" with {self._criteria}"
        if self._only_new is not None:
            text += ", arriving from the 'with' line on"
        if timeout:
            text += f", in {timeout:g} s"
        if misses:
            text += "; the nearest misses:" + "".join(f"\n  {line}" for line in misses)
        elif not os.path.exists(self._path):
            text += "; nothing is there yet"
        else:
            text += "; no other came" if self._only_new else "; it is empty"
        if found.first_bad:
            text += f"\nand no message at all: {found.first_bad}"
        return text


class _Found:
    """The messages among entries; what can't be read doesn't hide the rest."""

    def __init__(self, criteria: Criteria, *, strict: bool = False) -> None:
        """*strict* raises StoreError in the end if there was something, but no message."""
        self._criteria = criteria
        self._strict = strict
        self.first_bad = ""

    def messages(self, entries: Iterable[Entry]) -> Iterator[StoredMessage]:
        """Yield the messages that meet the criteria."""
        for raw in self.contents(entries):
            if self._criteria.allow(raw):
                message = raw.parsed()
                del raw  # a generator that waits holds one message, not two
                if self._criteria.match(message):
                    yield message
                del message

    def contents(self, entries: Iterable[Entry]) -> Iterator[Raw]:
        """Yield what can be read."""
        any_good = False
        for entry in entries:
            try:
                raw = entry.read()
            except GoneError:
                continue
            except FormatError as error:
                self.first_bad = self.first_bad or f"{entry.place}: {error}"
                continue
            any_good = True
            yield raw
            del raw
        if self._strict and self.first_bad and not any_good:
            raise StoreError(self.first_bad)


def _line(message: StoredMessage) -> str:
    to = ", ".join(message.envelope.rcpt_tos) if message.envelope else str(message["To"])
    if not to.isprintable():
        to = ascii(to)[1:-1]
    return f"to {_cut(to)}: {_cut(str(message['Subject'] or ''))!r}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
