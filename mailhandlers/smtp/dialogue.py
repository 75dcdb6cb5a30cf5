"""The dialogue of each session: what the client said, and what the server replied.

Only the servers that a :class:`Recorder` makes are recorded. Others pay nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, AnyStr, NamedTuple
from weakref import WeakKeyDictionary, ref

from aiosmtpd.smtp import SMTP, sanitize

from . import endpoints, private
from .facts import SessionFacts, session_facts
from .replies import HANG_UP


class Command(NamedTuple):
    """One command of a client, with the reply that it got.

    ``verb`` (str)
        The first word of the line, in capitals, whether it is a command or not.
    ``argument`` (str)
        The rest of the line, or empty. Of AUTH only the mechanism.
    ``reply`` (str)
        The code and the words. The lines of a longer reply are joined by line feeds; where
        the server hung up as it was told to, the last is ``hang-up``.
    """

    verb: str
    argument: str
    reply: str


class Dialogue:
    """One connection, as it is so far. Any thread may read it at any time.

    ``peer``, ``helo``, ``protocol``, ``tls`` and ``auth`` mean what they do in an Envelope, and
    are as they were at the last reply. (``protocol`` is ``UTF8SMTP`` only while a message with
    SMTPUTF8 is sent.)
    """

    def __init__(self) -> None:
        self.peer = ""
        self.helo = ""
        self.protocol = "SMTP"
        self.tls: str | None = None
        self.auth: str | None = None
        self._commands: list[Command] = []
        self._open: Command | None = None
        self._overlong = False

    @property
    def commands(self) -> list[Command]:
        """The commands (list of Command) so far, in order, refused ones too."""
        return list(self._commands)

    def __repr__(self) -> str:
        said = "".join(f"\n  {verb} {arg} -> {reply}" for verb, arg, reply in self._commands)
        return f"<Dialogue of {self.peer}, {self.protocol}:{said}>"

    def note(self, facts: SessionFacts) -> None:
        """Keep what the server knows of the session now."""
        self.peer, self.helo, self.protocol = facts.peer, facts.helo, facts.protocol
        self.tls, self.auth = facts.tls, facts.auth

    def forget(self) -> Command | None:
        """Forget all commands but the last that got a reply, and return that."""
        del self._commands[:-1]
        return self._commands[0] if self._commands else None

    @property
    def _is_asked(self) -> bool:
        """Whether the client was told to go on with 334 or 354: no command comes then."""
        return not self._open and bool(self._commands) and self._commands[-1].reply[:1] == "3"

    def hear(self, line: bytes | None) -> None:
        """Note a line of the client; None stands for the beginning of one that is too long."""
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
        """Note what the server says, a line or more, or ``hang-up``."""
        reply = reply.replace("\r\n", "\n")
        if self._open is not None:
            self._commands.append(self._open._replace(reply=reply))
            self._open = None
        elif not self._commands:
            if not reply.startswith("220"):  # the usual greeting is no news
                self._commands.append(Command("CONNECT", "", reply))
        else:
            *_, last = self._commands
            more = reply if self._is_asked else f"{last.reply}\n{reply}"
            self._commands[-1] = last._replace(reply=more)


class _Refusals:
    """What a server refuses on one connection: each is told with the command it was said to."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.is_told = False
        """Whether the reply that comes next is known already."""
        self._dialogue = Dialogue()
        self._tell = tell

    def hear(self, line: bytes | None) -> None:
        """Note a line of the client's."""
        self.is_told = False
        self._dialogue.hear(line)

    def note(self, reply: str) -> None:
        """Note a reply, and tell a refusal."""
        self._dialogue.say(reply)
        command = self._dialogue.forget()
        if command is None or self.is_told or not reply.startswith(("4", "5", HANG_UP)):
            return
        if reply != HANG_UP or not command.reply.startswith(("4", "5")):  # else it was told
            said = f"{command.verb} {command.argument}".strip() or "a line"
            self._tell(f"{said}: {reply}")


_refusals: WeakKeyDictionary[SMTP, _Refusals] = WeakKeyDictionary()


def tell_refusals(server: SMTP, tell: Callable[[str, str], None]) -> None:
    """Call *tell* with the peer, and with command and reply, for each that *server* refuses.

    To be called before the connection is made.
    """
    server_ref = ref(server)

    def tell_of_peer(text: str) -> None:
        server = server_ref()
        if server is not None and server.session is not None:
            tell(endpoints.shown(server.session.peer), text)

    _refusals[server] = refusals = _Refusals(tell_of_peer)
    private.listen(server, refusals.hear, refusals.note)


def note_told(server: SMTP) -> None:
    """Note that what *server* says next is told already, if it is a refusal."""
    if server in _refusals:
        _refusals[server].is_told = True


def note_hang_up(server: SMTP) -> None:
    """Note that the server hangs up on purpose, where somebody listens to this session."""
    if isinstance(server, _RecordedSMTP):
        server.dialogue.say(HANG_UP)
    if server in _refusals:
        _refusals[server].note(HANG_UP)


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
        self.dialogue = Dialogue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        is_new = self.transport is None  # STARTTLS makes the connection once more
        super().connection_made(transport)
        if is_new:
            self._recorder.append(self.dialogue)
            private.overhear(self, self.dialogue.hear)

    async def push(self, status: AnyStr) -> None:
        # First, so that a client that has a reply finds it recorded.
        assert self.session is not None
        assert self.envelope is not None
        self.dialogue.note(session_facts(self, self.session, self.envelope))
        self.dialogue.say(status if isinstance(status, str) else status.decode())
        await super().push(status)
