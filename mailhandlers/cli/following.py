"""``mailhandlers follow``: each message as it arrives, like ``tail -f``."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Sequence

from ..inbox.inbox import Inbox
from . import arguments
from .commands import parser_of
from .outcome import CLOSED_PIPE
from .terminal import Output
from .views import print_line, print_view


def run(argv: Sequence[str]) -> int:
    """Print what arrives, until Ctrl-C, the end of the pipe, or the timeout."""
    parser = parser_of("follow")
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_timeout(
        parser, None, "end when nothing came for so long (default: go on until Ctrl-C)"
    )
    arguments.add_print(parser, "one line with time, sender, recipients, size and subject")
    parser.add_argument(
        "--from-start", action="store_true", help="begin with the messages that are there"
    )
    options = parser.parse_args(argv)
    messages = Inbox(options.store).follow(
        timeout=options.timeout,
        from_start=options.from_start,
        **arguments.criteria(options),
    )
    output = Output()
    if hasattr(select, "poll"):  # not on Windows
        threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    for message in messages:
        if options.view:
            print_view(message, options.view, output)
        else:
            print_line(message, output)
    return 0


def _end_with_the_pipe() -> None:
    """End this process as soon as nobody reads its output any more.

    Otherwise ``follow | head -1`` would end with the second message, which may never come.
    """
    closed = select.poll()
    closed.register(1, 0)  # nothing but errors, of which a closed pipe is one
    closed.poll()
    os._exit(CLOSED_PIPE)
