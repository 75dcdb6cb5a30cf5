"""What is printed of a message: all of it or a line, and on a terminal nothing that acts."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ..mail import Mail, local_time
from ..message.attachments import human_size
from ..message.message import StoredMessage
from ..message.visible import HARMLESS, visible, visible_line
from ..stores import json_lines

# Exit statuses; the last two as a shell has them: 128 and the number of the signal.
NO_MESSAGE, MISUSE, INTERRUPTED, CLOSED_PIPE = 1, 2, 130, 141

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
        with _pipe():
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
            with _pipe():
                self._file.flush()
                self._file.buffer.write(data)
                self._file.buffer.flush()


@contextmanager
def _pipe() -> Iterator[None]:
    """Raise BrokenPipeError where nobody reads any more: Windows calls that invalid."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise BrokenPipeError from error
        raise


_COUNTED = 40  # columns, of "1,000,000 messages copied ..."


class Count:
    """How many messages were *done*, such as ``copied``, on standard error."""

    def __init__(self, done: str) -> None:
        self.number = 0
        self._done = done
        self._is_terminal = sys.stderr.isatty()

    def add(self, number: int) -> None:
        """Count *number* more."""
        self.number += number
        if self._is_terminal:
            print(f"\r{self._told()} ...", end="", file=sys.stderr)
            sys.stderr.flush()

    def complain(self, text: str) -> None:
        """Write *text* in a line of its own."""
        self._erase()
        complain(text)

    def end(self, how: str) -> None:
        """Tell the number, and *how* it ended."""
        self._erase()
        print(f"{self._told()}; {how}", file=sys.stderr)

    def _told(self) -> str:
        messages = "message" if self.number == 1 else "messages"
        return f"{self.number:,} {messages} {self._done}"

    def _erase(self) -> None:
        if self._is_terminal:
            print(f"\r{' ' * _COUNTED}\r", end="", file=sys.stderr)


def complain(text: str) -> None:
    """Write *text* to standard error."""
    print(visible(text), file=sys.stderr)


_HEADERS = ("From", "To", "Cc", "Date", "Subject")
_TIME = "%Y-%m-%d %H:%M:%S"
_GAP = "  "
_TIME_WIDTH = 19
_SIZE_WIDTH = 8


def print_view(message: StoredMessage, view: str, output: Output) -> bool:
    """Print one of :data:`VIEWS`; return False where the message has nothing of the kind."""
    made = VIEWS[view](message)
    if isinstance(made, bytes):
        output.octets(made)
    elif made or view not in ("html", "links", "codes"):
        output.text(made)
    else:
        return False
    return True


def print_line(message: StoredMessage, output: Output) -> None:
    """Print one line: in columns for a terminal, else with tabs between the whole fields."""
    envelope = message.envelope
    record = envelope.to_dict()
    fields = [envelope.mail_from or "<>", ", ".join(envelope.rcpt_tos), _subject(message)]
    mail_from, rcpt_tos, subject = map(visible_line, fields)
    if not output.is_terminal:
        line = [record["received"], mail_from, rcpt_tos, str(envelope.size), subject]
        output.lines("\t".join([*line, "altered"] if message.is_altered else line))
        return
    subject = f"[altered] {subject}" if message.is_altered else subject
    left = max(30, output.columns - _TIME_WIDTH - _SIZE_WIDTH - 4 * len(_GAP))
    address = min(28, left // 3)
    columns = [
        output.styled(_local_time(message), "dim"),
        fitted(mail_from, address),
        fitted(rcpt_tos, address),
        human_size(envelope.size).rjust(_SIZE_WIDTH),
        output.styled(fitted(subject, left - 2 * address).rstrip(), "bold"),
    ]
    output.lines(_GAP.join(columns))


def print_for_people(message: StoredMessage, output: Output) -> None:
    """Print a few headers, the attachments by name, and the text."""
    facts = [(f"{name}:", visible_line(text)) for name, text in _facts(message)]
    lines = [
        f"{output.styled(name.ljust(10), 'dim')} "
        f"{output.styled(text, 'bold') if name == 'Subject:' else text}"
        for name, text in facts
    ]
    output.lines("\n".join([*lines, "", visible(message.shown_text.rstrip())]))


def _facts(message: StoredMessage) -> Iterator[tuple[str, str]]:
    envelope = message.envelope
    headers = {name.lower(): text for name, text in reversed(message.own_texts())}
    for name in _HEADERS:
        if headers.get(name.lower()):
            yield name, headers[name.lower()]
    yield "Envelope", f"{envelope.mail_from or '<>'} -> {', '.join(envelope.rcpt_tos)}"
    received = f"{_local_time(message)}, {human_size(envelope.size)}"
    if envelope.protocol:
        received += f", {envelope.protocol} from {envelope.peer or 'unknown'}"
    yield "Received", received
    if message.is_altered:
        yield "Altered", "another program changed the message since"
    for attachment in message.attachments:
        name = attachment.filename or "(no name)"
        size = human_size(len(attachment.content))
        yield "Attached", f"{name} ({attachment.content_type}, {size})"


def _subject(message: StoredMessage) -> str:
    return next((text for name, text in message.own_texts() if name.lower() == "subject"), "")


def _local_time(message: StoredMessage) -> str:
    return local_time(message.envelope.received).strftime(_TIME)


def _headers(message: StoredMessage) -> str:
    return "\n".join(visible(f"{name}: {text}", "\t") for name, text in message.own_texts())


def _json(message: StoredMessage) -> bytes:
    mail = Mail(message.envelope, message.original_content, message.is_altered)
    return b"".join(json_lines.encode(mail, message.summary()))


VIEWS: dict[str, Callable[[StoredMessage], str | bytes]] = {
    "text": lambda message: message.text,
    "html": lambda message: message.html,
    "links": lambda message: "\n".join(message.links),
    "codes": lambda message: "\n".join(message.codes),
    "headers": _headers,
    "source": lambda message: message.original_content,
    "json": _json,
}
"""What ``--print`` can be: bytes are printed as they are, text ends with its line."""
