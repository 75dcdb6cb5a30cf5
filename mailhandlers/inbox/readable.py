"""The mail of a store that can be read. What can't be read hides no other, and is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..block import FormatError
from ..disk import log
from ..mail import Mail
from ..message.visible import visible_line
from ..stores.store import Entry, GoneError, StoreError


class LeftOut:
    """What is left out of a store, on the log of this package: once for each file."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, entry: Entry, reason: str) -> None:
        """Say that *entry* is left out, and the *reason*, unless its file was said already."""
        if entry.file not in self._said:
            self._said.add(entry.file)
            # A client may have named the file.
            log().warning("%s; it is left out", visible_line(f"{entry.place}: {reason}"))


class Mails:
    """The mail that can be read of some entries."""

    def __init__(
        self,
        entries: Iterable[Entry],
        left_out: LeftOut | None,
        *,
        strict: bool = False,
        elsewhere: Callable[[], bool] = bool,
    ) -> None:
        """*left_out* is told what can't be read; None is for who says it in another way.

        *strict* raises StoreError in the end if there was something, but no message;
        *elsewhere* tells then whether there is one that is not among the entries.
        """
        self._entries = entries
        self._left_out = left_out
        self._strict = strict
        self._elsewhere = elsewhere
        self.first_bad = ""
        """Where the first entry that can't be read stands, and why it can't; or empty."""

    def __iter__(self) -> Iterator[Mail]:
        for _, mail in self.with_entries():
            yield mail
            del mail

    def with_entries(self) -> Iterator[tuple[Entry, Mail]]:
        """Yield each entry that can be read, and its mail."""
        unsaid: list[tuple[Entry, str]] = []  # as long as an error may say it
        may_raise = self._strict
        for entry in self._entries:
            mail = None
            try:
                mail = entry.read()
            except GoneError:
                continue
            except FormatError as error:
                self.first_bad = self.first_bad or f"{entry.place}: {error}"
                unsaid.append((entry, str(error)))
            if mail is not None or not may_raise:
                may_raise = False
                self._say(unsaid)
            if mail is not None:
                yield entry, mail
            del mail  # a generator that waits holds one message, not two
        if unsaid and not self._elsewhere():
            raise StoreError(self.first_bad)
        self._say(unsaid)

    def _say(self, unsaid: list[tuple[Entry, str]]) -> None:
        if self._left_out is not None:
            for entry, reason in unsaid:
                self._left_out.say(entry, reason)
        unsaid.clear()
