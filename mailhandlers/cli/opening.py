"""``mailhandlers open``: the newest message as a page in the browser."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Sequence

from ..reading.inbox import read_latest
from . import arguments
from .commands import parser_of
from .terminal import Output, complain, visible


def run(argv: Sequence[str]) -> int:
    """Write the page of the newest message, and show it."""
    parser = parser_of("open")
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_timeout(parser, 0, "how long to wait for such a message (default: 0)")
    parser.add_argument("--output", metavar="FILE", help="only write the page, to FILE")
    options = parser.parse_args(argv)
    wanted = arguments.criteria(options)
    message = read_latest(options.store, timeout=options.timeout, **wanted)
    if options.output:
        message.save_page(options.output)
        return 0
    # Not removed: nobody knows when the browser has read it. Only the user can look inside.
    page = pathlib.Path(tempfile.mkdtemp(prefix="mailhandlers-"), "message.html")
    message.save_page(page)
    Output().lines(visible(os.fspath(page)))
    return 0 if _show(page) else 1


def _show(page: pathlib.Path) -> bool:
    import webbrowser  # it takes 10 ms, and --output needs none

    if webbrowser.open(page.as_uri()):
        return True
    complain("mailhandlers: there is no browser: open the file above in one, or set BROWSER")
    return False
