"""``mailhandlers open``: the newest message as a page in the browser."""

from __future__ import annotations

import os
import pathlib
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress

from ..reading.inbox import read_latest
from . import arguments
from .commands import parser_of
from .terminal import Output, complain, visible

_PREFIX = "mailhandlers-page-"
_PAGE = "message.html"
_DAY = 24 * 60 * 60


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
    _remove_old_pages()
    # Nobody knows when the browser has read it: it stays for a day. Only the user can look in.
    page = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX), _PAGE)
    message.save_page(page)
    Output().lines(visible(os.fspath(page)))
    return 0 if _show(page) else 1


def _remove_old_pages() -> None:
    """Remove the pages that this user's earlier calls wrote, more than a day ago."""
    user = getattr(os, "getuid", int)()  # on Windows all files have the user 0
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == user and status.st_mtime < time.time() - _DAY:
                    # A folder that holds anything else isn't empty then, and stays.
                    with suppress(OSError):
                        pathlib.Path(entry.path, _PAGE).unlink(missing_ok=True)
                        os.rmdir(entry.path)


def _show(page: pathlib.Path) -> bool:
    import webbrowser  # it takes 10 ms, and --output needs none

    if webbrowser.open(page.as_uri()):
        return True
    complain("mailhandlers: there is no browser: open the file above in one, or set BROWSER")
    return False
