"""What can be printed of a message: its text, its links, a line about it, and so on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..formats import json_lines
from ..mail import Mail
from ..message.attachments import human_size
from ..message.message import StoredMessage
from .terminal import Output, fitted, visible, visible_line

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
    return message.envelope.received.astimezone().strftime(_TIME)


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
