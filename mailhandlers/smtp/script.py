"""What a session says beside storing: scripted replies, a delay, AUTH, an RSET that clears.

:class:`Script` turns the options of a handler into hooks of aiosmtpd, and only into those
that an option asks for. Those of EHLO and HELO are always there: they set up a connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from aiosmtpd.smtp import MISSING, SMTP, Session

from . import private
from .logins import Auth, Users
from .replies import VERBS, Replies, Reply
from .servers import limit_starttls

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_log = logging.getLogger("mailhandlers")

# RFC 4954 section 5 has AUTH= for every server with AUTH; the others are of RFC 3461.
_PARAMETERS = ("AUTH", "ENVID", "NOTIFY", "ORCPT", "RET")
_LOG_IN_FIRST = "530 5.7.0 Authentication required"  # RFC 4954 section 6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the options say of the session, checked already."""

    auth: str | None
    """``any`` or ``user:password``: who may log in, in clear too (RFC 4954)."""
    auth_required: bool
    """Whether MAIL is refused before a login."""
    replies: Iterable[Reply]
    """Looked through for each command; the first that answers it is said."""
    delay: float
    """The seconds to wait before each reply to a message."""
    rset: str | None
    """With ``clear``, an RSET outside of a transaction empties the store.

    A transaction begins with MAIL, refused or not, and ends when its message is accepted. So
    the RSET that smtplib sends by itself after a refused MAIL, RCPT or DATA empties nothing. (A
    MAIL that aiosmtpd itself refuses, such as one over its size, begins none.)
    """
    max_line: int | None
    """The longest line let in, in octets with its end (RFC 5321 has 1,000)."""


class Script:
    """What one handler says beside storing, as *settings* have it.

    *empty_store* is called for ``rset=clear``; it returns the reply.
    """

    def __init__(
        self,
        handler: object,
        settings: Settings,
        empty_store: Callable[[], Awaitable[str]],
    ) -> None:
        self._handler = handler
        self._settings = settings
        self._empty_store = empty_store
        self._replies = Replies(settings.replies)
        self.on_refusal: Callable[[str], None] | None = None
        """Called with a line for each command that a scripted reply refused."""
        self._auth = Auth(None if settings.auth is None else Users(settings.auth))
        self._begun: WeakSet[Session] = WeakSet()  # those that a MAIL put in a transaction
        self._without_smtputf8: WeakSet[SMTP] = WeakSet()
        self._work: dict[str, Callable[..., Awaitable[Any]]] = {}
        if settings.auth is not None:
            self._work["AUTH"] = self._auth.log_in
            self.hook("AUTH")
        if settings.auth_required:
            self.hook("MAIL")
        if settings.delay:
            self.hook("DATA")
        if settings.rset:
            self._work["RSET"] = self._clear
            self.hook("MAIL", "DATA", "RSET")
        self.hook("EHLO", "HELO", *self._replies.verbs)

    def hook(self, *verbs: str) -> None:
        """Answer *verbs*, all where none is named, on connections made from now on.

        aiosmtpd looks for hooks when a connection is made.
        """
        for verb in verbs or VERBS:
            name = f"handle_{verb}"
            # What the handler's class does for a command, storing above all, goes on.
            if name in vars(self._handler):
                continue
            if work := getattr(self._handler, name, None):
                self._work.setdefault(verb, work)
            hook: Any = partial(self._ehlo if verb == "EHLO" else self._answer, verb)
            if verb == "EHLO":
                # aiosmtpd asks for it at each connection: 2 us, and 16 to 35 without.
                hook.__signature__ = inspect.signature(hook)
            setattr(self._handler, name, hook)

    def replying(self, *replies: Reply) -> AbstractContextManager[None]:
        """Say *replies* within the block, before all others; any thread may do this.

        A connection that was made before hears those to commands that were answered then:
        call :meth:`hook` first for all.
        """
        if replies:
            self.hook(*{reply.verb for reply in replies})
        return self._replies.preceded_by(replies)

    @property
    def unused_replies(self) -> list[Reply]:
        """The replies that were never said."""
        return self._replies.unused

    @property
    def _offers_auth(self) -> bool:
        return self._settings.auth is not None or "AUTH" in self._replies.verbs

    async def _answer(
        self, verb: str, server: SMTP, session: Session, envelope: SMTPEnvelope, *args: Any
    ) -> Any:
        """Carry out *verb*, or refuse to; return the reply, or MISSING for aiosmtpd's."""
        if verb == "HELO":
            self._prepare(server)
        if verb == "MAIL":
            self._begun.add(session)
            if self._settings.auth_required and not session.authenticated:
                return _LOG_IN_FIRST
        reply = self._next(verb, *args)
        if reply is not None and reply.refuses:
            status: Any = reply.text
            if self.on_refusal is not None:
                self.on_refusal(f"refused {verb} {args[0] if args else ''}: {reply.text}")
        else:
            work = self._work.get(verb)
            status = await work(server, session, envelope, *args) if work else MISSING
            if reply is not None and status is MISSING:
                _keep(verb, session, envelope, *args)
            if reply is not None and _is_success(status):
                status = reply.text
        if verb == "DATA":
            await asyncio.sleep(self._settings.delay)
        if verb in ("HELO", "RSET") or (verb == "DATA" and _is_success(status)):
            self._begun.discard(session)
        return await _said(server, status)

    async def _ehlo(
        self,
        verb: str,
        server: SMTP,
        session: Session,
        envelope: SMTPEnvelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        """Answer EHLO; aiosmtpd counts the parameters of this hook."""
        self._prepare(server)
        self._begun.discard(session)
        reply = self._next(verb, hostname)
        if reply is not None and reply.refuses:
            return [await _said(server, reply.text)]
        if work := self._work.get(verb):
            responses = await work(server, session, envelope, hostname, responses)
        else:
            session.host_name = hostname
        if reply is not None:
            return [reply.text]
        if self._offers_auth:
            responses = self._auth.offer(server, session, responses)
        if server in self._without_smtputf8:
            responses = [line for line in responses if line[4:] != "SMTPUTF8"]
        return responses

    def _prepare(self, server: SMTP) -> None:
        """Set up *server* for its connection: no message comes before EHLO or HELO."""
        private.let_in_parameters(server, _PARAMETERS)
        private.let_in_addresses(server)
        limit_starttls(server)
        # aiosmtpd's own end in a NUL, on which clients in Go give up.
        server.AuthLoginUsernameChallenge = "Username:"
        server.AuthLoginPasswordChallenge = "Password:"
        if not server.enable_SMTPUTF8:
            # Else a UTF-8 address gets "500 strict ASCII mode". To offer it is for -u.
            server.enable_SMTPUTF8 = True
            self._without_smtputf8.add(server)
        if self._settings.max_line is not None:
            private.let_in_lines(server, self._settings.max_line)

    def _next(self, verb: str, *args: Any) -> Reply | None:
        if verb == "AUTH":
            (args,) = args  # the mechanism, and what may follow it
        return self._replies.next(verb, args[0] if args else None)

    async def _clear(self, server: SMTP, session: Session, envelope: SMTPEnvelope) -> Any:
        """Empty the store for an RSET that has nothing else to undo."""
        if session in self._begun:
            return MISSING
        reply = await self._empty_store()
        return MISSING if _is_success(reply) else reply


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
