"""What can be read of a message: what its record and its page are made of."""

from __future__ import annotations

from email.message import EmailMessage
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .attachments import Attachment


class Readable(Protocol):
    """A :class:`.message.StoredMessage`, as those see it whom that one calls."""

    original_content: bytes

    def __getitem__(self, name: str) -> Any:
        """Return a header."""

    def own_texts(self) -> list[tuple[str, str]]:
        """Return the sender's headers as text."""

    @property
    def bodies_and_attachments(self) -> tuple[list[EmailMessage], list[EmailMessage]]:
        """The parts."""

    @property
    def text(self) -> str:
        """The plain text."""

    @property
    def html(self) -> str:
        """The HTML."""

    @property
    def links(self) -> list[str]:
        """The links."""

    @property
    def codes(self) -> list[str]:
        """The codes."""

    @property
    def attachments(self) -> list[Attachment]:
        """The attachments."""
