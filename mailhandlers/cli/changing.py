"""The commands that change a store: copy and clear.

What is in the target of a copy already is left out, so that a copy that broke off is
completed by the same command. A batch is stored with one wait for the disk, all of it or
nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import sys
import time
from argparse import ArgumentParser
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from ..disk import files
from ..formats.folder_names import folder_name
from ..identity import EPOCH, Identity
from ..inbox.criteria import Criteria
from ..inbox.found import Found
from ..inbox.inbox import Inbox
from ..mail import Mail
from ..stores.find import find
from ..stores.folders import FolderStore
from . import arguments
from .printing import complain

if TYPE_CHECKING:
    from .. import handlers

_MOST_MAILS = 1000
_MOST_OCTETS = 1 << 25
_FIRST_PROGRESS = 1.0  # seconds, after which a person wonders


def copy(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Copy; return 1 where some messages of the source can't be read."""
    from .. import handlers  # takes 0.15 s, with aiosmtpd: no other command needs it

    names = [name for name in handlers.__all__ if name != "Handler"]
    arguments.add_store(parser, "source")
    parser.add_argument("handler", choices=names, metavar="HANDLER", help=", ".join(names))
    parser.add_argument("path", metavar="PATH", help="the store to copy to")
    parser.add_argument(
        "options", nargs="*", metavar="key=value", help="options of the handler, as sync=no"
    )
    arguments.add_criteria(parser)
    options = parser.parse_intermixed_args(argv)
    if not os.path.exists(options.source):
        parser.error(f"{options.source}: nothing is there")
    try:
        handler = getattr(handlers, options.handler).from_args(options.path, *options.options)
        target = Target(handler)
    except ValueError as error:
        parser.error(f"{options.handler}: {error}")
    criteria = Criteria(**arguments.criteria(options))
    return _Copy(options.source, criteria, target).run()


class _Copy:
    """One run of the command, and what it has done so far."""

    def __init__(self, source: str, criteria: Criteria, target: Target) -> None:
        self._source = source
        self._criteria = criteria
        self._target = target
        # What a store of one message has is replaced, whatever it is.
        self._identities = Identities(target.ids if target.keeps_all else [])
        self._found = Found(criteria)
        self._copied = 0
        self._started = time.monotonic()
        self._progress = sys.stderr.isatty()

    def run(self) -> int:
        """Copy all, and tell how much that was."""
        try:
            for batch in _batches(self._identities.new(self._mails())):
                self._target.store(batch)
                self._copied += len(batch)
                self._show_progress()
        except KeyboardInterrupt:
            self._summarize("stopped; the same command copies the rest")
            raise
        finally:
            self._target.close()
        self._summarize(f"{self._identities.known:,} were there already")
        if self._found.first_bad:
            complain(f"mailhandlers: not all could be read: {self._found.first_bad}")
            return 1
        return 0

    def _mails(self) -> Iterable[Mail]:
        mails = self._wanted()
        # What it keeps is the last: the others would be written for nothing.
        return mails if self._target.keeps_all else deque(mails, 1)

    def _wanted(self) -> Iterator[Mail]:
        entries = find(self._source).oldest_first()
        if self._criteria == Criteria():  # no need to parse them
            yield from self._found.contents(entries)
        else:
            for message in self._found.messages(entries):
                yield Mail(message.envelope, message.original_content, message.is_altered)

    def _show_progress(self) -> None:
        if self._progress and time.monotonic() - self._started > _FIRST_PROGRESS:
            print(f"\r{self._copied:,} messages copied ...", end="", file=sys.stderr)
            sys.stderr.flush()

    def _summarize(self, end: str) -> None:
        erase = "\r\x1b[K" if self._progress else ""
        messages = "message" if self._copied == 1 else "messages"
        print(f"{erase}{self._copied:,} {messages} copied; {end}", file=sys.stderr)


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


def clear(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Remove all messages of a store; the server may run on."""
    arguments.add_store(parser)
    options = parser.parse_args(argv)
    Inbox(options.store).clear()
    return 0


# A unique name as Maildirs have it, without flags, and short enough to add to.
_NAME = re.compile(
    r"(?P<second>[0-9]{9,12})\.(?:M(?P<part>[0-9]{6}))?[\w.,=+%@~-]{1,150}", re.A
)
_MADE = re.compile(r"[0-9]{10,12}\.M[0-9]{6}P0Q(?P<key>[0-9]{6}\.[0-9a-f]{32})\.copied")


class Identities:
    """Which messages a store has, by their ids, and which are new to it."""

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
            named = self._named(mail)
            key = _key(named.envelope.id)
            if key in self._taken:
                self.known += 1
            else:
                self._taken.add(key)
                yield named

    def _named(self, mail: Mail) -> Mail:
        name = mail.envelope.id.partition(":")[0]  # flags may follow, in a Maildir
        parts = _NAME.fullmatch(name)
        if parts is not None:
            moment = int(parts["second"]) * 1_000_000 + int(parts["part"] or 0)
            self._last = max(self._last, moment)
        else:
            name = self._made(mail)
        if name == mail.envelope.id:
            return mail
        return mail._replace(envelope=dataclasses.replace(mail.envelope, id=name))

    def _made(self, mail: Mail) -> str:
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


class Target:
    """A handler's store, as it is before a copy, and then as it grows."""

    def __init__(self, handler: handlers.Handler) -> None:
        """Look at what is there; raises ValueError where it is another handler's folder."""
        from .. import handlers

        self._handler = handler
        self._halves: dict[str, list[str]] = {}
        self.keeps_all = not isinstance(handler, handlers.MailFile)
        """Whether it keeps more than the latest message."""
        self.ids: list[str] = []
        """The ids of the messages that are there, and whole."""
        if not (isinstance(handler, handlers.JsonLines) and handler.is_output):
            self._look(handler.path)

    def store(self, mails: Sequence[Mail]) -> None:
        """Store all *mails* or none; raises OSError."""
        for mail in mails:
            files.remove(self._halves.pop(mail.envelope.id, []))
        self._handler.store_all(mails)

    def close(self) -> None:
        """Let the last batch come to its end."""
        self._handler.close()

    def _look(self, path: str) -> None:
        from .. import handlers

        by_recipient = isinstance(self._handler, handlers.PerRecipientDir)
        store = find(path)
        for mail in Found(Criteria()).contents(store.newest_first()):
            if isinstance(store, FolderStore) and store.is_maildir == by_recipient:
                what = "a Maildir" if store.is_maildir else "no Maildir, and holds mail"
                raise ValueError(f"{path} is {what}: choose another")
            half = _half(path, mail) if by_recipient else []
            if half:
                self._halves[mail.envelope.id] = half
            else:
                self.ids.append(mail.envelope.id)


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
        return os.readlink(f"{folder}/latest.eml")
    except OSError:  # none yet
        return ""
