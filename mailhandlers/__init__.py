"""Handlers that give the stock aiosmtpd command a memory, and a reader for what they keep.

``aiosmtpd -n -c mailhandlers.MailFile latest.mail`` stores;
``read_latest("latest.mail")`` reads back.
"""

from .envelope import Envelope
from .handlers import JsonLines, MaildirSink, MailFile, MboxSink, PerRecipientDir
from .message import StoredMessage
from .reader import Inbox, NoMessageError, StoreError, read_latest, read_messages
from .session import Reply

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
