"""``mailhandlers copy``: messages from one store to another, exactly as they are.

What is in the target already is left out, so that a copy that broke off is completed by
the same command. A batch is stored with one wait for the disk, all of it or nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from .. import handlers
from ..inbox.criteria import Criteria, Mails
from ..mail import Mail
from ..stores.find import find
from . import arguments
from .commands import parser_of
from .identities import Identities
from .target import Target
from .terminal import complain

_MOST_MAILS = 1000
_MOST_OCTETS = 1 << 25
_FIRST_PROGRESS = 1.0  # seconds, after which a person wonders


def run(argv: Sequence[str]) -> int:
    """Copy; return 1 where some messages of the source can't be read."""
    parser = parser_of("copy")
    arguments.add_store(parser, "source")
    parser.add_argument(
        "handler", choices=_HANDLERS, metavar="HANDLER", help=", ".join(_HANDLERS)
    )
    parser.add_argument("path", metavar="PATH", help="the store to copy to")
    parser.add_argument(
        "options", nargs="*", metavar="key=value", help="options of the handler, as sync=no"
    )
    arguments.add_criteria(parser)
    options = parser.parse_intermixed_args(argv)
    if not os.path.exists(options.source):
        parser.error(f"{options.source}: nothing is there")
    try:
        handler = _HANDLERS[options.handler].from_args(options.path, *options.options)
        target = Target(handler)
    except ValueError as error:
        parser.error(f"{options.handler}: {error}")
    criteria = Criteria(**arguments.criteria(options))
    return _Copy(options.source, criteria, target).run()


_HANDLERS: dict[str, type[handlers.Handler]] = {
    kind.__name__: kind
    for kind in (
        handlers.MailFile,
        handlers.MaildirSink,
        handlers.MboxSink,
        handlers.JsonLines,
        handlers.PerRecipientDir,
    )
}


class _Copy:
    """One run of the command, and what it has done so far."""

    def __init__(self, source: str, criteria: Criteria, target: Target) -> None:
        self._criteria = criteria
        self._target = target
        # What a store of one message has is replaced, whatever it is.
        self._identities = Identities(target.ids if target.keeps_all else [])
        self._mails = Mails(find(source).oldest_first())
        self._copied = 0
        self._started = time.monotonic()
        self._progress = sys.stderr.isatty()

    def run(self) -> int:
        """Copy all, and tell how much that was."""
        try:
            for batch in _batches(self._identities.new(self._kept())):
                self._target.store(batch)
                self._copied += len(batch)
                self._show_progress()
        except KeyboardInterrupt:
            self._summarize("stopped; the same command copies the rest")
            raise
        finally:
            self._target.close()
        self._summarize(f"{self._identities.known:,} were there already")
        if self._mails.first_bad:
            complain(f"mailhandlers: not all could be read: {self._mails.first_bad}")
            return 1
        return 0

    def _kept(self) -> Iterable[Mail]:
        mails = self._wanted()
        # What it keeps is the last: the others would be written for nothing.
        return mails if self._target.keeps_all else deque(mails, 1)

    def _wanted(self) -> Iterator[Mail]:
        if self._criteria == Criteria():  # no need to parse them
            yield from self._mails
        else:
            for message in self._criteria.among(self._mails):
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
