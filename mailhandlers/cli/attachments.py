"""``mailhandlers attachments``: the attachments of the newest message, in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..inbox.inbox import read_latest
from ..inbox.misses import line_of
from . import arguments
from .commands import parser_of
from .terminal import Output, complain, visible


def run(argv: Sequence[str]) -> int:
    """Save the attachments and print where each is."""
    parser = parser_of("attachments")
    arguments.add_store(parser)
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="where to; it is made if missing, and no file in it is replaced",
    )
    arguments.add_criteria(parser)
    arguments.add_timeout(parser, 0, "how long to wait for such a message (default: 0)")
    options = parser.parse_args(argv)
    wanted = arguments.criteria(options)
    message = read_latest(options.store, timeout=options.timeout, **wanted)
    if not message.attachments:
        complain(f"mailhandlers: the message has no attachments: {line_of(message)}")
        return 1
    output = Output()
    for attachment in message.attachments:
        output.lines(visible(os.fspath(attachment.save_to(options.folder)), keep=""))
    return 0
