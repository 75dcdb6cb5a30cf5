"""A message as the API has it: the record that JSON Lines has, described for OpenAPI."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

from ..formats import json_lines
from ..mail import Mail
from ..message import record as _needed  # noqa: F401 - later no file may be readable
from ..message.message import StoredMessage


class AttachmentRecord(BaseModel):
    """What a record tells of an attachment."""

    filename: str | None
    content_type: str
    size: int


class Record(BaseModel):
    """One message: its envelope, then what its content says, null where it says nothing."""

    model_config = ConfigDict(title="Message")

    id: str
    received: str = Field(description="When the message was complete, RFC 3339, in UTC.")
    peer: str
    helo: str
    protocol: str = Field(description="The 'with' keyword of RFC 3848.")
    tls: str | None
    auth: str | None
    mail_from: str = Field(description="The reverse-path; empty for a bounce.")
    mail_options: list[str]
    rcpt_tos: list[str]
    subject: str | None
    from_: str | None = Field(alias="from")
    to: str | None
    cc: str | None
    date: str | None = Field(description="The Date header in ISO 8601.")
    message_id: str | None
    headers: list[list[str]] = Field(description="Pairs of name and value, decoded.")
    text: str | None
    html: str | None
    links: list[str]
    codes: list[str]
    attachments: list[AttachmentRecord]
    size: int = Field(description="The length as received, in octets.")
    sha256: str | None = Field(description="The checksum of the message as received, in hex.")
    raw: str | None
    raw_base64: str | None = Field(description="The source where it is no UTF-8.")


def record(message: StoredMessage) -> Iterator[bytes]:
    """Yield the JSON of *message*, in pieces, ended by a line end."""
    mail = Mail(message.envelope, message.original_content)
    yield from json_lines.encode(mail, message.summary())
