"""Scripted replies: one as text and as an object, and the list that is looked through."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

VERBS = ("EHLO", "HELO", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "QUIT")
"""The commands that a :class:`Reply` can answer."""
_BARE = {"DATA", "RSET", "QUIT"}
# RFC 5321 section 4.2. A 3xx asks the client for more, which nobody would read here.
_TEXT = re.compile(r"[245][0-5][0-9]( [ -~]*)?")
_REPLY = re.compile(
    r"(?P<verb>[A-Za-z]+)(?: +(?P<match>\S.*?))??(?: +x(?P<times>[0-9]+))?"
    r" *: *(?P<text>[0-9]{3}(?: .*)?)"
)
_EXAMPLE = "RCPT *@bounce.test: 550 5.1.1 No such user"


@dataclass(frozen=True)
class Reply:
    """A scripted reply: ``Reply("RCPT", "550 5.1.1 No such user", match="*@bounce.test")``.

    A 4xx or 5xx refuses: the command does nothing, whatever came before stays. A 421 hangs
    up as well. A 2xx is what success is called: the command does its work, and the text
    takes the place of ``250 OK``. So 2xx to DATA is said when the message is stored, and
    not where storing fails; 4xx or 5xx to DATA comes after the content, and stores nothing.
    2xx to EHLO is the whole answer, which offers no extension.
    """

    verb: str
    """One of :data:`VERBS`, in any case."""
    text: str
    """Code and words, such as ``450 4.2.1 Mailbox busy``; one line of ASCII."""
    match: str | None = None
    """A glob, as :mod:`fnmatch` has it, that ignores case: for MAIL, RCPT and VRFY of the
    address, for EHLO and HELO of the name, for AUTH of the mechanism, for NOOP of the word
    behind it. (smtplib tries one mechanism after the other.)"""
    times: int | None = None
    """How often to say it, on all connections together; None is always."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "verb", self.verb.upper())
        if self.verb not in VERBS:
            raise ValueError(f"the verb {self.verb!r} is none of {', '.join(VERBS)}")
        if not _TEXT.fullmatch(self.text):
            raise ValueError(
                f"the text {self.text!r} is no line of ASCII that begins with a code "
                "2xx, 4xx or 5xx, as in '550 5.1.1 No such user'"
            )
        if self.verb == "AUTH" and not self.refuses:
            raise ValueError("a reply to AUTH refuses (4xx or 5xx): auth=any accepts")
        if self.match is not None and self.verb in _BARE:
            raise ValueError(f"{self.verb} has no argument for {self.match!r} to match")
        if self.times is not None and self.times < 1:
            raise ValueError(f"a reply is said once or more often, not {self.times} times")

    @classmethod
    def parse(cls, text: str) -> Reply:
        """Return the reply that the command line writes ``VERB[ GLOB][ xN]: CODE TEXT``.

        Raises ValueError with an example.
        """
        parts = _REPLY.fullmatch(text)
        if parts is None:
            raise ValueError(f"is VERB[ GLOB][ xN]: CODE TEXT, as in {_EXAMPLE!r}")
        try:
            times = int(parts["times"]) if parts["times"] else None
            return cls(parts["verb"], parts["text"], parts["match"], times)
        except ValueError as error:
            raise ValueError(f"is not right: {error}; an example is {_EXAMPLE!r}") from None

    @property
    def refuses(self) -> bool:
        """Whether this is a 4xx or 5xx."""
        return not self.text.startswith("2")

    def answers(self, verb: str, argument: str | None) -> bool:
        """Return whether this is for *verb* with *argument*."""
        return verb == self.verb and (
            self.match is None
            or fnmatchcase((argument or "").casefold(), self.match.casefold())
        )


class Replies:
    """The replies of a server, in order, and how often each was said.

    The threads of several servers may ask at once, while a test adds replies in its own.
    """

    def __init__(self, replies: Iterable[Reply]) -> None:
        self._entries = [_Entry(reply) for reply in replies]
        self._lock = threading.Lock()

    def next(self, verb: str, argument: str | None) -> Reply | None:
        """Return the first reply to *verb* with *argument* that is still to say; count it."""
        with self._lock:
            for entry in self._entries:
                if entry.said != entry.reply.times and entry.reply.answers(verb, argument):
                    entry.said += 1
                    return entry.reply
        return None

    @property
    def verbs(self) -> set[str]:
        """The commands that have a reply."""
        with self._lock:
            return {entry.reply.verb for entry in self._entries}

    @property
    def unused(self) -> list[Reply]:
        """The replies that were never said."""
        with self._lock:
            return [entry.reply for entry in self._entries if not entry.said]

    @contextmanager
    def preceded_by(self, replies: Iterable[Reply]) -> Iterator[None]:
        """Say *replies* within the block, before all others."""
        added = [_Entry(reply) for reply in replies]
        with self._lock:
            self._entries = added + self._entries
        try:
            yield
        finally:
            with self._lock:
                self._entries = [entry for entry in self._entries if entry not in added]


@dataclass(eq=False)  # two replies that are equal are counted each by itself
class _Entry:
    reply: Reply
    said: int = 0
