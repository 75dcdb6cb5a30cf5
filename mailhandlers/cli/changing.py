"""The commands that change a store: copy and clear.

A copy leaves out what its target has, so that one that broke off is completed by the same
command. A batch is stored with one wait for the disk, all of it or nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from argparse import ArgumentParser
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from ..disk import files, system
from ..inbox.criteria import Criteria
from ..inbox.inbox import Inbox
from ..inbox.readable import LeftOut, Mails
from ..mail import EPOCH, Identity, Mail
from ..stores.find import find
from ..stores.folder import FolderStore
from ..stores.maildir import MaildirStore
from ..stores.people import folder_name
from ..stores.store import exists
from . import arguments
from .printing import Count, complain

if TYPE_CHECKING:
    from ..handlers import Handler

_MOST_MAILS = 1000
_MOST_OCTETS = 1 << 25
# A unique name as Maildirs have it, without flags, and short enough to add to.
_NAME = re.compile(
    r"(?P<second>[0-9]{9,12})\.(?:M(?P<part>[0-9]{6}))?[\w.,=+%@~-]{1,150}", re.A
)
_MADE = re.compile(r"[0-9]{10,12}\.M[0-9]{6}P0Q(?P<key>[0-9]{6}\.[0-9a-f]{32})\.copied")


def clear(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Remove the messages of a store that meet the criteria; the server may run on."""
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    options = parser.parse_args(argv)
    Inbox(options.store).clear(**arguments.criteria(options))
    return 0


