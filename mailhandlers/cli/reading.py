"""The commands that read: list, show, follow, open, attachments and web."""

from __future__ import annotations

import os
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress

from ..disk import system
from ..inbox.inbox import Inbox, read_latest, read_messages
from ..inbox.misses import line_of
from ..message.message import StoredMessage
from ..message.visible import visible
from ..stores.store import StoreError, exists
from ..web.settings import WebSettings
from . import arguments
from .printing import (
    CLOSED_PIPE,
    MISUSE,
    Output,
    complain,
    print_for_people,
    print_line,
    print_view,
)

FOR_PEOPLE = "a few headers, the attachments' names and the text"
_A_LINE = "one line with time, sender, recipients, size and subject"
_FOLDER = "mailhandlers-pages-"
_PAGE, _HTML = "message-", ".html"
_DAY = 24 * 60 * 60


def list_messages(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """List the messages of a store."""
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_print(parser, _A_LINE, "print nothing, and fail if there is such a message")
    parser.add_argument("--count", action="store_true", help="print only how many there are")
    options = parser.parse_args(argv)
    if options.count and (options.none or options.view):
        parser.error("--count prints a number and nothing else: leave --print and --none out")
    output = Output()
    if options.count:
        wanted = arguments.criteria(options)
        inbox = Inbox(options.store)
        is_all = all(value is None for value in wanted.values())
        output.lines(f"{len(inbox) if is_all else sum(1 for _ in inbox.messages(**wanted))}")
        return 0
    for message in read_messages(options.store, **arguments.criteria(options)):
        if options.none:
            complain(f"mailhandlers: a message is there where none may be: {line_of(message)}")
            return 1
        _print(message, options.view, output)
    if not exists(options.store):
        complain(f"{options.store}: nothing is there yet")
    return 0


def show_message(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Show the newest message."""
    arguments.add_store(parser)
    arguments.add_print(parser, FOR_PEOPLE)
    options, message = _newest(parser, argv)
    return show(message, options.view)


def _newest(parser: ArgumentParser, argv: Sequence[str]) -> tuple[Namespace, StoredMessage]:
    """Return the options, and the newest message that meets the criteria among them."""
    arguments.add_criteria(parser)
    arguments.add_timeout(parser, 0, "how long to wait for such a message (default: 0)")
    options = parser.parse_args(argv)
    wanted = arguments.criteria(options)
    return options, read_latest(options.store, timeout=options.timeout, **wanted)


def show(message: StoredMessage, view: str | None) -> int:
    """Print *message*; return 1 where it has nothing of what was asked for."""
    output = Output()
    if view is None:
        print_for_people(message, output)
    elif not print_view(message, view, output):
        complain(f"mailhandlers: the message has no {view}: {line_of(message)}")
        return 1
    return 0


def _print(message: StoredMessage, view: str | None, output: Output) -> None:
    """Print one of several messages."""
    if view:
        print_view(message, view, output)
    else:
        print_line(message, output)


def follow(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Print what arrives, until Ctrl-C, the end of the pipe, or the timeout."""
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_timeout(
        parser, None, "end when nothing came for so long (default: go on until Ctrl-C)"
    )
    arguments.add_print(parser, _A_LINE)
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
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    for message in messages:
        _print(message, options.view, output)
    return 0


def _end_with_the_pipe() -> None:
    """End this process as soon as nobody reads its output any more.

    Otherwise ``follow | head -1`` would end with the second message, which may never come.
    """
    if system.wait_for_closed_pipe(1):
        os._exit(CLOSED_PIPE)


def open_page(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Write the page of the newest message, and show it."""
    arguments.add_store(parser)
    parser.add_argument("--output", metavar="FILE", help="only write the page, to FILE")
    options, message = _newest(parser, argv)
    if options.output:
        message.save_page(options.output)
        return 0
    page = _new_page()
    message.save_page(page)
    Output().lines(visible(page, keep=""))
    return 0 if _shows(page) else 1


def _new_page() -> str:
    """Return the path of a new file for a page, in a folder that only this user can open.

    Nobody knows when a browser has read it: it stays for a day.
    """
    import tempfile

    folders = _own_folders(tempfile.gettempdir())
    for folder in folders:
        _remove_old_pages(folder)
    folder = min(folders) if folders else tempfile.mkdtemp(prefix=_FOLDER)
    handle, page = tempfile.mkstemp(_HTML, _PAGE, folder)
    os.close(handle)
    return page


def _own_folders(parent: str) -> list[str]:
    """Return the folders in *parent* that earlier calls made for this user's pages.

    It is one, unless the first two calls came together. Nobody can guess its name beforehand,
    and one that another user made, or that others may look into, or a link, is not taken.
    """
    found = []
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            is_ours = entry.name.startswith(_FOLDER) and entry.is_dir(follow_symlinks=False)
            if is_ours and system.is_private(entry.stat(follow_symlinks=False)):
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


def _shows(page: str) -> bool:
    """Show *page* in the browser; return False where there is none."""
    import pathlib
    import webbrowser  # it takes 10 ms, and --output needs none

    if webbrowser.open(pathlib.Path(page).as_uri()):
        return True
    complain("mailhandlers: there is no browser: open the file above in one, or set BROWSER")
    return False


def save_attachments(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Save the attachments and print where each is."""
    arguments.add_store(parser)
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="where to; it is made if missing, and no file in it is replaced",
    )
    options, message = _newest(parser, argv)
    if not message.attachments:
        complain(f"mailhandlers: the message has no attachments: {line_of(message)}")
        return 1
    output = Output()
    for attachment in message.attachments:
        output.lines(visible(os.fspath(attachment.save_to(options.folder)), keep=""))
    return 0


def web(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Serve the page and the HTTP API until Ctrl-C; return 1 where that can't be."""
    from ..options import read_token

    arguments.add_store(parser)
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        default="localhost:8026",
        help="where to listen (default: %(default)s); beyond this computer a token is needed, "
        "which the printed address holds",
    )
    parser.add_argument(
        "--path",
        default="",
        help="the path below which a proxy shows the page, such as /mail",
    )
    parser.add_argument(
        "--host-name",
        metavar="NAME",
        action="append",
        default=[],
        help="a name by which a proxy is asked for the page; may be repeated",
    )
    parser.add_argument(
        "--token",
        metavar="@FILE|$NAME",
        help="what all who ask must know; a file or a variable holds it",
    )
    arguments.add_relay(parser, required=False)
    options = parser.parse_args(argv)
    if bool(options.via) != bool(options.redirect_to):
        parser.error("--via and --redirect-to go together: a page sends to nobody else")
    via_user, via_tls = None, WebSettings.via_tls
    if options.via:
        _, via_user, via_tls = arguments.relay(parser, options)
    elif options.user is not None or options.tls:
        parser.error("--user and --tls are for the server of --via: name it, too")
    try:
        token = options.token and read_token("--token", options.token)
        settings = WebSettings(
            listen=options.listen,
            path=options.path,
            host_names=tuple(options.host_name),
            token=token,
            via=options.via,
            via_user=via_user,
            via_tls=via_tls,
            redirect_to=tuple(options.redirect_to),
        )
    except ValueError as error:
        parser.error(str(error))
    try:
        from ..web.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mailhandlers"):
            raise  # ours, and no package that the extra would install
        complain("mailhandlers: web needs more packages: pip install 'mailhandlers[web]'")
        return MISUSE
    try:
        serve(options.store, settings)
    except KeyboardInterrupt:
        return 0
    except ValueError as error:  # StoreError is one
        complain(f"mailhandlers: {error}")
        return 1 if isinstance(error, StoreError) else MISUSE
    except OSError as error:
        complain(f"mailhandlers: {error.filename or options.listen}: {error.strerror}")
        return 1
    return 0
