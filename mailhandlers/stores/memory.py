"""What is remembered of the messages in a store: where each is, who sent it, and to whom.

A memory is renewed before each question: that looks at what is new and what is gone, and at
nothing else. Whoever is given an entry reads it anew: a wrong memory shows no wrong message.

Each message has a number, which it keeps as long as the memory lives; a later one has a higher
number. Of each, the gist is kept: its sender and its recipients as JSON, and in a file of many
its id. A message takes 140 to 230 octets in all, and 8 us to look at; to read it takes 30.
"""

from __future__ import annotations

import json
import os
import threading
import time
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from ..mail import Envelope, Mail
from ..message.addresses import comparable
from .store import ANY, Entry, Getter, Memory, Recipients, Sought, Store

TICK = 100_000_000
"""Nanoseconds: two changes within one tick of a file system's clock leave one trace."""

GLANCE = 1 << 12
"""How many octets of a message are read to find its gist."""

UNSURE = "?"
"""The gist of what can't be read now: whoever looks for mail has to try again."""

Status: TypeAlias = int
"""Stands for what the system tells of a file or a folder; 0 where that isn't sure."""


def status_of(path: str) -> Status:
    """Return what changes whenever *path* does; 0 where the next change may not be seen."""
    try:
        status = os.stat(path)
    except OSError:  # there is none, or, on Windows, the name is a device's
        return 0
    return sure(status)


def sure(status: os.stat_result) -> Status:
    """Return what stands for *status*; 0 where the next change may leave no trace."""
    changed, modified = status.st_ctime_ns, status.st_mtime_ns
    now = time.time_ns()
    if abs(now - modified) < TICK or abs(now - changed) < TICK:
        return 0
    return hash((status.st_dev, status.st_ino, status.st_size, modified, changed)) or 1


def gist_of(envelope: Envelope, *, named: bool = False) -> str:
    """Return what :func:`.mail.gist_in` does; the id of another program's message is empty."""
    gist = [envelope.mail_from, envelope.rcpt_tos]
    if named:
        gist.insert(0, envelope.id if envelope.protocol else "")
    return json.dumps(gist)[1:-1]


