"""What a person is to read of a message, and what comes with it.

One function decides, :func:`_read`. All that looks at a message's texts looks here: its text
and HTML, its links and codes, its page, what is searched in it, and the first words in a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from email.message import EmailMessage
from functools import cached_property
from typing import NamedTuple

from . import content
from .attachments import Attachment
from .codes import Marked, codes_in
from .html import Page
from .text import links_in, seen

# Text for programs, which a mail program offers as a file.
_DATA = (
    *("calendar", "vcard", "x-vcard", "directory", "csv", "tab-separated-values", "rtf"),
    *("css", "javascript", "ecmascript", "xml", "xml-external-parsed-entity"),
    *("rfc822-headers", "x-amp-html", "x-python", "x-csrc"),
)


class Body:
    """The texts of *message*, in order, and its attachments."""

    def __init__(self, message: EmailMessage) -> None:
        read = _read(message, is_the_message=True)
        self.texts = read.texts
        """Each text, in each form in which it came."""
        self.shown = read.shown
        """The texts as a mail program shows them: of several forms the HTML."""
        self._plain = read.plain
        self.attachments = [Attachment(part) for part in read.attachments]

    @cached_property
    def text(self) -> str:
        """The plain text."""
        return "\n".join(text.source for text in self.texts if not text.is_html)

    @cached_property
    def html(self) -> str:
        """The HTML."""
        return "\n".join(text.source for text in self.texts if text.is_html)

    @cached_property
    def links(self) -> list[str]:
        """The links, in order of appearance, each once."""
        return list(dict.fromkeys(link for text in self.texts for link in text.links))

    def codes(self, subject: str) -> list[str]:
        """Return the codes in the texts and the *subject*, the likeliest first."""
        return codes_in(subject, (text.marked for text in self.texts))

    @property
    def as_read(self) -> str:
        """The texts as a person reads them, without tags and entities, in each form."""
        return "\n".join(text.as_read for text in self.texts)

    @property
    def in_plain(self) -> str:
        """The texts as a terminal shows them: of several forms the plain text."""
        in_plain = "\n".join(text.as_read for text in self._plain)
        return in_plain if in_plain.strip() else "\n".join(t.as_read for t in self.shown)


class BodyText:
    """One text of a message."""

    def __init__(self, part: EmailMessage) -> None:
        self.part = part
        kind = part.get_content_type()  # once: it looks through all headers of the part
        self.is_html = kind == "text/html"
        self.is_plain = kind == "text/plain"

    @cached_property
    def source(self) -> str:
        """The text, or the HTML, with LF line ends."""
        return content.shown_text(self.part)

    @cached_property
    def page(self) -> Page:
        """What HTML shows."""
        return Page(self.source)

    @property
    def as_read(self) -> str:
        """The text as a person reads it."""
        return self.page.text if self.is_html else self.source

    @property
    def marked(self) -> Marked:
        """The text and what marks codes in it."""
        return self.page.marked if self.is_html else Marked(seen(self.source))

    @property
    def links(self) -> list[str]:
        """The links in it."""
        return self.page.links if self.is_html else list(links_in(self.source))


class _Read(NamedTuple):
    """The texts: all, those shown in a browser, and in a terminal; and all other parts."""

    texts: list[BodyText]
    shown: list[BodyText]
    plain: list[BodyText]
    attachments: list[EmailMessage]


def _read(part: EmailMessage, is_the_message: bool) -> _Read:
    """Return what a person is to read of *part*.

    A part with a file name is an attachment, also where it is text and ``inline``. But the
    message itself, and each form in which ``multipart/alternative`` has it, is read whatever it
    is called. Of these forms the last is shown that has HTML, and all where none has it. A
    message within the message is an attachment.
    """
    kind = part.get_content_type()
    if not kind.startswith("multipart/"):
        if _is_text(kind) and _is_read(part, is_the_message):
            text = BodyText(part)
            return _Read([text], [text], [text], [])
        return _Read([], [], [], [part])
    is_alternative = kind == "multipart/alternative"
    forms = [_read(each, is_alternative) for each in content.parts_of(part)]
    texts = [text for form in forms for text in form.texts]
    shown = [text for form in forms for text in form.shown]
    plain = [text for form in forms for text in form.plain]
    attachments = [each for form in forms for each in form.attachments]
    if is_alternative:
        pages = [form.shown for form in forms if _has_html(form.shown)]
        shown = pages[-1] if pages else shown
        if any(text.is_plain for text in texts):
            # One more form of what is there as plain text and perhaps HTML is a file.
            others = [text.part for text in texts if not (text.is_plain or text.is_html)]
            attachments = others + attachments
            texts, shown, plain = (
                [text for text in some if text.is_plain or text.is_html]
                for some in (texts, shown, plain)
            )
        left = set(plain)
        without = [form.plain for form in forms if not _has_html(form.plain)]
        plain = [text for some in without for text in some if text in left] or plain
    return _Read(texts, shown, plain, attachments)


def _is_text(kind: str) -> bool:
    """Tell whether a person can read what is of this type (RFC 2046 section 4.1.4)."""
    main, _, sub = kind.partition("/")
    return main == "text" and sub not in _DATA


def _has_html(texts: Iterable[BodyText]) -> bool:
    return any(text.is_html for text in texts)


def _is_read(part: EmailMessage, is_the_message: bool) -> bool:
    disposition = part.get_content_disposition()
    if disposition == "attachment":
        return False
    return part.get_filename() is None or (is_the_message and disposition is None)
