"""What a session says beside storing: scripted replies, a delay, AUTH, an RSET that clears.

:class:`Script` turns the options of a handler into hooks of aiosmtpd, and only into those
that an option asks for. Those of EHLO and HELO are always there: they set up a connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from aiosmtpd.smtp import MISSING, SMTP, Session

from . import private
from .dialogue import note_hang_up, tell_refusals
from .grammar import begins_with_path
from .logins import Auth, Users
from .replies import AFTER, AMID, BEFORE, VERBS, Replies, Reply, Replying
from .servers import send_at_once
from .tls import limit_starttls

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_log = logging.getLogger("mailhandlers")

# RFC 4954 section 5 has AUTH= for every server with AUTH; the others are of RFC 3461.
_PARAMETERS = ("AUTH", "ENVID", "NOTIFY", "ORCPT", "RET")
_NO_ADDRESS = "553 5.1.3 This is no address (RFC 5321 section 4.1.2)"
_NOT_ASCII = "553 5.6.7 The address is not ASCII, and MAIL has no SMTPUTF8 (RFC 6531)"
_NO_SERVICE = "503 5.5.1 No mail is taken here, say QUIT (RFC 5321 section 3.1)"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the options say of the session, checked already."""

    auth: str | None
    """``any`` or ``user:password``: who may log in, in clear too (RFC 4954)."""
    auth_required: bool
    """Whether MAIL and all that follows is refused before a login (RFC 4954 section 6)."""
    auth_tls: bool
    """Whether AUTH is refused, and not offered, without TLS."""
    strict: bool
    """Whether an address is refused that the grammar of RFC 5321 doesn't know."""
    replies: Iterable[Reply]
    """Looked through for each command; the first that answers it is said."""
    delay: float
    """The seconds to wait before each reply to a message."""
    rset: str | None
    """With ``clear``, an RSET outside of a transaction empties the store.

    A transaction begins with MAIL, refused or not, and ends when its message is accepted. So
    the RSET that smtplib sends by itself after a refused MAIL, RCPT or DATA empties nothing.
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
        self.on_refusal: Callable[[str, str], None] | None = None
        """Called for each command that is refused: with the peer, and both in a line."""
        self.greets = False
        """Whether all servers tell :meth:`begin`, as those of aiosmtpd itself don't."""
        users = None if settings.auth is None else Users(settings.auth)
        self._auth = Auth(users, settings.auth_tls)
        self._scripted: set[str] = set()
        self._known: WeakSet[SMTP] = WeakSet()
        self._begun: WeakSet[Session] = WeakSet()  # those that a MAIL put in a transaction
        self._without_smtputf8: WeakSet[SMTP] = WeakSet()
        self._work: dict[str, Callable[..., Awaitable[Any]]] = {}
        if settings.auth is not None:
            self._work["AUTH"] = self._auth.log_in
            self.hook("AUTH")
        if settings.strict:
            self.hook("MAIL", "RCPT")
        if settings.delay:
            self.hook("DATA")
        if settings.rset:
            self._work["RSET"] = self._clear
            self.hook("DATA", "RSET")
        self.hook("EHLO", "HELO", *self._replies.verbs)

    def hook(self, *verbs: str) -> None:
        """Answer *verbs*, all where none is named, on connections made from now on.

        aiosmtpd looks for hooks when a connection is made.
        """
        for verb in verbs or VERBS:
            self._scripted.add(verb)
            if verb in ("CONNECT", "STARTTLS"):  # no hooks of aiosmtpd
                continue
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

    def replying(self, *replies: Reply) -> Replying:
        """Say *replies* before all others, until what this returns is closed, in any thread.

        A connection that was made before hears those to commands that were answered then:
        call :meth:`hook` first for all.
        """
        if replies:
            self.hook(*{reply.verb for reply in replies})
        replying = self._replies.add(replies)
        try:
            self.check_greeting()
        except ValueError:
            replying.close()
            raise
        return replying

    def check_greeting(self) -> None:
        """Raise ValueError where a reply to CONNECT would never be said.

        A Controller of aiosmtpd greets before it asks its handler anything.
        """
        if "CONNECT" in self._replies.verbs and not self.greets:
            raise ValueError(
                "a Controller of aiosmtpd can't be told how to greet: "
                "take a MailCatcher, or the command, for a reply to CONNECT"
            )

    def begin(self, server: SMTP) -> None:
        """Set up *server* for what comes before EHLO, or has no hook; again does nothing."""
        if server in self._known:
            return
        self._known.add(server)
        if self.on_refusal is not None:
            tell_refusals(server, self.on_refusal)
        limit_starttls(server)
        if "CONNECT" in self._scripted and server.transport is None:
            private.greet(server, partial(self._greet, server))
        if "STARTTLS" in self._scripted:
            private.before_command(server, "STARTTLS", partial(self._before_starttls, server))
        if "DATA" in self._scripted:
            private.before_command(server, "DATA", partial(self._before_content, server))
        if self._settings.rset:
            private.before_command(server, "MAIL", partial(self._before_mail, server))

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
        argument = _argument(verb, args)
        reply = None
        status: Any = self._fault(verb, envelope, *args) if self._settings.strict else None
        if status is None:
            reply = self._replies.next(verb, argument)
            if reply is not None and reply.refuses:
                status = reply.lines
        if status is None:
            work = self._work.get(verb)
            status = await work(server, session, envelope, *args) if work else MISSING
            if reply is not None and status is MISSING and reply.text:
                _keep(verb, session, envelope, *args)
            if reply is not None and _is_success(status):
                status = reply.lines or status
        if verb == "DATA":
            await asyncio.sleep(self._settings.delay)
        if verb in ("HELO", "RSET") or (verb == "DATA" and _is_success(status)):
            self._begun.discard(session)
        return await _said(server, status, reply)

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
        reply = self._replies.next(verb, hostname)
        if reply is not None and reply.refuses:
            return [await _said(server, reply.lines, reply)]
        if work := self._work.get(verb):
            responses = await work(server, session, envelope, hostname, responses)
        else:
            session.host_name = hostname
        if reply is not None and reply.text:
            return [await _said(server, reply.lines, reply)]
        if self._offers_auth:
            responses = self._auth.offer(server, session, responses)
        if server in self._without_smtputf8:
            responses = [line for line in responses if line[4:] != "SMTPUTF8"]
        await _said(server, "", reply)
        return responses

    async def _greet(self, server: SMTP, usual: str) -> str:
        """Return the greeting; where it is none, all that follows but QUIT gets 503."""
        reply = self._replies.next("CONNECT", None)
        if reply is None:
            return usual
        if reply.refuses:

            async def refuse() -> str:
                return _NO_SERVICE

            for verb in private.verbs(server) - {"QUIT"}:
                private.before_command(server, verb, refuse)
        try:
            said = reply.lines if reply.text or reply.hang_up else usual
            return str(await _said(server, said, reply))
        except asyncio.CancelledError:  # aiosmtpd closes no connection that it never greeted
            if server.transport is not None:
                server.transport.close()
            raise

    async def _before_starttls(self, server: SMTP) -> str | None:
        """Return the reply to STARTTLS, or None for aiosmtpd's."""
        return await self._carry_out(server, "STARTTLS", self._replies.next("STARTTLS", None))

    async def _before_content(self, server: SMTP) -> str | None:
        """Return the reply to DATA that takes the place of 354, or None."""
        assert server.envelope is not None
        if not server.envelope.rcpt_tos:
            return None  # aiosmtpd refuses it
        status = await self._carry_out(server, "DATA", self._replies.next("DATA", BEFORE))
        if status is None and (amid := self._replies.next("DATA", AMID)) is not None:
            private.once_content_begins(server, partial(self._carry_out, server, "DATA", amid))
        return status

    async def _before_mail(self, server: SMTP) -> None:
        """Note that a transaction begins, whatever is said to it."""
        assert server.session is not None
        self._begun.add(server.session)

    async def _carry_out(self, server: SMTP, verb: str, reply: Reply | None) -> str | None:
        """Return what a *reply* that no hook gives says, if it says anything."""
        if reply is None:
            return None
        return await _said(server, reply.lines, reply) or None

    def _fault(self, verb: str, envelope: SMTPEnvelope, *args: Any) -> str | None:
        """Return the reply to an address that is none; aiosmtpd has refused most."""
        if verb not in ("MAIL", "RCPT"):
            return None
        if verb == "RCPT" and args[0] == "<>":
            return _NO_ADDRESS
        return None if args[0].isascii() or envelope.smtp_utf8 else _NOT_ASCII

    def _prepare(self, server: SMTP) -> None:
        """Set up *server* for its connection: no message comes before EHLO or HELO."""
        self.begin(server)
        send_at_once(server)
        private.let_in_parameters(server, _PARAMETERS)
        private.let_in_addresses(server, begins_with_path if self._settings.strict else None)
        if self._settings.auth_required:
            private.require_login(server)
        # aiosmtpd's own end in a NUL, on which clients in Go give up.
        server.AuthLoginUsernameChallenge = "Username:"
        server.AuthLoginPasswordChallenge = "Password:"
        if not server.enable_SMTPUTF8:
            # Else a UTF-8 address gets "500 strict ASCII mode". To offer it is for -u.
            server.enable_SMTPUTF8 = True
            self._without_smtputf8.add(server)
        if self._settings.max_line is not None:
            private.let_in_lines(server, self._settings.max_line)

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


async def _said(server: SMTP, status: Any, reply: Reply | None = None) -> Any:
    """Return *status* for aiosmtpd to say, when it is time; or say it here, and hang up."""
    if reply is not None and reply.answers("DATA", AFTER):
        await asyncio.sleep(reply.delay)  # its message may be stored: who sent it hears that
    elif reply is not None:
        await private.pause(server, reply.delay)
    hangs_up = reply is not None and reply.hang_up
    if not hangs_up and (status is MISSING or not status.startswith("421")):
        return status
    if status:
        await server.push(status)
    if hangs_up:
        note_hang_up(server)
    # aiosmtpd closes the connection of a session that is cancelled. Commands that are here
    # already, as with PIPELINING (RFC 2920), get no reply.
    raise asyncio.CancelledError


def _argument(verb: str, args: Sequence[Any]) -> str | None:
    """Return what a reply is compared with; of AUTH the mechanism, as the rest is secret."""
    if not args:
        return AFTER if verb == "DATA" else None
    return str(args[0][0] if verb == "AUTH" else args[0])
