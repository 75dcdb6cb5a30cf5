"""``mailhandlers`` alone: what there is to type."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from ..options import HANDLERS, OPTIONS
from .commands import COMMANDS

_COLUMNS = 80


def overview() -> str:
    """Return the help of the command itself: commands, handlers and their options."""
    commands = ((name, command.help) for name, command in COMMANDS.items())
    handlers = ((f"{name} {path}", kept) for name, (path, kept) in HANDLERS.items())
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
