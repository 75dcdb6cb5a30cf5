"""The commands that take mail from a program, and pass it on: sendmail and send."""

from __future__ import annotations

import asyncio
import getopt
import getpass
import os
import re
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from email.header import Header
from email.utils import format_datetime, localtime, make_msgid, quote
from itertools import chain
from threading import Thread
from typing import TYPE_CHECKING

from ..inbox.inbox import read_messages
from ..inbox.misses import line_of
from ..mail import Envelope, Identity, Mail
from ..message.addresses import addresses_in
from ..message.message import StoredMessage
from ..message.visible import visible_line
from ..smtp import endpoints
from . import arguments
from .printing import NO_MESSAGE, Count, complain

if TYPE_CHECKING:
    from ..handlers import Handler

# sysexits.h; Python has these names on Unix alone.
EX_USAGE, EX_DATAERR, EX_TEMPFAIL = 64, 65, 75

_USAGE = "mailhandlers sendmail HANDLER PATH [key=value ...] [-ti] [-f ADDRESS] [ADDRESS ...]"
_OPTIONS = """
HANDLER, PATH and key=value are those of aiosmtpd -n -c mailhandlers.HANDLER. What follows is
sendmail's:

  ADDRESS      a recipient
  -t           the recipients are also those of To, Cc and Bcc
  -i, -oi      a line with a single dot doesn't end the message
  -f ADDRESS   the envelope's sender; -f '' is that of a bounce
  -F NAME      the sender's name, for a message without From
  -bs          speak SMTP on standard input and output

Exit status: 0 stored, 64 called wrongly, 65 no recipient in the message, 75 not stored, try
again later.
"""
# As Sendmail and Postfix take them. What isn't named above says how mail is delivered or who
# hears of it: nothing is delivered here.
_SHORT = "A:B:b:C:F:f:Gh:iL:mN:nO:o:p:R:r:tUV:vX:"
_PARAMETERS = {"-B": "BODY", "-R": "RET", "-V": "ENVID"}  # of MAIL, with the same meaning
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*")
_LINE_END = re.compile(rb"(?<!\r)\n")
_ONLY_A_DOT = re.compile(rb"^\.\r?$", re.MULTILINE)
_FROM_LINES = re.compile(rb"(?:>?From [^\n]*\n)+")
_FOR_ALL, _RESENT = ("to", "cc", "bcc"), ("resent-to", "resent-cc", "resent-bcc")


