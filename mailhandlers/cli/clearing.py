"""``mailhandlers clear``: an empty store."""

from __future__ import annotations

from collections.abc import Sequence

from ..inbox.inbox import Inbox
from . import arguments
from .commands import parser_of


def run(argv: Sequence[str]) -> int:
    """Remove all messages of a store; the server may run on."""
    parser = parser_of("clear")
    arguments.add_store(parser)
    options = parser.parse_args(argv)
    Inbox(options.store).clear()
    return 0
