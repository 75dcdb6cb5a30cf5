"""Handlers that give the stock aiosmtpd command a memory, and a reader for what they keep.

``aiosmtpd -n -c mailhandlers.MailFile latest.mail`` stores;
``read_latest("latest.mail")`` reads back.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catcher import MailCatcher
    from .handlers import JsonLines, MaildirSink, MailFile, MboxSink, PerRecipientDir
    from .mail import Envelope, Mail
    from .reading.inbox import Inbox, read_latest, read_messages
    from .reading.message import StoredMessage
    from .reading.search import NoMessageError
    from .reading.store import StoreError
    from .smtp.replies import Reply

__all__ = [
    "Envelope",
    "Inbox",
    "JsonLines",
    "Mail",
    "MailCatcher",
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

__version__ = "1.1.0"

# Each name is imported when it is first used: a reader needs no server, and no asyncio.
_MODULES = {
    "Envelope": "mail",
    "Inbox": "reading.inbox",
    "JsonLines": "handlers",
    "Mail": "mail",
    "MailCatcher": "catcher",
    "MailFile": "handlers",
    "MaildirSink": "handlers",
    "MboxSink": "handlers",
    "NoMessageError": "reading.search",
    "PerRecipientDir": "handlers",
    "Reply": "smtp.replies",
    "StoreError": "reading.store",
    "StoredMessage": "reading.message",
    "read_latest": "reading.inbox",
    "read_messages": "reading.inbox",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
