"""``mailhandlers list``: one line a message, oldest first."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..inbox.inbox import read_messages
from . import arguments
from .commands import parser_of
from .terminal import Output, complain
from .views import print_line, print_view


def run(argv: Sequence[str]) -> int:
    """List the messages of a store."""
    parser = parser_of("list")
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_print(parser, "one line with time, sender, recipients, size and subject")
    options = parser.parse_args(argv)
    output = Output()
    for message in read_messages(options.store, **arguments.criteria(options)):
        if options.view:
            print_view(message, options.view, output)
        else:
            print_line(message, output)
    if not os.path.exists(options.store):
        complain(f"{options.store}: nothing is there yet")
    return 0
