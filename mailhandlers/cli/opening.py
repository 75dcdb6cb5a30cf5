"""``mailhandlers open``: the newest message as a page in the browser."""

from __future__ import annotations

import os
import pathlib
import stat
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress

from ..inbox.inbox import read_latest
from ..message.visible import visible
from . import arguments
from .commands import parser_of
from .terminal import Output, complain

_FOLDER = "mailhandlers-pages-"
_PAGE, _HTML = "message-", ".html"
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
    folders = _own_folders()
    for folder in folders:
        _remove_old_pages(folder)
    folder = min(folders) if folders else tempfile.mkdtemp(prefix=_FOLDER)
    # Nobody knows when the browser has read it: it stays for a day.
    handle, name = tempfile.mkstemp(_HTML, _PAGE, folder)
    os.close(handle)
    page = pathlib.Path(name)
    message.save_page(page)
    Output().lines(visible(os.fspath(page)))
    return 0 if _show(page) else 1


def _own_folders() -> list[str]:
    """Return the folders that earlier calls made for this user's pages.

    It is one, unless the first two calls came together. Nobody can guess its name beforehand,
    and one that another user made, or that others may look into, or a link, is not taken.
    """
    found = []
    user = getattr(os, "getuid", int)()  # on Windows all files have the user 0
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_FOLDER) and entry.is_dir(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                is_private = os.name == "nt" or stat.S_IMODE(status.st_mode) == stat.S_IRWXU
                if status.st_uid == user and is_private:
                    found.append(os.path.abspath(entry.path))
    return found


def _remove_old_pages(folder: str) -> None:
    """Remove what earlier calls wrote to *folder* more than a day ago."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PAGE) and entry.name.endswith(_HTML):
                # Another call may just have removed it.
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - _DAY:
                        os.unlink(entry.path)


def _show(page: pathlib.Path) -> bool:
    import webbrowser  # it takes 10 ms, and --output needs none

    if webbrowser.open(page.as_uri()):
        return True
    complain("mailhandlers: there is no browser: open the file above in one, or set BROWSER")
    return False
