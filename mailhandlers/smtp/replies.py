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
    """An answer that a server is told to give to a command of SMTP.

    ``Reply("RCPT", "550 5.1.1 No such user", match="*@bounce.test")`` refuses some recipients.

    ``verb`` (str)
        The command: EHLO, HELO, AUTH, MAIL, RCPT, DATA, RSET, NOOP, VRFY or QUIT.
    ``text`` (str)
        The code and the words, such as ``450 4.2.1 Mailbox busy``: one line of ASCII.
    ``match`` (str or None)
        A pattern with ``*`` and ``?`` (see :mod:`fnmatch`) for the argument, in any case: the
        address of MAIL, RCPT and VRFY, the name of EHLO and HELO, the mechanism of AUTH, the
        word after NOOP. None matches all. DATA, RSET and QUIT have no argument.
    ``times`` (int or None)
        How often to give this answer, on all connections together. None means always.

    A code 4xx or 5xx refuses the command, which then does nothing; for DATA it comes after the
    content, which is not stored. 421 also closes the connection. With a code 2xx the command
    does its work, and ``text`` is said instead of ``250 OK`` if that succeeds. To EHLO a 2xx is
    the whole answer, without any extension. AUTH can only be refused.

    Raises ValueError, in one sentence that says what is wrong.
    """

    verb: str
    text: str
    match: str | None = None
    times: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "verb", self.verb.upper())
        if self.verb not in VERBS:
            raise ValueError(f"the verb is one of {', '.join(VERBS)}, not {self.verb!r}")
        if not _TEXT.fullmatch(self.text):
            raise ValueError(
                f"the text {self.text!r} is no line of ASCII that begins with a code "
                "2xx, 4xx or 5xx, as in '550 5.1.1 No such user'"
            )
        if self.verb == "AUTH" and not self.refuses:
            raise ValueError("a reply to AUTH is 4xx or 5xx; auth=any lets everybody in")
        if self.match is not None and self.verb in _BARE:
            raise ValueError(f"{self.verb} has no argument for {self.match!r} to match")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is how often to say it, 1 or more, not {self.times}")

    @classmethod
    def parse(cls, text: str) -> Reply:
        """Return the reply that *text* describes: ``VERB[ GLOB][ xN]: CODE TEXT``.

        This is how the option ``reply=`` is written on the command line. Raises ValueError,
        in one sentence with an example.
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
        """Whether the code is 4xx or 5xx."""
        return not self.text.startswith("2")

    def answers(self, verb: str, argument: str | None) -> bool:
        """Tell whether this is the reply to the command *verb* with *argument*."""
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
