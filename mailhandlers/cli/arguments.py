"""The arguments that several commands share: a store, criteria, a time, what to print."""

from __future__ import annotations

import re
from argparse import Action, ArgumentError, ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from ..inbox.criteria import Wanted
from ..mail import moment_of
from ..smtp import endpoints
from ..smtp.grammar import fits_brackets
from .printing import VIEWS

_LONGEST_WAIT = 1e9  # 30 years; a socket takes no number that is much larger


def add_store(parser: ArgumentParser, name: str = "store") -> None:
    """Add the path of a store."""
    parser.add_argument(
        name,
        metavar=name.upper(),
        type=_path,
        help="a store of any handler, or another program's mail: Maildir, mbox, .eml",
    )


def add_criteria(parser: ArgumentParser) -> None:
    """Add the criteria, which :func:`criteria` reads."""
    group = parser.add_argument_group("which messages", "all that is given must be true")
    group.add_argument(
        "--to", metavar="ADDRESS", action=_Once, help="one of the envelope's recipients"
    )
    group.add_argument(
        "--mail-from", metavar="ADDRESS", action=_Once, help="the envelope's sender"
    )
    subject = group.add_mutually_exclusive_group()
    subject.add_argument("--subject", metavar="TEXT", action=_Once, help="the whole subject")
    subject.add_argument(
        "--subject-matching",
        dest="subject",
        metavar="REGEX",
        type=_pattern,
        action=_Once,
        help="a Python regular expression, searched in the subject",
    )
    group.add_argument(
        "--matching",
        metavar="REGEX",
        type=_pattern,
        action=_Once,
        help="a Python regular expression, searched in headers and text",
    )
    group.add_argument(
        "--since",
        metavar="ID",
        type=_id,
        action=_Once,
        help="those that arrived after the message with this id",
    )


def criteria(options: Namespace) -> Wanted:
    """Return the criteria that were given, as keywords for an :class:`.Inbox`."""
    given: Wanted = {}
    for name in ("to", "mail_from", "subject", "matching", "since"):
        if (value := getattr(options, name)) is not None:
            given[name] = value
    return given


def add_relay(parser: ArgumentParser, *, required: bool) -> None:
    """Add a real server, and the addresses there, which :func:`relay` reads."""
    group = parser.add_argument_group("sending messages on")
    group.add_argument(
        "--via",
        metavar="HOST:PORT",
        required=required,
        default="",
        help="the server that is to deliver them; without it nothing is sent",
    )
    group.add_argument(
        "--redirect-to",
        metavar="ADDRESS",
        type=_recipient,
        action="append",
        default=[],
        help="send to this address, and to none of the envelope; may be repeated",
    )
    group.add_argument(
        "--user",
        metavar="USER:PASSWORD",
        help="log in; @FILE and $NAME are a file and a variable that hold USER:PASSWORD",
    )
    group.add_argument(
        "--tls",
        choices=("starttls", "required", "smtps", "no"),
        help="STARTTLS where it is offered (default), or required; TLS from the first octet "
        "(smtps); or no",
    )


def relay(
    parser: ArgumentParser, options: Namespace
) -> tuple[tuple[str, int], str | None, str]:
    """Return host and port of the server, who logs in there, and how it is encrypted."""
    from ..options import read_secret  # with aiosmtpd, which others need not wait for

    try:
        via = address(options.via)
        users = options.user
        if users is not None:
            users = read_secret("--user", users, "USER:PASSWORD")
    except (ValueError, ArgumentTypeError) as error:
        parser.error(str(error))
    if users is not None and ":" not in users:
        parser.error("--user is USER:PASSWORD, @FILE or $NAME")
    return via, users, options.tls or "starttls"


def add_timeout(parser: ArgumentParser, default: float | None, meaning: str) -> None:
    """Add ``--timeout``, whose help is *meaning*."""
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=default, help=meaning
    )


def add_print(parser: ArgumentParser, otherwise: str, none: str = "") -> None:
    """Add ``--print`` and ``--json``; without them, *otherwise* is printed.

    With *none*, which is its help, add ``--none``, too.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--print",
        dest="view",
        choices=VIEWS,
        help=f"what to print of a message: {', '.join(VIEWS)} (default: {otherwise})",
        metavar="WHAT",
    )
    group.add_argument(
        "--json",
        dest="view",
        action="store_const",
        const="json",
        help="the same as --print json",
    )
    if none:
        group.add_argument("--none", action="store_true", help=none)


def address(text: str) -> tuple[str, int]:
    """Return the host and the port of a server that *text* names."""
    try:
        host, port = endpoints.parsed(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if not port:
        raise ArgumentTypeError(f"{text!r}: no server listens at port 0")
    return host, port


class _Once(Action):
    """Keep a value, and refuse a second one, which would take the place of the first."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            raise ArgumentError(self, "it is given more than once")
        setattr(namespace, self.dest, values)


def _path(text: str) -> str:
    if not text:  # it would be the working folder, which nobody means who clears "$INBOX"
        raise ArgumentTypeError("an empty text is no store")
    return text


def _recipient(text: str) -> str:
    if not fits_brackets(text):
        raise ArgumentTypeError(f"{text!r} is no address to send to")
    return text


def _id(text: str) -> str:
    if moment_of(text) is None:
        raise ArgumentTypeError(f"{text!r} is no id of a message, which begins with the time")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise ArgumentTypeError(f"{text!r} is no number of seconds, such as 0.5 or 10")
    return seconds


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.MULTILINE)
    except re.error as error:
        raise ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
