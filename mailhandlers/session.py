"""What a session says beside storing: AUTH, scripted replies, and its dialogue, recorded.

:class:`Script` turns the options of a handler into hooks of aiosmtpd, and only into those
that an option asks for: where none does, no command costs more than without this module.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, AnyStr, NamedTuple
from weakref import WeakSet

from aiosmtpd.smtp import MISSING, SMTP, LoginPassword, Session, sanitize

from .envelope import Envelope

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

    from .handlers import Handler

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

ACCEPTED = "235 2.7.0 Authentication successful"
REJECTED = "535 5.7.8 Authentication credentials invalid"
_NOT_EMPTIED = "451 4.3.0 Local error in emptying the store, try again later"


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
    address, for EHLO and HELO of the name, for AUTH of the mechanism."""
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
        times = int(parts["times"]) if parts["times"] else None
        try:
            return cls(parts["verb"], parts["text"], parts["match"], times)
        except ValueError as error:
            raise ValueError(f"is as in {_EXAMPLE!r}: {error}") from None

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
        if auth is not None and auth != "any" and not auth.partition(":")[0]:
            raise ValueError("auth is any, or user:password with a user")
        if auth is not None and auth != "any" and ":" not in auth:
            raise ValueError("auth is any, or user:password with a colon between them")
        if not (math.isfinite(delay) and delay >= 0):
            raise ValueError(f"delay={delay} is no number of seconds: try delay=0.5")
        if rset not in (None, "clear"):
            raise ValueError(f"rset={rset} is unknown: rset=clear is the one choice")
        if max_line is not None:
            if max_line < _SHORTEST_LINE:
                raise ValueError(
                    f"max_line={max_line} is too short: RFC 5321 wants {_SHORTEST_LINE} octets"
                )
            SMTP.line_length_limit = max_line
        self._handler = handler
        self._auth = auth
        self._replies = list(replies)
        self._used = [0] * len(self._replies)
        self._delay = delay
        self._begun: WeakSet[Session] = WeakSet()
        self._warned = False
        self._install(handler, clears=rset is not None)

    @property
    def unused_replies(self) -> list[Reply]:
        """The replies that were never said."""
        return [r for r, used in zip(self._replies, self._used, strict=True) if not used]

    def _install(self, handler: Handler, *, clears: bool) -> None:
        """Give *handler* a hook for each command that has something to do."""
        verbs = {reply.verb for reply in self._replies}
        self._offers = self._auth is not None or "AUTH" in verbs
        if self._offers:
            verbs |= {"EHLO", "AUTH"}
        if self._delay:
            verbs |= {"DATA"}
        if clears:
            verbs |= {"EHLO", "HELO", "MAIL", "DATA", "RSET"}
        # What a handler's own class does for a command, storing above all, goes on.
        self._work = {v: h for v in verbs if (h := getattr(handler, f"handle_{v}", None))}
        if self._auth is not None:
            self._work["AUTH"] = self._log_in
        if clears:
            self._work["RSET"] = self._clear
        for verb in verbs:
            hook = self._ehlo if verb == "EHLO" else partial(self._answer, verb)
            setattr(handler, f"handle_{verb}", hook)

    async def _answer(
        self, verb: str, server: SMTP, session: Session, envelope: SMTPEnvelope, *args: Any
    ) -> Any:
        """Carry out *verb*, or refuse to; return the reply, or MISSING for aiosmtpd's."""
        if verb == "MAIL":
            self._begun.add(session)
        reply = self._next(verb, args[0] if args else None)
        if reply is not None and reply.refuses:
            status: Any = reply.text
        else:
            status = await self._carry_out(verb, server, session, envelope, *args)
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
        if "EHLO" in self._work:
            responses = await self._work["EHLO"](server, session, envelope, hostname, responses)
        else:
            session.host_name = hostname
        if reply is not None:
            return [reply.text]
        # Where STARTTLS is required first, so it is of AUTH (RFC 4954 section 4).
        if self._offers and (session.ssl is not None or not server.require_starttls):
            self._warn(server)
            return _offer_auth(server, responses)
        return responses

    def _next(self, verb: str, argument: Any) -> Reply | None:
        """Return the reply to say now, and count it."""
        if verb == "AUTH":
            argument = argument[0]
        for index, reply in enumerate(self._replies):
            if self._used[index] != reply.times and reply.answers(verb, argument):
                self._used[index] += 1
                return reply
        return None

    async def _carry_out(self, verb: str, *args: Any) -> Any:
        work: Callable[..., Awaitable[Any]] | None = self._work.get(verb)
        return MISSING if work is None else await work(*args)

    async def _clear(self, server: SMTP, session: Session, envelope: SMTPEnvelope) -> Any:
        """Empty the store for an RSET that has nothing else to undo."""
        if session in self._begun:
            return MISSING
        try:
            await asyncio.to_thread(self._handler.reset)
        except OSError as error:
            path, cause = error.filename or self._handler.path, error.strerror
            _log.error("%s: %s; the store is not emptied: %s", path, cause, _NOT_EMPTIED)
            return _NOT_EMPTIED
        return MISSING

    async def _log_in(
        self, server: SMTP, session: Session, envelope: SMTPEnvelope, args: list[str]
    ) -> Any:
        """Carry out AUTH PLAIN (RFC 4616) or LOGIN; leave others to aiosmtpd."""
        mechanism = _MECHANISMS.get(args[0].upper())
        if mechanism is None:
            return MISSING
        try:
            login, password = await mechanism(server, *args[1:])
        except _AuthError as error:
            return str(error)
        if self._auth != "any":
            user, _, secret = (self._auth or "").encode().partition(b":")
            known = hmac.compare_digest(login, user)
            # Both are compared whatever the first says: no time tells whether a user exists.
            if not hmac.compare_digest(password, secret) & known:
                return REJECTED
        session.authenticated = True
        # Nobody needs the password any more, and what isn't kept can't be told.
        session.auth_data = LoginPassword(login, b"")  # type: ignore[assignment]
        return ACCEPTED

    def _warn(self, server: SMTP) -> None:
        assert server.transport is not None
        name = server.transport.get_extra_info("sockname")
        if self._auth == "any" and not self._warned and not _is_loopback(name):
            self._warned = True
            _log.warning(
                "auth=any lets everybody in who reaches %s: listen on 127.0.0.1, "
                "or use auth=user:password",
                name[0],
            )


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
    assert server.transport is not None
    server.transport.close()
    # As aiosmtpd ends QUIT: commands already here, as with PIPELINING, get no reply.
    raise asyncio.CancelledError


