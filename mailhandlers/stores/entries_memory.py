"""What is remembered of a file of entries."""

from __future__ import annotations

import functools
import itertools
import os
from array import array
from collections.abc import Callable, Iterator

from .entries import EntriesStore, Span, backwards, octets_in
from .memory import Notes, Status, sure
from .store import ANY, Entry, GoneError, Memory, Sought, Store


class EntriesMemory(Notes):
    """What is remembered of the entries of a file that grows at its end.

    It is looked at from its end, as far as somebody asks, and behind what was its end. As long
    as its last entry is where it was, the entries before it are.
    """

    def __init__(self, store: EntriesStore) -> None:
        super().__init__(store)
        self._store = store
        # -1 is the number of the entry that is the last one at the first look.
        self._older = _Noted()
        self._newer = _Noted()
        self._last = store.now()
        self._status = self._last.span.status if self._last else None
        self._state: Status = 0

    def renewed(self, store: Store) -> Memory:
        assert isinstance(store, EntriesStore)
        try:
            status = os.stat(store.path)
        except (FileNotFoundError, NotADirectoryError):
            return store.memory()
        state = sure(status)
        if state and state == self._state:
            return self
        before, last = self._status, self._last
        # What changes and doesn't grow was not appended to: somebody edits it, or marks mail.
        is_edited = (
            before is not None
            and status.st_size == before.st_size
            and status.st_mtime_ns != before.st_mtime_ns
        )
        try:
            file = store.hold()
        except GoneError:
            return store.memory()
        # Another program may append to the last entry, which then is another one.
        if (
            last is None
            or is_edited
            or not last.is_in(file)
            or not store.is_over(file, last.span.end)
        ):
            return store.memory()
        last, starts = store.whole_behind(file, last)
        with self._lock:
            self.store = self._store = store
            self._status, self._state = status, state
            if last is not None:
                self._last = last
                for start in reversed(starts):
                    self._newer.add(start, "")
        return self

    @property
    def end(self) -> int:
        return len(self._newer.starts)

    def newest_first(self, sought: Sought = ANY) -> Iterator[Entry]:
        if sought == ANY:
            return self._store.newest_first()
        memories = self._memories(lambda memory: memory.numbers(sought))
        return map(self._store.entry, self._store.steady(memories))

    def oldest_first(self, sought: Sought = ANY) -> Iterator[Entry]:
        if sought == ANY:
            return self._store.oldest_first()
        memories = self._memories(lambda memory: reversed([*memory.numbers(sought)]))
        return map(self._store.entry, self._store.steady(memories))

    def _memories(
        self, ask: Callable[[EntriesMemory], Iterator[int]]
    ) -> Callable[[], Iterator[Span]]:
        """Return what asks this memory first, and then a new one: the file is written anew."""
        memories = itertools.chain([self], iter(lambda: EntriesMemory(self._store), None))

        def spans() -> Iterator[Span]:
            memory = next(memories)
            return map(memory.span, ask(memory))

        return spans

    def looked_at(self, before: int) -> Iterator[tuple[int, str]]:
        number = before
        while number > -len(self._older.starts):
            number -= 1
            yield number, self.gist(number)
        last = self._last
        if last is None:
            return
        read = functools.partial(octets_in, last.span.file.fileno())
        for start, end in backwards(read, self._start(number), self._store.entry_start):
            number -= 1
            gist = self._store.glance(last.span._replace(start=start, end=end))
            with self._lock:  # another thread may have been here
                if -number > len(self._older.starts):
                    self._older.add(start, gist)
            yield number, gist

    def gist(self, number: int) -> str:
        noted, place = (self._newer, number) if number >= 0 else (self._older, -number - 1)
        if not noted.gists[place]:
            noted.gists[place] = self._store.glance(self.span(number))
        return noted.gists[place]

    def entry(self, number: int) -> Entry:
        return self._store.entry(self.span(number))

    def span(self, number: int) -> Span:
        """Return where an entry is."""
        with self._lock:  # the last one may get another behind it just now
            assert self._last is not None  # else there is no entry
            end = self._start(number + 1) if number + 1 < self.end else self._last.span.end
            return self._last.span._replace(start=self._start(number), end=end)

    def _start(self, number: int) -> int:
        """Return where an entry begins, or where the last one ends."""
        if number < 0:
            return self._older.starts[-number - 1]
        if number < self.end:
            return self._newer.starts[number]
        return self._last.span.end if self._last else 0


class _Noted:
    """Where some entries begin, and the gist of each; empty where it wasn't looked at yet."""

    def __init__(self) -> None:
        self.starts = array("q")
        self.gists: list[str] = []

    def add(self, start: int, gist: str) -> None:
        self.starts.append(start)
        self.gists.append(gist)