class Notes(Memory):
    """A memory that keeps the gist of each message that somebody had to look at."""

    def __init__(self, store: Store, end: int = 0) -> None:
        """*end* is where the numbers end: what is noted begins there, and goes down."""
        super().__init__(store)
        self._lock = threading.RLock()
        self._asked: set[str] = set()
        self._indexes: dict[str, _Index] = {}
        self._lowest = end
        self._has_good = False
        self._count = 0
        self._counted: int | None = None  # up to here
        self._unsure: list[int] = []

    @property
    @abstractmethod
    def end(self) -> int:
        """The number that the next message gets."""

    @abstractmethod
    def looked_at(self, before: int) -> Iterator[tuple[int, str]]:
        """Yield the number and the gist of each message before one, the latest first.

        What was not looked at yet is read now.
        """

    @abstractmethod
    def gist(self, number: int) -> str:
        """Return the gist of a message, which is read if need be."""

    @abstractmethod
    def entry(self, number: int) -> Entry:
        """Return the entry of a message."""

    def newest_first(self, sought: Sought = ANY) -> Iterator[Entry]:
        return map(self.entry, self.numbers(sought))

    def oldest_first(self, sought: Sought = ANY) -> Iterator[Entry]:
        return map(self.entry, reversed([*self.numbers(sought)]))

    def holds_mail(self) -> bool:
        return self._has_good

    def count(self) -> tuple[int, Iterator[Entry]]:
        with self._lock:
            before, end = self._counted, self.end
            for number, gist in self.noted(end):
                if before is not None and number < before:
                    break
                if gist == UNSURE:
                    self._unsure.append(number)
                else:
                    self._count += 1
            self._counted = end
            return self._count, map(self.entry, self._unsure)

    def by_recipient(self, read: Callable[[Entry], Iterable[Mail]]) -> dict[str, list[Getter]]:
        found = Recipients()
        for number in reversed([*self.numbers()]):
            gist = self.gist(number)
            if gist == UNSURE:
                recipients = [
                    to for mail in read(self.entry(number)) for to in mail.envelope.rcpt_tos
                ]
            else:
                recipients = json.loads(f"[{gist}]")[-1]
            found.add(recipients, lambda number=number: self.entry(number))  # type: ignore[misc]
        return found.getters

    def noted(self, before: int) -> Iterator[tuple[int, str]]:
        """Yield what :meth:`looked_at` does, and note how far that was."""
        number = before
        try:
            for number, gist in self.looked_at(before):
                if gist != UNSURE:
                    self._has_good = True
                yield number, gist
        finally:
            self._lowest = min(self._lowest, number)

    def numbers(self, sought: Sought = ANY) -> Iterator[int]:
        """Yield the numbers of the messages that may be *sought*, the latest first."""
        if sought == ANY:
            yield from (number for number, _ in self.noted(self.end))
            return
        kind = "mail_from" if sought.to is None else "to"
        key = comparable(sought.to or sought.mail_from or "")
        low, found = self._indexed(kind, key)
        yield from found
        # To decode a gist takes as long as to find it in the file.
        needle = json.dumps(key) if key.isascii() else ""
        for number, gist in self.noted(low):
            lower = gist.lower()
            may_be = needle in lower or "\\" in lower or "xn--" in lower
            if gist == UNSURE or (may_be and key in _keys(kind, gist)):
                yield number

    def _indexed(self, kind: str, key: str) -> tuple[int, list[int]]:
        """Return from which number on messages are indexed, and those of *key*, latest first.

        At the first question none is: to index 20,000 messages takes 50 ms, which a single
        question doesn't need.
        """
        with self._lock:
            if kind not in self._asked:
                self._asked.add(kind)
                return self.end, []
            index = self._indexes.setdefault(kind, _Index(self.end))
            end, lowest = self.end, min(self._lowest, index.low)
            for number in (*range(lowest, index.low), *range(index.end, end)):
                gist = self.gist(number)
                self._has_good = self._has_good or gist != UNSURE
                for each in _keys(kind, gist):
                    index.add(each, number)
            index.low, index.end = lowest, end
            # What another thread adds meanwhile could hide what was there.
            return lowest, sorted({*index.find(key), *index.find(None)}, reverse=True)


def _keys(kind: str, gist: str) -> list[str | None]:
    """Return what a message is looked up by; None is for one of which nothing is known."""
    if gist == UNSURE:
        return [None]
    *_, mail_from, rcpt_tos = json.loads(f"[{gist}]")
    return [*map(comparable, rcpt_tos if kind == "to" else [mail_from])]


class _Index:
    """Numbers by texts, in 16 octets each: a hash table whose chains are arrays."""

    def __init__(self, number: int) -> None:
        self.low = self.end = number
        """Which messages are in it: from the one up to the other."""
        self._heads = array("i", [-1]) * 256
        self._hashes = array("q")
        self._numbers = array("q")
        self._before = array("i")

    def add(self, key: str | None, number: int) -> None:
        """Let *number* be found by *key*."""
        if len(self._numbers) == len(self._heads):
            self._heads = array("i", [-1]) * (2 * len(self._heads))
            self._before = array("i")
            for place, code in enumerate(self._hashes):
                self._chain(code, place)
        code = hash(key)
        self._chain(code, len(self._numbers))
        self._hashes.append(code)
        self._numbers.append(number)

    def _chain(self, code: int, place: int) -> None:
        head = code % len(self._heads)
        self._before.append(self._heads[head])
        self._heads[head] = place

    def find(self, key: str | None) -> Iterator[int]:
        """Yield the numbers of *key*; seldom another one, too."""
        code = hash(key)
        place = self._heads[code % len(self._heads)]
        while place >= 0:
            if self._hashes[place] == code:
                yield self._numbers[place]
            place = self._before[place]