def send(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Send stored messages on to a real server; return 1 where not all were taken."""
    from ..smtp.relay import Relay, RelayError  # with ssl, which takes 20 ms

    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_relay(parser, required=True)
    options = parser.parse_args(argv)
    via, users, tls = arguments.relay(parser, options)

    messages = read_messages(options.store, **arguments.criteria(options))
    first = next(messages, None)
    if first is None:
        complain(f"mailhandlers: no such message in {options.store}: nothing is sent")
        return NO_MESSAGE
    sent, troubles, last = Count("sent"), 0, ""
    try:
        with Relay(via, users, tls) as relay:
            for message in chain([first], messages):
                envelope = message.envelope
                last = f" at {envelope.id}"
                mail = Mail(envelope, message.original_content)
                try:
                    refused = relay.send(mail, options.redirect_to or envelope.rcpt_tos)
                    sent.add(1)
                except RelayError as error:
                    refused = [f"not sent: {error}"]
                for text in refused:
                    sent.complain(f"mailhandlers: {envelope.id}, {line_of(message)}: {text}")
                    troubles += 1
    except RelayError as error:
        sent.complain(f"mailhandlers: {error}")
        return 1
    except KeyboardInterrupt:
        sent.end(f"stopped{last}")
        raise
    except OSError as error:
        where = endpoints.shown(via)
        reason = visible_line(str(error.strerror or error))
        sent.complain(f"mailhandlers: {where}: {reason}")
        sent.end(f"stopped{last}")
        return 1
    sent.end(f"{troubles:,} refused")
    return 1 if troubles else 0


class _RefusedError(Exception):
    """The text says why, and what to do; the status is the program's."""

    def __init__(self, text: str, status: int = EX_USAGE) -> None:
        super().__init__(text)
        self.status = status


def sendmail(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Store a message as a server would, with sendmail's arguments and exit statuses."""
    parser.usage = _USAGE
    parser.epilog = f"{_OPTIONS}\n{parser.epilog}"
    if argv[:1] in (["-h"], ["--help"]):
        parser.parse_args(argv[:1])  # which ends here
    try:
        handler, rest = _handler(argv)
        try:
            return _Call(rest).carry_out(handler)
        finally:
            handler.close()
    except _RefusedError as error:
        complain(f"mailhandlers sendmail: {error}")
        return error.status


def _handler(argv: Sequence[str]) -> tuple[Handler, Sequence[str]]:
    """Return the handler that *argv* begins with, and what follows it."""
    from .. import handlers  # 0.15 s, with aiosmtpd; the other commands need none of it
    from ..options import HANDLERS

    name, *rest = argv or [""]
    if name not in HANDLERS:
        choice = ", ".join(HANDLERS)
        raise _RefusedError(f"there is no handler {name!r}: choose from {choice}; {_USAGE}")
    end = 1
    while end < len(rest) and _is_option(rest[end]):
        end += 1
    try:
        handler: Handler = getattr(handlers, name).from_args(*rest[:end])
        return handler, rest[end:]
    except ValueError as error:
        raise _RefusedError(f"{name}: {error}") from None


def _is_option(argument: str) -> bool:
    """Tell whether *argument* is a handler's: what is mistyped is no recipient either."""
    from ..options import OPTIONS

    name, equals, _ = argument.partition("=")
    return bool(equals) and (name in OPTIONS or "@" not in argument) and name[:1] != "-"


class _Call:
    """What sendmail's own arguments ask for."""

    def __init__(self, argv: Sequence[str]) -> None:
        try:
            given, self._named = getopt.getopt(list(argv), _SHORT)
        except getopt.GetoptError as error:
            raise _RefusedError(f"{error}: {_USAGE}") from None
        options = dict(given)
        self._reads_header = "-t" in options
        self._dot_ends = not ("-i" in options or ("-o", "i") in given)
        self._name = options.get("-F", "")
        self._mode = options.get("-b", "m")
        if self._mode not in ("m", "s"):
            raise _RefusedError(
                f"-b{self._mode} is not done here: there is no queue, no daemon"
            )
        self._sender = _own_address()
        for option, value in given:
            if option in ("-f", "-r"):
                self._sender = next(_addresses([value]), "")
        self._parameters = [
            f"{_PARAMETERS[name]}={value}" for name, value in given if name in _PARAMETERS
        ]

    def carry_out(self, handler: Handler) -> int:
        """Take the message, or the session, from standard input."""
        if self._mode == "s":
            asyncio.run(_speak(handler))
            return 0
        mail = self._mail(sys.stdin.buffer.read())
        try:
            handler.store_all([mail])
        except OSError as error:
            reason = f"{error.filename or handler.path}: {error.strerror or error}"
            raise _RefusedError(f"not stored: {reason}", EX_TEMPFAIL) from None
        return 0

    def _mail(self, data: bytes) -> Mail:
        if self._dot_ends and (end := _ONLY_A_DOT.search(data)):
            data = data[: end.start()]
        content = Submission(data)
        recipients = list(_addresses(self._named))
        if self._reads_header:
            recipients += content.recipients()
        if not recipients:
            raise _RefusedError(
                "no recipient: name one, or give -t and a message that has one",
                EX_DATAERR if self._reads_header else EX_USAGE,
            )
        identity = Identity.now()
        octets = content.completed(self._sender or _own_address(), self._name)
        envelope = Envelope(
            id=identity.id,
            received=identity.received,
            peer="",
            helo="",
            protocol="local",
            tls=None,
            auth=None,
            mail_from=self._sender,
            mail_options=self._parameters,
            rcpt_tos=list(dict.fromkeys(recipients)),
            size=len(octets),
        )
        return Mail(envelope, octets)


class Submission:
    """A message as a program gives it to sendmail: with LF, and without what sendmail adds.

    Postfix and Sendmail, too, make it whole for all that read it (RFC 6409 section 8): with
    From, Date and Message-ID, and without Bcc. A message that has these stays as it is.
    """

    def __init__(self, data: bytes) -> None:
        if not data.endswith(b"\n"):
            data += b"\n"
        start = end = match.end() if (match := _FROM_LINES.match(data)) else 0
        self._fields: list[tuple[str, bytes]] = []
        while field := _FIELD.match(data, end):
            self._fields.append((field[1].decode("ascii").lower(), field[0]))
            end = field.end()
        self._body = data[end:]
        self._head = data[start:end]

    def recipients(self) -> list[str]:
        """Return the addresses to which the header has it sent."""
        texts = StoredMessage.parse(self._head).own_texts()
        is_resent = any(name.lower() in _RESENT for name, _ in texts)
        wanted = _RESENT if is_resent else _FOR_ALL
        return list(_addresses(text for name, text in texts if name.lower() in wanted))

    def completed(self, sender: str, name: str) -> bytes:
        """Return the message with CRLF, and with what is missing."""
        there = {name for name, _ in self._fields}
        added = [
            f"{title}: {value}\n".encode("utf-8", "surrogateescape")
            for title, value in (
                ("From", _mailbox(name, sender)),
                ("Date", format_datetime(localtime())),
                ("Message-ID", make_msgid(domain=socket.gethostname())),
            )
            if title.lower() not in there
        ]
        kept = [field for name, field in self._fields if name not in ("bcc", "resent-bcc")]
        body = self._body
        if not body.startswith((b"\n", b"\r\n")):
            body = b"\n" + body
        return _LINE_END.sub(b"\r\n", b"".join([*added, *kept, body]))


def _addresses(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        line = " ".join(text.splitlines())  # an argument may have several, a header has one
        yield from (address for address in addresses_in(line) if address != "<>")


def _mailbox(name: str, address: str) -> str:
    name = " ".join(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").split())
    if not name:
        return address
    phrase = f'"{quote(name)}"' if name.isascii() else Header(name, "utf-8").encode()
    return f"{phrase} <{address}>"


def _own_address() -> str:
    """Return the address of whoever runs this."""
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a number that has no name, as in a container
        user = "nobody"
    return f"{user}@{socket.gethostname()}"


async def _speak(handler: Handler) -> None:
    """Be a server for one client, at standard input and output, until either ends."""
    from aiosmtpd.smtp import SMTP

    from ..smtp import private

    ours, theirs = socket.socketpair()
    handler.hook_all(greets=True)
    server = SMTP(
        handler, hostname=socket.gethostname(), enable_SMTPUTF8=True, data_size_limit=None
    )
    handler.begin(server)
    loop = asyncio.get_running_loop()
    await loop.connect_accepted_socket(lambda: server, ours)
    private.answer_all_before_the_end(server)
    # Threads: asyncio can't wait for a file, nor on Windows for a pipe.
    Thread(target=_give, args=(theirs,), daemon=True).start()
    await loop.run_in_executor(None, _take, theirs)


_PIECE = 1 << 16


def _give(server: socket.socket) -> None:
    """Give *server* what comes on standard input."""
    with suppress(OSError):  # it has hung up
        while data := os.read(sys.stdin.fileno(), _PIECE):
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)


def _take(server: socket.socket) -> None:
    """Write what *server* says to standard output, until it hangs up."""
    with server:
        while data := server.recv(_PIECE):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
