"""What a person sees in a terminal, where nothing that a client sent may act."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TextIO

from ..message.visible import HARMLESS, visible

_STYLES = {"bold": "1", "dim": "2"}


def fitted(text: str, width: int) -> str:
    """Return *text* cut, or filled up with spaces, to *width* columns."""
    columns = list(map(_columns, text))
    used = sum(columns)
    if used <= width:
        return text + " " * (width - used)
    end, used = 0, 0
    while used + columns[end] < width:  # one column is for the dots
        used += columns[end]
        end += 1
    return text[:end] + "…" + " " * (width - used - 1)


def _columns(char: str) -> int:
    if char in HARMLESS or unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


class Output:
    """Standard output, which is a terminal or isn't."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = sys.stdout if file is None else file
        self.is_terminal = self._file.isatty()
        # https://no-color.org
        self._has_colour = (
            self.is_terminal
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM", "dumb") != "dumb"
        )

    @property
    def columns(self) -> int:
        """The width of the terminal."""
        return shutil.get_terminal_size().columns

    def styled(self, text: str, style: str) -> str:
        """Return *text* in bold or dim, where colours are welcome."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._has_colour else text

    def lines(self, text: str) -> None:
        """Write *text*, which is for people and made visible already, and end the line."""
        self._file.write(text if text.endswith("\n") else f"{text}\n")
        self._file.flush()

    def text(self, text: str) -> None:
        """Write what a client sent: as it is, or made visible for a terminal."""
        self.lines(visible(text) if self.is_terminal else text)

    def octets(self, data: bytes) -> None:
        """Write what a client sent, octet for octet, or made visible for a terminal."""
        if self.is_terminal:
            self.text(data.replace(b"\r\n", b"\n").decode("utf-8", "backslashreplace"))
        else:
            self._file.flush()
            self._file.buffer.write(data)
            self._file.buffer.flush()


def complain(text: str) -> None:
    """Write *text* to standard error."""
    print(visible(text), file=sys.stderr)
