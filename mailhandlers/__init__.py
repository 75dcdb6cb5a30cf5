"""Handlers that give the stock aiosmtpd command a memory, and a reader for what they keep.

``aiosmtpd -n -c mailhandlers.MailFile latest.mail`` stores;
``read_latest("latest.mail")`` reads back.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .handlers import JsonLines, MaildirSink, MailFile, MboxSink, PerRecipientDir
from .mail import Envelope
from .smtp.replies import Reply

if TYPE_CHECKING:
    from .reading.inbox import Inbox, read_latest, read_messages
    from .reading.message import StoredMessage
    from .reading.search import NoMessageError
    from .reading.store import StoreError

__all__ = [
    "Envelope",
    "Inbox",
    "JsonLines",
    "MailFile",
    "MaildirSink",
    "MboxSink",
    "NoMessageError",
    "PerRecipientDir",
    "Reply",
    "StoreError",
    "StoredMessage",
    "read_latest",
    "read_messages",
]

__version__ = "1.0.0"

_READING = {
    "Inbox": "reading.inbox",
    "NoMessageError": "reading.search",
    "StoreError": "reading.store",
    "StoredMessage": "reading.message",
    "read_latest": "reading.inbox",
    "read_messages": "reading.inbox",
}


def __getattr__(name: str) -> Any:
    """Import what reads when it is first used: a server starts faster without."""
    if name not in _READING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_READING[name]}", __name__), name)
