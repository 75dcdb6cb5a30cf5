"""The table of commands, which says what each does and where it is.

A command is a module with ``run(argv)``, which returns an exit status. It is imported when
it is asked for: none waits for what another needs.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import NamedTuple


class Command(NamedTuple):
    """What is known of a command before it is imported."""

    module: str
    """Where it is, as an import relative to this package."""
    help: str
    """What it does, in one line."""
    example: str
    """How to call it."""


COMMANDS = {
    "list": Command(".listing", "Print one line for each message, oldest first.", "list inbox"),
    "show": Command(
        ".showing",
        "Show the newest message, or wait for one.",
        "show inbox --to bob@example.com --timeout 10 --print links",
    ),
    "expect": Command(
        ".expecting",
        "Run a command and show the mail that it sends.",
        "expect inbox --to bob@example.com --print codes -- ./sign_up bob",
    ),
    "follow": Command(
        ".following", "Print each message as it arrives, like tail -f.", "follow inbox"
    ),
    "open": Command(
        ".opening", "Show the newest message in the browser.", "open inbox --subject Welcome"
    ),
    "attachments": Command(
        ".attachments",
        "Save the attachments of the newest message in a folder.",
        "attachments inbox downloads",
    ),
    "copy": Command(
        ".copying",
        "Copy messages to another store, exactly as they are.",
        "copy mail.mbox MaildirSink inbox",
    ),
    "clear": Command(".clearing", "Remove all messages.", "clear inbox"),
    "ready": Command(
        ".readiness", "Wait until a mail server answers.", "ready localhost:8025 --timeout 10"
    ),
    "web": Command(
        ".web",
        "Show the messages as a page that is live. Needs: pip install 'mailhandlers[web]'",
        "web inbox",
    ),
}
"""The commands by name, in the order in which a reader wants to hear of them."""


def parser_of(name: str, usage: str | None = None) -> ArgumentParser:
    """Return the parser for the arguments of the command *name*; it has none yet."""
    command = COMMANDS[name]
    return ArgumentParser(
        prog=f"mailhandlers {name}",
        usage=usage,
        description=command.help,
        epilog=f"example:\n  mailhandlers {command.example}",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
