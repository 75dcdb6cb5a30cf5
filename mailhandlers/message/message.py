"""A stored message as tests want it: an EmailMessage that no content can make raise."""

from __future__ import annotations

import os
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import EmailPolicy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..block import block_headers, fold
from ..mail import UNKNOWN, Envelope
from . import charsets, content, headers
from .addresses import addresses_in, comparable
from .budget import Budget
from .mime import Parser
from .text import seen

if TYPE_CHECKING:
    from .attachments import Attachment
    from .body import Body
    from .problems import Problem

# What turning a message into bytes again raises where the user changed it into an odd one.
_GENERATOR_FAULTS = (*headers.PARSER_FAULTS, LookupError, MessageError)


class StoredMessage(EmailMessage):
    """A message that was read from a store.

    It is an :class:`email.message.EmailMessage`: ``message["Subject"]``, ``get_body()`` and
    ``iter_attachments()`` work. None of its methods raises because of what a sender wrote: what
    can't be decoded is replaced. Besides the attributes below it has

    ``envelope`` (Envelope)
        What SMTP said: sender, recipients, client, time. If another program stored the
        message, what its headers tell.
    ``original_content`` (bytes)
        The message as the server received it, octet for octet. If it is altered, as it is now.
    ``is_altered`` (bool)
        Whether another program changed the message after the server had stored it.

    The headers that a handler puts above a message come first, also in ``items()``,
    ``as_string()`` and ``as_bytes()``: ``message["X-RcptTo"]`` is what the server wrote,
    whatever the sender did. Compare :meth:`own_items` or ``original_content`` with what you
    sent. Line ends are LF in all texts; ``original_content`` and the contents of attachments
    have them as they came.
    """

    envelope: Envelope
    original_content: bytes
    is_altered: bool

    def __init__(self, policy: EmailPolicy | None = None) -> None:
        super().__init__(policy or headers.POLICY)
        self.envelope = UNKNOWN
        self.original_content = b""
        self.is_altered = False
        self._on_top = 0
        self._fields: dict[str, tuple[str, headers.Field]] = {}

    @classmethod
    def parse(
        cls,
        content: bytes,
        envelope: Envelope = UNKNOWN,
        is_altered: bool = False,
        budget: Budget | None = None,
    ) -> StoredMessage:
        """Return the message that *content* holds. Never raises, whatever the octets.

        Time and memory grow with the length of *content* only. For octets that you have
        already: to read a store, use :func:`.read_latest` or :class:`.Inbox`. Of what *budget*
        has no room for there is nothing.
        """
        message = cls()
        message.envelope = envelope
        message.original_content = content
        message.is_altered = is_altered
        if envelope.protocol:  # else another program's headers stand for it
            for name, value in block_headers(envelope):
                _, _, folded = fold(f"{name}: {value}".encode()).partition(b": ")
                message.set_raw(name, folded.decode("ascii", "surrogateescape"))
                message._on_top += 1
        parser = Parser(cls, content, budget)
        parser.fill(message, skip_blank_lines=not envelope.protocol)
        return message

    def __bool__(self) -> bool:
        return True  # a message without headers is a message

    def own_items(self) -> list[tuple[str, Any]]:
        """Return the sender's headers as (name, value), without the handler's five."""
        return self.items()[self._on_top :]

    def own_texts(self) -> list[tuple[str, str]]:
        """Return the sender's headers as (name, decoded text). This is the faster way."""
        own = list(self.raw_items())[self._on_top :]
        return [(name, headers.text_of(name, str(raw))) for name, raw in own]

    @property
    def text(self) -> str:
        """The plain text (str) of the message, without attachments. Empty if it has none.

        Text of a type that nobody knows, such as ``text/markdown``, is plain.
        """
        return self._body.text

    @property
    def html(self) -> str:
        """The HTML (str) of the message, without attachments. Empty if it has none."""
        return self._body.html

    @property
    def links(self) -> list[str]:
        """The links (list of str) of text and HTML, in order of appearance, each once.

        They lead to the web or have a scheme of the sender's own. ``mailto:`` and ``tel:`` are
        no links.
        """
        return self._body.links

    @cached_property
    def codes(self) -> list[str]:
        """The codes (list of str) in the texts and the subject, the likeliest first, each once.

        A code has 4 to 8 digits: ``123 456`` and ``123-456`` are ``"123456"``. Near a word for
        it, it may have letters, as ``vM8xw2`` and ``ABCD-1234`` do. The likeliest is alone in
        its line, bold or large, near such a word, and has six digits. Digits in links,
        addresses and phone numbers don't count.
        """
        return self._body.codes(str(self["Subject"] or ""))

    @property
    def shown_text(self) -> str:
        """The text (str) as a terminal shows it: where there is only HTML, the words of it."""
        return self._body.in_plain

    @property
    def searched_text(self) -> str:
        """What ``matching`` searches: the message as a person reads it (str).

        The sender's headers, each on its line; an empty line; the texts, of HTML what it
        shows; and the names of the attachments, each on its line. Each blank is a space.
        """
        headers = "".join(f"{name}: {text}\n" for name, text in self.own_texts())
        names = "".join(f"\n{each.filename}" for each in self.attachments if each.filename)
        return seen(f"{headers}\n{self._body.as_read}{names}")

    @property
    def attachments(self) -> list[Attachment]:
        """All parts that are not the text of the message (list), in order; images, too.

        Each has ``filename`` (str or None), ``content_type`` (str), ``content`` (bytes),
        ``content_id`` (str or None), and ``save_to(folder)``, which writes it to a new file
        under a safe name and returns its path.
        """
        return self._body.attachments

    @cached_property
    def bcc(self) -> list[str]:
        """The envelope's recipients (list of str) that no To or Cc header names."""
        named = {
            comparable(address)
            for name, value in self.own_texts()
            if name.lower() in ("to", "cc")
            for address in addresses_in(value)
        }
        return [rcpt for rcpt in self.envelope.rcpt_tos if comparable(rcpt) not in named]

    def problems(
        self,
        *,
        dkim_key: str | os.PathLike[str] | None = None,
        seen: dict[str, str] | None = None,
    ) -> list[Problem]:
        """Return what is wrong with the message, or lost on some of its readers (list).

        Each has a ``name``, such as ``no-date``; a ``text`` that says what is wrong, what
        readers lose and what to do; and its ``source``, such as an RFC, with the ``url`` of
        that. Only what is sure is a problem: an ordinary mail has none.

        ``dkim_key`` (path)
            A file with a public key: the record that the DNS has, or PEM. Without a DKIM
            signature that is valid with it, the message has a problem. Nobody is asked in the
            DNS. Needs ``pip install 'mailhandlers[check]'``.
        ``seen`` (dict)
            What is remembered from message to message. If each call is given the same dict, a
            Message-ID that another message had before is a problem.

        Raises OSError if the key can't be read, and ValueError if there is none in the file, or
        nothing to verify with.
        """
        from .checks import Look
        from .problems import problems

        own = [(name, str(raw)) for name, raw in list(self.raw_items())[self._on_top :]]
        look = Look(self, own, self._body, self.original_content, self.envelope)
        look.seen = seen
        if dkim_key is not None:
            from .signature import faults

            look.dkim_faults = faults(self.original_content, dkim_key)
        return problems(look)

    def page(self, *, remote: bool = False) -> str:
        """Return an HTML page (str) that shows the message as a mail program does.

        All that it shows is in it, ``cid:`` images too. It runs no script and loads nothing
        from elsewhere. If *remote* is true, images of the web are loaded: that tells the sender
        that the message was looked at.
        """
        from . import page

        subject = str(self["Subject"] or "")
        return page.page(subject, self._body, len(self.original_content), remote)

    def save_page(self, path: str | os.PathLike[str], *, remote: bool = False) -> None:
        """Write :meth:`page` to the file *path*, in UTF-8. Raises OSError if that fails."""
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(self.page(remote=remote))

    def summary(self, budget: Budget | None = None) -> dict[str, Any]:
        """Return what the message says as a dict, ready for :func:`json.dumps`.

        Its keys are those of a line of JSON Lines between the envelope and ``size``. What is
        missing or can't be parsed is None, and so is what *budget* has no room for, with which
        the message was parsed.
        """
        from . import record

        return record.record(self.own_texts(), self._body, budget or Budget())

    @cached_property
    def _body(self) -> Body:
        from .body import Body

        return Body(self)

    # What EmailMessage offers, for messages that it would raise for

    def get_content_type(self) -> str:
        """Return the media type, such as ``text/plain``.

        A multipart message that can't be split into parts counts as ``text/plain``.
        """
        if content.raw_header(self, "content-type") is None:
            return self.get_default_type()
        kind = self._field("content-type").value
        main, _, sub = kind.partition("/")
        is_odd = not main or not sub or "/" in sub
        is_no_multipart = main == "multipart" and content.is_single(self)
        return "text/plain" if is_odd or is_no_multipart else kind

    def get_content_disposition(self) -> str | None:
        """Return ``attachment``, ``inline`` or what else the header says, or None."""
        return self._field("content-disposition").value or None

    def get_boundary(self, failobj: Any = None) -> Any:
        """Return the boundary of a multipart message, as it is, or *failobj*."""
        boundary = self.get_param("boundary")
        return failobj if boundary is None else boundary.rstrip()

    def get_filename(self, failobj: Any = None) -> Any:
        """Return the file's name as it is, or *failobj*."""
        name = self.get_param("filename", None, "content-disposition")
        name = self.get_param("name") if name is None else name
        return failobj if name is None else name.strip()

    def is_attachment(self) -> bool:
        """Tell whether the disposition is ``attachment``."""
        return self.get_content_disposition() == "attachment"

    def get_param(
        self,
        param: str,
        failobj: Any = None,
        header: str = "content-type",
        unquote: bool = True,
    ) -> Any:
        """Return the parameter *param* of a header as text, or *failobj* if it has none."""
        return self._field(header.lower()).parameters.get(param.lower(), failobj)

    def get_params(
        self, failobj: Any = None, header: str = "content-type", unquote: bool = True
    ) -> Any:
        """Return the value and the parameters of a header as pairs of strings.

        Returns *failobj* if there is no such header.
        """
        if content.raw_header(self, header.lower()) is None:
            return failobj
        field = self._field(header.lower())
        return [(field.value, ""), *field.parameters.items()]

    def get_content(self, *args: Any, **options: Any) -> Any:
        """Return what this part holds: text as str, in any charset, and anything else as bytes.

        For a message within the message this is that message, and for a multipart the text
        that it shows. It never raises, unless you name a content manager of your own.
        """
        if args or "content_manager" in options:
            return super().get_content(*args, **options)
        kind = self.get_content_type()
        if kind.startswith("text/"):
            return content.text(self)
        if kind.startswith("multipart/"):
            return self.text or self.html
        if kind == "message/rfc822":
            inner = content.parts_of(self)
            return inner[0] if inner else type(self).parse(content.octets(self))
        return content.octets(self)

    def get_payload(self, i: int | None = None, decode: bool = False) -> Any:
        """Return the payload as EmailMessage does: with *decode* as bytes, or None."""
        if decode:
            return None if self.is_multipart() else content.octets(self)
        if i is not None or self.is_multipart():
            return super().get_payload(i)
        return content.stored_text(self)

    def as_bytes(self, *args: Any, **options: Any) -> bytes:
        """Return the message as bytes: the handler's five headers, then what came."""
        try:
            return super().as_bytes(*args, **options)
        except _GENERATOR_FAULTS:
            return content.plain_bytes(self)

    def as_string(self, *args: Any, **options: Any) -> str:
        """Return the message as text that can be printed. Never raises."""
        try:
            text = super().as_string(*args, **options)
            text.encode()
        except _GENERATOR_FAULTS:
            return charsets.decode(self.as_bytes())
        return text

    def _field(self, name: str) -> headers.Field:
        raw = content.raw_header(self, name) or ""
        known = self._fields.get(name)
        if known is None or known[0] != raw:
            known = self._fields[name] = (raw, headers.parse_field(raw))
        return known[1]
