"""The command ``mailhandlers``: the table of its commands, and how each of them ends."""

from __future__ import annotations

import os
import sys
import textwrap
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from typing import NamedTuple

from ..inbox.misses import NoMessageError
from ..stores.store import StoreError
from .printing import CLOSED_PIPE, INTERRUPTED, MISUSE, NO_MESSAGE, complain

_COLUMNS = 80


class Command(NamedTuple):
    """What is known of a command before it is imported.

    With all that the others need, each would start a seventh later.
    """

    where: str
    """Its function, as ``module:function``, which takes a parser and the arguments."""
    help: str
    """What it does, in one line."""
    example: str
    """How to call it."""


COMMANDS = {
    "list": Command(
        "reading:list_messages", "Print one line for each message, oldest first.", "list inbox"
    ),
    "show": Command(
        "reading:show_message",
        "Show the newest message, or wait for one.",
        "show inbox --to bob@example.com --timeout 10 --print links",
    ),
    "expect": Command(
        "waiting:expect",
        "Run a command and show the mail that it sends.",
        "expect inbox --to bob@example.com --print codes -- ./sign_up bob",
    ),
    "follow": Command(
        "reading:follow", "Print each message as it arrives, like tail -f.", "follow inbox"
    ),
    "open": Command(
        "reading:open_page",
        "Show the newest message in the browser.",
        "open inbox --subject Welcome",
    ),
    "attachments": Command(
        "reading:save_attachments",
        "Save the attachments of the newest message in a folder.",
        "attachments inbox downloads",
    ),
    "check": Command(
        "checking:check",
        "Say what is wrong with messages, or lost on some of their readers.",
        "check inbox --to bob@example.com",
    ),
    "copy": Command(
        "changing:copy",
        "Copy messages to another store, exactly as they are.",
        "copy mail.mbox MaildirSink inbox",
    ),
    "send": Command(
        "sending:send",
        "Send messages on to a real mail server, exactly as they are.",
        "send inbox --subject Welcome --via mail.example.com:587 --redirect-to me@example.com",
    ),
    "sendmail": Command(
        "sending:sendmail",
        "Store a message as the program sendmail would take it.",
        "sendmail MaildirSink inbox -t -i < message.eml",
    ),
    "clear": Command(
        "changing:clear",
        "Remove all messages, or those that meet criteria.",
        "clear inbox --to bob@example.com",
    ),
    "ready": Command(
        "waiting:ready",
        "Wait until a mail server answers.",
        "ready localhost:8025 --pid $!",
    ),
    "web": Command(
        "reading:web",
        "Show the messages as a page that is live. Needs: pip install 'mailhandlers[web]'",
        "web inbox",
    ),
}
"""The commands by name, in the order in which a reader wants to hear of them."""


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
    module, _, function = command.where.partition(":")
    run = getattr(import_module(f".{module}", __package__), function)
    status: int = run(parser, rest)
    return status


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
        where = f"{error.filename}: " if error.filename else ""
        complain(f"mailhandlers: {where}{error.strerror or error}")
        return MISUSE
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _overview() -> str:
    """Return the help of the command itself: commands, handlers and their options."""
    from ..options import HANDLERS, OPTIONS

    handlers = ((f"{name} {path}", kept) for name, (path, kept) in HANDLERS.items())
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
                handlers,
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