def copy(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Copy messages to another store; return 1 where some can't be read."""
    from .. import handlers  # 0.15 s, with aiosmtpd; clear needs none of it
    from ..options import HANDLERS

    arguments.add_store(parser, "source")
    parser.add_argument(
        "handler", choices=HANDLERS, metavar="HANDLER", help=", ".join(HANDLERS)
    )
    parser.add_argument("path", metavar="PATH", help="the store to copy to")
    parser.add_argument(
        "options", nargs="*", metavar="key=value", help="options of the handler, as sync=no"
    )
    arguments.add_criteria(parser)
    options = parser.parse_intermixed_args(argv)
    if not exists(options.source):
        parser.error(f"{options.source}: nothing is there")
    try:
        handler = getattr(handlers, options.handler).from_args(options.path, *options.options)
        target = _Target(handler)
    except ValueError as error:
        parser.error(f"{options.handler}: {error}")

    criteria = Criteria(**arguments.criteria(options))
    readable = Mails(find(options.source).oldest_first(), LeftOut())
    mails = _wanted(readable, criteria)
    if target.keeps_one:
        mails = deque(mails, 1)  # the others would be written for nothing
    identities = Identities(target.ids)
    copied = Count("copied")
    try:
        for batch in _batches(identities.new(mails)):
            target.store(batch)
            copied.add(len(batch))
    except KeyboardInterrupt:
        copied.end("stopped; the same command copies the rest")
        raise
    finally:
        handler.close()
    copied.end(f"{identities.known:,} were there already")
    if readable.first_bad:
        complain(f"mailhandlers: not all could be read: {readable.first_bad}")
        return 1
    return 0


def _wanted(mails: Mails, criteria: Criteria) -> Iterable[Mail]:
    if criteria == Criteria():  # no need to parse them
        return mails
    return (
        Mail(message.envelope, message.original_content, message.is_altered)
        for message in criteria.among(mails)
    )


def _batches(mails: Iterable[Mail]) -> Iterator[list[Mail]]:
    batch: list[Mail] = []
    octets = 0
    for mail in mails:
        batch.append(mail)
        octets += len(mail.content)
        if len(batch) == _MOST_MAILS or octets > _MOST_OCTETS:
            yield batch
            batch, octets = [], 0
    if batch:
        yield batch


class Identities:
    """The ids that messages have in the store they are copied to: their own, or made ones.

    Messages that a handler stored have one. Those of other programs have the name of a file
    or none at all, and a file may claim any id: one that is no safe file name is replaced by
    one made of the moment of arrival and a hash of the content. The same message gets the same
    id in each copy of its store, and a later one an id that sorts later.
    """

    def __init__(self, stored: Iterable[str]) -> None:
        """Know the ids of the messages that are *stored* there."""
        self._taken = {_key(name) for name in stored}
        self._contents: dict[str, int] = {}
        self._last = 0
        self.known = 0
        """How many messages were no news."""

    def new(self, mails: Iterable[Mail]) -> Iterator[Mail]:
        """Yield those of *mails* that are new, each with the id it has from now on."""
        for mail in mails:
            name = self._name(mail)
            if _key(name) in self._taken:
                self.known += 1
            else:
                self._taken.add(_key(name))
                yield mail._replace(envelope=dataclasses.replace(mail.envelope, id=name))

    def _name(self, mail: Mail) -> str:
        name = mail.envelope.id.partition(":")[0]  # flags may follow, in a Maildir
        if parts := _NAME.fullmatch(name):
            moment = int(parts["second"]) * 1_000_000 + int(parts["part"] or 0)
            self._last = max(self._last, moment)
            return name
        moment = (mail.envelope.received - EPOCH) // timedelta(microseconds=1)
        self._last = max(self._last + 1, moment)
        digest = hashlib.sha256(mail.content).hexdigest()[:32]
        # A store may hold the same content twice, and its copy does, too.
        number = self._contents[digest] = self._contents.get(digest, 0) + 1
        return Identity.at(self._last, 0, number, f"{digest}.copied").id


def _key(name: str) -> str:
    """Return what tells a message from others.

    An id that was made has a moment that depends on those before it, which may be removed.
    """
    made = _MADE.fullmatch(name)
    return made["key"] if made else name


class _Target:
    """A handler's store, and what is in it before the copy."""

    def __init__(self, handler: Handler) -> None:
        """Look at what is there; raises ValueError where it is another handler's folder."""
        from ..handlers import JsonLines, MailFile, PerRecipientDir

        self._handler = handler
        self._halves: dict[str, list[str]] = {}
        self.keeps_one = isinstance(handler, MailFile)
        """Whether it keeps the latest message alone, and replaces what it has."""
        self.ids: list[str] = []
        """The ids of the messages that are there, and whole."""
        if self.keeps_one or (isinstance(handler, JsonLines) and handler.is_output):
            return
        path, by_recipient = handler.path, isinstance(handler, PerRecipientDir)
        store = find(path)
        is_maildir = isinstance(store, MaildirStore)
        for mail in Mails(store.newest_first(), None):
            if isinstance(store, FolderStore) and is_maildir == by_recipient:
                what = "a Maildir" if is_maildir else "no Maildir, and holds mail"
                raise ValueError(f"{path} is {what}: choose another")
            if by_recipient and (half := _half(path, mail)):
                self._halves[mail.envelope.id] = half
            else:
                self.ids.append(mail.envelope.id)

    def store(self, mails: Sequence[Mail]) -> None:
        """Store all *mails* or none; raises OSError."""
        for mail in mails:
            files.remove(self._halves.pop(mail.envelope.id, []))
        self._handler.store_all(mails)


def _half(path: str, mail: Mail) -> list[str]:
    """Return the names of *mail* in the folders of recipients, if these are not all.

    Each name is made by itself, and the links to the latest messages come last: a copy
    that is killed meanwhile leaves some without the others.
    """
    name = f"{mail.envelope.id}.eml"
    folders = {f"{path}/{folder_name(to)}" for to in mail.envelope.rcpt_tos or [""]}
    if all(os.path.lexists(f"{folder}/{name}") for folder in folders) and all(
        _latest(folder) >= name for folder in folders
    ):
        return []
    return [f"{folder}/{name}" for folder in folders]


def _latest(folder: str) -> str:
    try:
        return system.pointed_to(f"{folder}/latest.eml") or ""
    except OSError:  # something else is there
        return ""
