"""What a session says beside storing: scripted replies, a delay, AUTH, an RSET that clears.

:class:`Script` turns the options of a handler into hooks of aiosmtpd, and only into those
that an option asks for: where none does, no command costs more than without this module.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from aiosmtpd.smtp import MISSING, SMTP, Session

from .auth import Auth

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

    from ..handlers import Handler

_log = logging.getLogger("mailhandlers")

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
_SHORTEST_LINE = 1001  # RFC 5321 section 4.5.3.1.6, and the dot that is doubled


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


OPTIONS: dict[str, Callable[[str], Any]] = {
    "auth": str,  # read by Script, which never repeats a password in a message
    "reply": Reply.parse,
    "delay": lambda value: _number(float, value),
    "rset": str,
    "max_line": lambda value: _number(int, value),
}
"""How the command line reads the options of :class:`Script`; ``reply`` may be repeated."""


class Script:
    """What one handler says beside storing.

    *auth* is ``any``, or ``user:password``: AUTH PLAIN and LOGIN are offered (RFC 4954),
    in clear too, and the user's name is recorded. *replies* are looked through for each
    command, and the first that answers it is said. *delay* is waited before each reply to
    a message, in seconds.

    *rset* may be ``clear``: an RSET that has no transaction to give up empties the store.
    smtplib sends RSET by itself after a refused MAIL, RCPT or DATA; it empties nothing,
    since a transaction is one from MAIL on, refused or not, to the message accepted. (But
    a MAIL that aiosmtpd refuses by itself, as one over the server's size, begins none.)

    *max_line* is the longest line let in, in octets with its end (RFC 5321 section
    4.5.3.1.6 has 1,000), for every server of this process.

    Raises ValueError in one sentence for the user.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        auth: str | None = None,
        replies: Iterable[Reply] = (),
        delay: float = 0,
        rset: str | None = None,
        max_line: int | None = None,
    ) -> None:
        if not (math.isfinite(delay) and delay >= 0):
            raise ValueError(f"delay={delay} is no number of seconds: try delay=0.5")
        if rset not in (None, "clear"):
            raise ValueError(f"rset={rset} is unknown: rset=clear is the one choice")
        if max_line is not None and max_line < _SHORTEST_LINE:
            raise ValueError(
                f"max_line={max_line} is too short: RFC 5321 wants {_SHORTEST_LINE} octets"
            )
        self._handler = handler
        self._replies = list(replies)
        self._used = [0] * len(self._replies)
        self._delay = delay
        self._begun: WeakSet[Session] = WeakSet()  # those that a MAIL put in a transaction
        verbs = {reply.verb for reply in self._replies}
        self._auth = None if auth is None and "AUTH" not in verbs else Auth(auth)
        verbs |= {"EHLO", "AUTH"} if self._auth else set()
        verbs |= {"DATA"} if delay else set()
        verbs |= {"EHLO", "HELO", "MAIL", "DATA", "RSET"} if rset else set()
        # What the handler's class does for a command, storing above all, goes on.
        self._work = {v: h for v in verbs if (h := getattr(handler, f"handle_{v}", None))}
        if self._auth and auth is not None:
            self._work["AUTH"] = self._auth.log_in
        if rset:
            self._work["RSET"] = self._clear
        for verb in verbs:
            hook = self._ehlo if verb == "EHLO" else partial(self._answer, verb)
            setattr(handler, f"handle_{verb}", hook)
        if max_line is not None:
            SMTP.line_length_limit = max_line

    @property
    def unused_replies(self) -> list[Reply]:
        """The replies that were never said."""
        return [r for r, used in zip(self._replies, self._used, strict=True) if not used]

    async def _answer(
        self, verb: str, server: SMTP, session: Session, envelope: SMTPEnvelope, *args: Any
    ) -> Any:
        """Carry out *verb*, or refuse to; return the reply, or MISSING for aiosmtpd's."""
        if verb == "MAIL":
            self._begun.add(session)
        reply = self._next(verb, *args)
        if reply is not None and reply.refuses:
            status: Any = reply.text
        else:
            work = self._work.get(verb)
            status = await work(server, session, envelope, *args) if work else MISSING
            if reply is not None and status is MISSING:
                _keep(verb, session, envelope, *args)
            if reply is not None and _is_success(status):
                status = reply.text
        if verb == "DATA":
            await asyncio.sleep(self._delay)
        if verb in ("HELO", "RSET") or (verb == "DATA" and _is_success(status)):
            self._begun.discard(session)
        return await _said(server, status)

    async def _ehlo(
        self,
        server: SMTP,
        session: Session,
        envelope: SMTPEnvelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        """Answer EHLO; aiosmtpd counts the parameters of this hook."""
        self._begun.discard(session)
        reply = self._next("EHLO", hostname)
        if reply is not None and reply.refuses:
            return [await _said(server, reply.text)]
        if work := self._work.get("EHLO"):
            responses = await work(server, session, envelope, hostname, responses)
        else:
            session.host_name = hostname
        if reply is not None:
            return [reply.text]
        return self._auth.offer(server, session, responses) if self._auth else responses

    def _next(self, verb: str, *args: Any) -> Reply | None:
        """Return the reply to say now, and count it."""
        if verb == "AUTH":
            (args,) = args  # the mechanism, and what may follow it
        argument = args[0] if args else None
        for index, reply in enumerate(self._replies):
            if self._used[index] != reply.times and reply.answers(verb, argument):
                self._used[index] += 1
                return reply
        return None

    async def _clear(self, server: SMTP, session: Session, envelope: SMTPEnvelope) -> Any:
        """Empty the store for an RSET that has nothing else to undo."""
        if session in self._begun:
            return MISSING
        reply = await self._handler._empty_store()
        return MISSING if _is_success(reply) else reply


def _number(kind: Callable[[str], Any], value: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise ValueError("is a number") from None


def _is_success(status: Any) -> bool:
    return status is MISSING or str(status).startswith("2")


def _keep(verb: str, session: Session, envelope: SMTPEnvelope, *args: Any) -> None:
    """Keep what aiosmtpd keeps of a command, but not where a hook answers it."""
    if verb == "HELO":
        (session.host_name,) = args
    elif verb == "MAIL":
        envelope.mail_from, options = args
        envelope.mail_options.extend(options)
    elif verb == "RCPT":
        address, options = args
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)


async def _said(server: SMTP, status: Any) -> Any:
    """Return *status* for aiosmtpd to say; a 421 is said here, and ends the connection."""
    if status is MISSING or not status.startswith("421"):
        return status
    await server.push(status)
    # aiosmtpd closes the connection of a session that is cancelled. Commands that are here
    # already, as with PIPELINING (RFC 2920), get no reply.
    raise asyncio.CancelledError
