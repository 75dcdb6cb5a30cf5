"""Scripted replies: one as text and as an object, and the list that is looked through."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

VERBS = (
    *("CONNECT", "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA"),
    *("RSET", "NOOP", "VRFY", "QUIT"),
)
"""The commands that a :class:`Reply` can answer; CONNECT stands for the greeting."""
BEFORE, AMID, AFTER = "before", "amid", "after"
"""The moments of DATA: instead of 354, once the content has begun, and behind its end."""
HANG_UP = "hang-up"
"""How a hang-up is written, and how it is told of."""
_BARE = {"CONNECT", "STARTTLS", "RSET", "QUIT"}
# RFC 5321 section 4.2. A 3xx asks the client for more, which nobody would read here.
_TEXT = re.compile(r"[245][0-5][0-9]( [ -~]*(\n[ -~]*)*)?")
_REPLY = re.compile(
    r"(?P<verb>[A-Za-z]+)(?: +(?P<match>\S.*?))??(?: +x(?P<count>[0-9]+)(?P<on>\+)?)?"
    r"(?: +delay=(?P<delay>\S+))? *: *(?P<text>[0-9]{3}(?:[ ;].*)?|hang-up|)"
)
_END = re.compile(r"(?:^|; *)hang-up$")
_FORM = "VERB[ GLOB][ xN|xN+][ delay=SECONDS]: CODE TEXT"
_EXAMPLE = "RCPT *@bounce.test: 550 5.1.1 No such user"
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "verb": ((str,), "a text such as 'RCPT'"),
    "text": ((str,), "a text such as '550 5.1.1 No such user'"),
    "match": ((str, type(None)), "a text such as '*@bounce.test', or None"),
    "times": ((int, type(None)), "a whole number, or None"),
    "delay": ((int, float), "a number of seconds such as 0.5"),
    "hang_up": ((bool,), "True or False"),
    "first": ((int,), "a whole number"),
}
"""What each part of a reply is, for Python and for people."""


@dataclass(frozen=True)
class Reply:
    r"""What a server is told to do at a command of SMTP: an answer, a delay, a hang-up.

    ``Reply("RCPT", "550 5.1.1 No such user", match="*@bounce.test")`` refuses some recipients,
    ``Reply("DATA", hang_up=True)`` never tells whether the message was taken.

    ``verb`` (str)
        The command: EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, RSET, NOOP, VRFY, QUIT, or
        CONNECT for the greeting.
    ``text`` (str)
        The code and the words, such as ``450 4.2.1 Mailbox busy``, in ASCII. Further lines
        follow ``\n``, without a code. Left out, the usual answer is given, after the delay, or
        none before a hang-up.
    ``match`` (str or None)
        A pattern with ``*`` and ``?`` (see :mod:`fnmatch`) for the argument, in any case: the
        address of MAIL, RCPT and VRFY, the name of EHLO and HELO, the mechanism of AUTH, the
        word after NOOP. None matches all. DATA has a moment instead: ``before`` is before the
        content, instead of 354, ``amid`` once its first line has come, ``after`` (and None)
        behind its end. The others have no argument.
    ``times`` (int or None)
        How often to do this, on all connections together. None means always.
    ``delay`` (float)
        The seconds to wait before the answer.
    ``hang_up`` (bool)
        Whether to close the connection then.
    ``first`` (int)
        Which command of those that fit is the first to get it: 2 leaves one alone.

    A code 4xx or 5xx refuses the command, which then does nothing; a message is not stored. So
    does a hang-up without text. 421 closes the connection, too. With a code 2xx the command
    does its work, and ``text`` is said instead of ``250 OK`` if that succeeds. To EHLO a 2xx is
    the whole answer, without any extension. AUTH, STARTTLS and a DATA before its content can
    only be refused; amid the content one can only hang up, or say 421. Behind a greeting that
    is not 220 all but QUIT gets 503.

    Raises TypeError or ValueError, in one sentence that says what is wrong.
    """

    verb: str
    text: str = ""
    match: str | None = None
    times: int | None = None
    delay: float = 0
    hang_up: bool = False
    first: int = 1

    def __post_init__(self) -> None:
        for name, (types, what) in _TYPES.items():
            value = getattr(self, name)
            # A bool is an int to Python, and here a mistake.
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise TypeError(f"{name} is {what}, not {value!r}")
        object.__setattr__(self, "verb", self.verb.upper())
        if problem := self._problem():
            raise ValueError(problem)

    def _problem(self) -> str | None:
        if self.verb not in VERBS:
            return f"the verb is one of {', '.join(VERBS)}, not {self.verb!r}"
        if self.text and not _TEXT.fullmatch(self.text):
            return (
                f"the text {self.text!r} is no ASCII that begins with a code 2xx, 4xx or 5xx, "
                "as in '550 5.1.1 No such user'"
            )
        if not (self.text or self.delay or self.hang_up):
            return "a reply has a text, a delay or a hang-up"
        if self.match is not None and self.verb in _BARE:
            return f"{self.verb} has no argument for {self.match!r} to match"
        if self.verb == "DATA" and self.match not in (None, BEFORE, AMID, AFTER):
            return f"DATA has no argument for {self.match!r} to match, but before, amid, after"
        if self.times is not None and self.times < 1:
            return f"times is how often to say it, 1 or more, not {self.times}"
        if self.first < 1:
            return f"first is the number of a command, 1 or more, not {self.first}"
        if not (self.delay >= 0 and math.isfinite(self.delay)):
            return f"delay is a number of seconds, such as 0.5, not {self.delay}"
        return self._misfit()

    def _misfit(self) -> str | None:
        """Return what is wrong with the text for this very command."""
        is_success = self.text.startswith("2")
        if self.verb == "CONNECT" and is_success and not self.text.startswith("220"):
            return f"a greeting is 220, 4xx or 5xx, not {self.text!r}"
        if self.verb == "AUTH" and is_success:
            return "a reply to AUTH is 4xx or 5xx; auth=any lets everybody in"
        if is_success and (self.verb == "STARTTLS" or self.match == BEFORE):
            return f"{self.verb} can only be refused here, with 4xx or 5xx"
        if self.verb == "DATA" and self.match == AMID and not self.closes:
            return "amid its content DATA has no reply: hang up, or say 421"
        return None

    @classmethod
    def parse(cls, text: str) -> Reply:
        r"""Return the reply that *text* describes, as ``reply=`` has it on the command line.

        That is ``VERB[ GLOB][ xN|xN+][ delay=SECONDS]: CODE TEXT``: ``x2`` is for two times,
        ``x2+`` from the second time on. ``\n`` separates lines. ``hang-up`` stands instead of
        code and text, or behind them and a semicolon. Raises ValueError, in one sentence with
        an example.
        """
        parts = _REPLY.fullmatch(text)
        if parts is None:
            raise ValueError(f"is {_FORM}, as in {_EXAMPLE!r}")
        count = int(parts["count"]) if parts["count"] else None
        said, hang_up = _END.subn("", parts["text"])
        try:
            return cls(
                parts["verb"],
                said.replace("\\n", "\n"),
                parts["match"],
                times=None if parts["on"] else count,
                delay=float(parts["delay"] or 0),
                hang_up=bool(hang_up),
                first=count if parts["on"] and count is not None else 1,
            )
        except ValueError as error:
            raise ValueError(f"is not right: {error}; an example is {_EXAMPLE!r}") from None

    @property
    def refuses(self) -> bool:
        """Whether the command does nothing."""
        return self.text[:1] in ("4", "5") or (self.hang_up and not self.text)

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this."""
        return self.hang_up or self.text.startswith("421")

    @property
    def lines(self) -> str:
        """The text as it goes over the wire, but for the last line end; RFC 5321 4.2.1."""
        first, *more = self.text.split("\n")
        code = first[:3]
        texts = [first[4:], *more]
        return "\r\n".join(
            f"{code}{'-' if number < len(texts) else ' '}{words}" if more or words else code
            for number, words in enumerate(texts, 1)
        )

    def answers(self, verb: str, argument: str | None) -> bool:
        """Tell whether this is the reply to the command *verb* with *argument*."""
        if verb != self.verb:
            return False
        if verb == "DATA":
            return argument == (self.match or AFTER)
        return self.match is None or fnmatchcase(
            (argument or "").casefold(), self.match.casefold()
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
                    entry.asked += 1
                    if entry.asked >= entry.reply.first:
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

    def add(self, replies: Iterable[Reply]) -> Replying:
        """Say *replies* before all others, until what this returns is closed."""
        added = [_Entry(reply) for reply in replies]
        with self._lock:
            self._entries = added + self._entries
        return Replying(self, added)

    def remove(self, entries: list[_Entry]) -> None:
        """Say *entries* no more."""
        with self._lock:
            self._entries = [entry for entry in self._entries if entry not in entries]


class Replying:
    """Replies for a while: until the end of its ``with`` block, or :meth:`close`.

    They are said from the moment when this is made.
    """

    def __init__(self, replies: Replies, entries: list[_Entry]) -> None:
        self._replies = replies
        self._entries = entries

    def __enter__(self) -> Replying:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say the replies no more; again does nothing."""
        self._replies.remove(self._entries)


@dataclass(eq=False)  # two replies that are equal are counted each by itself
class _Entry:
    reply: Reply
    asked: int = 0
    said: int = 0
