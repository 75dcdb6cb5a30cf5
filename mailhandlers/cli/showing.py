"""``mailhandlers show``: the newest message, for people or for a script."""

from __future__ import annotations

from collections.abc import Sequence

from ..inbox.inbox import read_latest
from ..inbox.misses import line_of
from ..message.message import StoredMessage
from . import arguments
from .commands import parser_of
from .terminal import Output, complain
from .views import print_for_people, print_view

FOR_PEOPLE = "a few headers, the attachments' names and the text"


def run(argv: Sequence[str]) -> int:
    """Show the newest message."""
    parser = parser_of("show")
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_timeout(parser, 0, "how long to wait for such a message (default: 0)")
    arguments.add_print(parser, FOR_PEOPLE)
    options = parser.parse_args(argv)
    wanted = arguments.criteria(options)
    return show(read_latest(options.store, timeout=options.timeout, **wanted), options.view)


def show(message: StoredMessage, view: str | None) -> int:
    """Print *message*; return 1 where it has nothing of what was asked for."""
    output = Output()
    if view is None:
        print_for_people(message, output)
    elif not print_view(message, view, output):
        complain(f"mailhandlers: the message has no {view}: {line_of(message)}")
        return 1
    return 0
