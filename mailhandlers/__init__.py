"""Catch the mail that a program sends, keep it on disk exactly as it came, and read it back.

A server that keeps the latest message in a file, and a program that reads it::

    aiosmtpd -n -c mailhandlers.MailFile latest.mail

    from mailhandlers import read_latest
    print(read_latest("latest.mail", timeout=10).text)

To store mail: MailFile, MaildirSink, MboxSink, JsonLines, PerRecipientDir and BucketSink, the
handlers of aiosmtpd. MailCatcher is a server in a ``with`` block, and Reply an answer that it
is told to give.

To read mail: read_latest, read_messages and Inbox. They return a StoredMessage, which has an
Envelope. They raise NoMessageError and StoreError.

Times are in seconds, sizes in octets (bytes).
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .catcher import MailCatcher
    from .handlers import (
        BucketSink,
        JsonLines,
        MaildirSink,
        MailFile,
        MboxSink,
        PerRecipientDir,
    )
    from .inbox.inbox import Inbox, read_latest, read_messages
    from .inbox.misses import NoMessageError
    from .mail import Envelope, Mail
    from .message.message import StoredMessage
    from .smtp.replies import Reply
    from .stores.store import StoreError

__all__ = [
    "BucketSink",
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

__version__ = "1.2.0"

# Each name is imported when it is first used: a reader needs no server, and no asyncio.
_MODULES = {
    "BucketSink": "handlers",
    "Envelope": "mail",
    "Inbox": "inbox.inbox",
    "JsonLines": "handlers",
    "Mail": "mail",
    "MailCatcher": "catcher",
    "MailFile": "handlers",
    "MaildirSink": "handlers",
    "MboxSink": "handlers",
    "NoMessageError": "inbox.misses",
    "PerRecipientDir": "handlers",
    "Reply": "smtp.replies",
    "StoreError": "stores.store",
    "StoredMessage": "message.message",
    "read_latest": "inbox.inbox",
    "read_messages": "inbox.inbox",
}


def __getattr__(name: str) -> Any:
    handlers = [each for each, module in _MODULES.items() if module == "handlers"]
    if name not in handlers and sys._getframe(1).f_globals["__name__"] == "aiosmtpd.main":
        # The command, which would end with a traceback.
        sys.exit(f"aiosmtpd: {name} is no handler: choose from {', '.join(handlers)}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