# AUTH


class _AuthError(Exception):
    """The exchange failed; the reply says how."""


class _AnyCase(dict[str, Any]):
    """The mechanisms by name: RFC 5321 section 2.4 has arguments in any case."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).upper())

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name.upper())


def _offer_auth(server: SMTP, responses: list[str]) -> list[str]:
    """Make *server* take AUTH, in clear too; return the EHLO *responses* that say so.

    aiosmtpd has parameters of SMTP for it, which the command can't set: these two lines
    are all that we touch of what it keeps for itself, and a test tells if they are gone.
    """
    server._auth_require_tls = False
    server._auth_methods = _AnyCase(server._auth_methods)
    if any(line[4:].startswith("AUTH ") for line in responses):
        return responses
    return [responses[0], "250-AUTH " + " ".join(sorted(server._auth_methods)), *responses[1:]]


async def _plain(server: SMTP, initial: str | None = None) -> tuple[bytes, bytes]:
    message = await _ask(server, "") if initial is None else _decoded(initial)
    try:
        _, login, password = message.split(b"\0")
    except ValueError:
        raise _AuthError("501 5.5.2 Can't split auth value") from None
    return login, password


async def _login(server: SMTP, initial: str | None = None) -> tuple[bytes, bytes]:
    username = server.AuthLoginUsernameChallenge
    login = await _ask(server, username) if initial is None else _decoded(initial)
    return login, await _ask(server, server.AuthLoginPasswordChallenge)


_MECHANISMS: dict[str, Callable[..., Awaitable[tuple[bytes, bytes]]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
}


async def _ask(server: SMTP, challenge: str) -> bytes:
    # SMTP.challenge_auth logs an answer that is no base64: it may be a plain password.
    await server.push("334 " + b64encode(challenge.encode()).decode())
    try:
        answer = await server._reader.readline()
    except ValueError:  # its rest must not be taken, and logged, for a command
        raise _AuthError("421 4.7.0 Authentication exchange line is too long") from None
    return _decoded(answer.strip().decode("latin-1"))


def _decoded(text: str) -> bytes:
    if text == "*":
        raise _AuthError("501 5.7.0 Auth aborted")
    try:
        return b64decode("" if text == "=" else text, validate=True)
    except ValueError:
        raise _AuthError("501 5.5.2 Can't decode base64") from None


def _is_loopback(name: Any) -> bool:
    if not isinstance(name, tuple):  # a Unix socket
        return True
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


# The dialogue


class Command(NamedTuple):
    """One command of a client, with the reply it got."""

    verb: str
    """In capitals; what stood where one belongs, if it was none."""
    argument: str
    """The rest of the line, or empty; of AUTH the mechanism only."""
    reply: str
    """Code and words; the lines of a longer one are joined by a line feed."""


class Dialogue:
    """One connection, as it is so far: any thread may read it at any time."""

    def __init__(self) -> None:
        self.peer = ""
        """The client's address, as in :class:`Envelope`, like the four that follow."""
        self.helo = ""
        self.protocol = "SMTP"
        self.tls: str | None = None
        self.auth: str | None = None
        self._commands: list[Command] = []
        self._open: Command | None = None
        self._overlong = False

    @property
    def commands(self) -> list[Command]:
        """What the client said, in order, refused or not, and what it was told."""
        return list(self._commands)

    def __repr__(self) -> str:
        said = "".join(f"\n  {verb} {arg} -> {reply}" for verb, arg, reply in self._commands)
        return f"<Dialogue of {self.peer}, {self.protocol}:{said}>"

    def note(self, facts: Envelope) -> None:
        """Keep what the server knows of the session now."""
        self.peer, self.helo, self.protocol = facts.peer, facts.helo, facts.protocol
        self.tls, self.auth = facts.tls, facts.auth

    @property
    def _is_asked(self) -> bool:
        """Whether the client was told to go on with 334 or 354: no command comes then."""
        return (
            self._open is None and bool(self._commands) and self._commands[-1].reply[0] == "3"
        )

    def hear(self, line: bytes | None) -> None:
        """Note what the client sends; None is the beginning of a line that is too long."""
        if self._is_asked:
            return
        overlong, self._overlong = self._overlong, line is None
        if line is None or overlong:  # no part of it is shown: it may be of any secret
            self._open = Command("", "", "")
            return
        text = sanitize(line).decode("utf-8", "surrogateescape")
        verb, _, argument = text.rstrip("\r\n").partition(" ")
        argument = argument.strip()
        if verb.upper() == "AUTH":
            argument = argument.partition(" ")[0]
        self._open = Command(verb.upper(), argument, "")

    def say(self, reply: str) -> None:
        """Note what the server says, a line or more."""
        if self._open is not None:
            self._commands.append(self._open._replace(reply=reply))
            self._open = None
        elif self._commands:  # else it is the greeting
            *_, last = self._commands
            more = reply if self._is_asked else f"{last.reply}\n{reply}"
            self._commands[-1] = last._replace(reply=more)


