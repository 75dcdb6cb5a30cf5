"""The command ``mailhandlers``: the table of its commands, and how each of them ends."""

from __future__ import annotations

import os
import sys
import textwrap
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from ..inbox.search import NoMessageError
from ..stores.store import StoreError
from .changing import clear, copy
from .printing import CLOSED_PIPE, complain
from .reading import follow, list_messages, open_page, save_attachments, show_message
from .waiting import expect, ready

NO_MESSAGE = 1
MISUSE = 2
INTERRUPTED = 130  # as a shell has it: 128 + SIGINT

_COLUMNS = 80


def web(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Serve the page and the HTTP API; its module has a parser of its own."""
    try:
        from ..web.command import run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mailhandlers"):
            raise  # ours, and no package that the extra would install
        complain("mailhandlers: web needs more packages: pip install 'mailhandlers[web]'")
        return MISUSE
    return run(argv)


class Command(NamedTuple):
    """A command of the shell."""

    run: Callable[[ArgumentParser, Sequence[str]], int]
    """Takes the command's parser, which has no arguments yet, and returns the exit status."""
    help: str
    """What it does, in one line."""
    example: str
    """How to call it."""


COMMANDS = {
    "list": Command(
        list_messages, "Print one line for each message, oldest first.", "list inbox"
    ),
    "show": Command(
        show_message,
        "Show the newest message, or wait for one.",
        "show inbox --to bob@example.com --timeout 10 --print links",
    ),
    "expect": Command(
        expect,
        "Run a command and show the mail that it sends.",
        "expect inbox --to bob@example.com --print codes -- ./sign_up bob",
    ),
    "follow": Command(
        follow, "Print each message as it arrives, like tail -f.", "follow inbox"
    ),
    "open": Command(
        open_page, "Show the newest message in the browser.", "open inbox --subject Welcome"
    ),
    "attachments": Command(
        save_attachments,
        "Save the attachments of the newest message in a folder.",
        "attachments inbox downloads",
    ),
    "copy": Command(
        copy,
        "Copy messages to another store, exactly as they are.",
        "copy mail.mbox MaildirSink inbox",
    ),
    "clear": Command(clear, "Remove all messages.", "clear inbox"),
    "ready": Command(
        ready, "Wait until a mail server answers.", "ready localhost:8025 --timeout 10"
    ),
    "web": Command(
        web,
        "Show the messages as a page that is live. Needs: pip install 'mailhandlers[web]'",
        "web inbox",
    ),
}
"""The commands by name, in the order in which a reader wants to hear of them."""

HANDLERS = {
    "MailFile PATH": "one file with the latest message",
    "MaildirSink DIR": "a Maildir, as mail programs read it",
    "MboxSink PATH": "one mbox file",
    "JsonLines PATH": "one JSON object a line, in a file or, with -, on standard output",
    "PerRecipientDir DIR": "a folder for each recipient",
}
"""The handlers as one types them, and what each keeps."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv*, or the command line, names; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where a test takes its place
            stream.reconfigure(errors="backslashreplace")
    return _status_of(partial(_run, sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if name == "--version":
        from .. import __version__

        print(f"mailhandlers {__version__}")
        return 0
    if name not in COMMANDS:
        complain(
            f"mailhandlers: there is no command {name!r}: choose from {', '.join(COMMANDS)}"
        )
        return MISUSE
    command = COMMANDS[name]
    parser = ArgumentParser(
        prog=f"mailhandlers {name}",
        description=command.help,
        epilog=f"example:\n  mailhandlers {command.example}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return command.run(parser, rest)


def _status_of(run: Callable[[], int]) -> int:
    """Return the exit status of *run*, and tell why it failed, if it did."""
    try:
        status = run()
        sys.stdout.flush()
    except NoMessageError as error:
        complain(str(error))
        return NO_MESSAGE
    except StoreError as error:
        complain(f"mailhandlers: {error}")
        return MISUSE
    except BrokenPipeError:
        # Python flushes standard output at its end, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    except OSError as error:
        complain(f"mailhandlers: {error.filename or ''}: {error.strerror or error}")
        return MISUSE
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _overview() -> str:
    """Return the help of the command itself: commands, handlers and their options."""
    from ..options import OPTIONS

    commands = ((name, command.help) for name, command in COMMANDS.items())
    options = (
        (f"{name}={option.values}", option.help) for name, (_, option) in OPTIONS.items()
    )
    return "\n".join(
        [
            "usage: mailhandlers COMMAND ...",
            "",
            "Reads the mail that aiosmtpd's handlers stored.",
            "",
            *_table("commands (mailhandlers COMMAND --help tells more):", commands),
            *_table(
                "handlers (aiosmtpd -n -c mailhandlers.HANDLER PATH [key=value ...]):",
                HANDLERS.items(),
            ),
            *_table("options of all handlers, as key=value:", options),
            "example:",
            "  aiosmtpd -n -c mailhandlers.MaildirSink inbox &",
            "  mailhandlers show inbox --to bob@example.com --timeout 10",
        ]
    )


def _table(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    lines = [title]
    for name, help_text in rows:
        indent = " " * 24
        first = f"  {name}  ".ljust(len(indent))
        if len(first) > len(indent):  # too long to stand beside its help
            lines.append(first.rstrip())
            first = indent
        lines += textwrap.wrap(
            help_text, _COLUMNS, initial_indent=first, subsequent_indent=indent
        )
    return [*lines, ""]
