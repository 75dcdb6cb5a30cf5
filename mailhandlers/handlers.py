"""The handlers: each is the name of a store."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from . import options
from .handler import Handler
from .stores.bucket import BucketStore
from .stores.json_lines import JsonLinesOutput, JsonLinesStore
from .stores.latest import LatestStore
from .stores.maildir import MaildirStore
from .stores.mbox import MboxStore
from .stores.people import PeopleStore
from .stores.store import Store

__all__ = [
    "BucketSink",
    "Handler",
    "JsonLines",
    "MailFile",
    "MaildirSink",
    "MboxSink",
    "PerRecipientDir",
]


class MailFile(Handler):
    """A handler that keeps the latest message in one file.

    Each message replaces the file atomically: a reader finds the old one or the new one, never
    a part. Of messages that arrive together only the last is written.

    ``aiosmtpd -n -c mailhandlers.MailFile latest.mail``, and ``tail -F latest.mail``.
    """

    _store_class: ClassVar[type[Store]] = LatestStore


class MaildirSink(Handler):
    """A handler that keeps messages in a Maildir, with one file for each message.

    Mail programs open it: https://cr.yp.to/proto/maildir.html describes the format. New
    messages are in the folder ``new``. A symbolic link to a folder is followed only if the
    server's user or root made it. Keep the store in a folder that only this user can write.

    ``aiosmtpd -n -c mailhandlers.MaildirSink inbox``
    """

    _store_class: ClassVar[type[Store]] = MaildirStore


class MboxSink(Handler):
    """A handler that keeps messages in one mbox file (mboxrd), one after the other.

    It takes the locks that mail programs take: fcntl's and ``PATH.lock``. A symbolic link is
    followed only if the server's user or root made it, and a file with a second name (a hard
    link) is refused. If the last message is not whole and it is not sure that a crash of this
    handler cut it short, it is moved to ``PATH.torn``, with a warning.

    ``aiosmtpd -n -c mailhandlers.MboxSink mail.mbox``
    """

    _store_class: ClassVar[type[Store]] = MboxStore


class JsonLines(Handler):
    """A handler that keeps messages as JSON, one object a line.

    The path ``-`` stands for standard output. A symbolic link is followed only if the server's
    user or root made it, and a file with a second name (a hard link) is refused. The lock of
    the file is that of flock(2).

    ``aiosmtpd -n -c mailhandlers.JsonLines mail.jsonl``
    """

    _store_class: ClassVar[type[Store]] = JsonLinesStore

    @options.as_keywords(options.Options)
    def __init__(self, path: str | os.PathLike[str], **keywords: Any) -> None:
        self.is_output = os.fspath(path) == "-"
        """Whether the lines go to standard output."""
        super().__init__(path, **keywords)

    def _make_store(self, chosen: options.Options) -> Store:
        if self.is_output and chosen.keep is None:
            return JsonLinesOutput(self.path)
        return super()._make_store(chosen)


class PerRecipientDir(Handler):
    """A handler that keeps messages in a folder for each recipient.

    Each folder has the recipient's messages, ``ID.eml``, and ``latest.eml``, a link to the
    latest. A message is in the folders of all its recipients or in none. A symbolic link to
    a folder is followed only if the server's user or root made it.

    ``aiosmtpd -n -c mailhandlers.PerRecipientDir people``: with ``python -m http.server -d
    people``, the latest message for bob is at ``/bob@example.com/latest.eml``.
    """

    _store_class: ClassVar[type[Store]] = PeopleStore


class BucketSink(Handler):
    """A handler that keeps messages in a bucket of an object store, which machines share.

    The path is ``s3://BUCKET/PREFIX``, or begins with ``gs://`` (Google) or ``az://`` (Azure).
    It needs ``pip install 'mailhandlers[bucket]'``. Credentials, endpoint and region come from
    the environment. A message is ``PREFIX/mail/ID.eml``; the client gets its reply when the
    object store has answered. ``sync=no`` changes nothing.

    ``aiosmtpd -n -c mailhandlers.BucketSink s3://mail/staging``
    """

    _store_class: ClassVar[type[Store]] = BucketStore

    def _make_store(self, chosen: options.Options) -> Store:
        if chosen.mode != options.Options().mode:
            raise ValueError(
                "mode= is for files: a bucket has rules of its own for who may read"
            )
        return BucketStore(self.path, keep=chosen.keep)  # type: ignore[arg-type] # read already