class Recorder(list[Dialogue]):
    """The dialogues of a server, oldest first: a list that grows as clients connect.

    ``recorder.smtp(handler, ...)`` makes what a controller's ``factory`` returns.
    Connections through servers that it did not make are not recorded.
    """

    def smtp(self, handler: object, **options: Any) -> SMTP:
        """Return an :class:`aiosmtpd.smtp.SMTP` whose connection will be listed here."""
        return _RecordedSMTP(handler, self, **options)


class _RecordedSMTP(SMTP):
    """A server that tells a :class:`Dialogue` what it hears and says."""

    def __init__(self, handler: object, recorder: Recorder, **options: Any) -> None:
        super().__init__(handler, **options)
        self._recorder = recorder
        self._dialogue = Dialogue()

    def _cb_client_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super()._cb_client_connected(reader, writer)
        self._recorder.append(self._dialogue)
        read = reader.readuntil

        async def readuntil(separator: bytes = b"\n") -> bytes:
            try:
                line = await read(separator)
            except asyncio.LimitOverrunError:
                self._dialogue.hear(None)
                raise
            self._dialogue.hear(line)
            return line

        # Each line comes through here, those too that are refused before any command.
        reader.readuntil = readuntil  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._note()

    async def push(self, status: AnyStr) -> None:
        # First, so that a client that has a reply finds it recorded.
        self._note()
        self._dialogue.say(status if isinstance(status, str) else status.decode())
        await super().push(status)

    def _note(self) -> None:
        assert self.session is not None
        assert self.envelope is not None
        self._dialogue.note(Envelope.of(self, self.session, self.envelope, 0))
