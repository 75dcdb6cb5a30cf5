"""The command that checks messages: what is wrong with them, or lost on some readers."""

from __future__ import annotations

import json
import textwrap
from argparse import ArgumentParser
from collections.abc import Sequence

from ..inbox.inbox import read_latest, read_messages
from ..inbox.misses import line_of
from ..message.message import StoredMessage
from ..message.problems import CHECKS, Problem
from ..message.visible import visible
from . import arguments
from .printing import Output, complain

_NAMES = [check.name for check in CHECKS]
_INDENT = "  "


def check(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Print the problems of messages; return 1 where there are any."""
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    parser.add_argument(
        "--ignore",
        metavar="NAME",
        action="append",
        default=[],
        choices=_NAMES,
        help="a problem that is none to you, such as no-plain-text; again for another",
    )
    parser.add_argument(
        "--dkim-key",
        metavar="FILE",
        help="a public key, as the DNS has it or in PEM, with which a signature must be valid; "
        "needs: pip install 'mailhandlers[check]'",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each message, in one line"
    )
    options = parser.parse_args(argv)
    wanted = arguments.criteria(options)
    output = Output()
    seen: dict[str, str] = {}
    checked = faulty = 0
    for message in read_messages(options.store, **wanted):
        try:
            found = message.problems(dkim_key=options.dkim_key, seen=seen)
        except ValueError as error:  # of the key
            parser.error(str(error))
        found = [problem for problem in found if problem.name not in options.ignore]
        checked += 1
        faulty += bool(found)
        if options.json:
            output.lines(_json(message, found))
        elif found:
            _print(message, found, output)
    if not checked:
        read_latest(options.store, **wanted)  # raises, and tells the nearest misses
    if not options.json:
        messages = "1 message" if checked == 1 else f"{checked:,} messages"
        complain(f"{messages} checked, {faulty:,} with problems")
    return 1 if faulty else 0


def _print(message: StoredMessage, problems: Sequence[Problem], output: Output) -> None:
    lines = [output.styled(visible(line_of(message)), "bold")]
    for problem in problems:
        text = f"{problem.name}: {problem.text} ({problem.source})"
        # In a pipe each problem has its line.
        width = output.columns if output.is_terminal else len(text) + len(_INDENT)
        lines += textwrap.wrap(
            text,
            max(width, 30),
            initial_indent=_INDENT,
            subsequent_indent=2 * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    output.lines("\n".join(lines))


def _json(message: StoredMessage, problems: Sequence[Problem]) -> str:
    envelope = message.envelope.to_dict()
    record = {name: envelope[name] for name in ("id", "received", "mail_from", "rcpt_tos")}
    subject = message["Subject"]
    record["subject"] = None if subject is None else str(subject)
    record["problems"] = [problem.to_dict() for problem in problems]
    return json.dumps(record)
