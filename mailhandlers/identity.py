"""The moment and the unique name of each message."""

from __future__ import annotations

import functools
import itertools
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""From when a moment's seconds count."""
_HOST = socket.gethostname()
_LONGEST_HOST = 100  # the rest of a name has room beside it, in any folder
_ID = re.compile(r"(\d{10})\.M(\d{6})P\d+Q\d+\.[A-Za-z0-9._-]+", re.ASCII)
_clock = threading.Lock()
_last = 0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Identity:
    """The name and the moment of one message, from one reading of the clock."""

    id: str
    received: datetime

    @classmethod
    def now(cls) -> Identity:
        """Return the next identity of this process; a later one always sorts later."""
        global _last
        with _clock:
            # A clock that is set back must not change the order of arrival.
            _last = max(_last + 1, time.time_ns() // 1000)
            return cls.at(_last, os.getpid(), next(_numbers), _HOST)

    @classmethod
    def at(cls, microseconds: int, pid: int, number: int, host: str) -> Identity:
        """Return the identity of the *number*-th message of process *pid* on *host*.

        *microseconds* count from the epoch. Names are those of the Maildir
        specification, padded with zeros so that they sort by arrival.
        """
        seconds, rest = divmod(microseconds, 1_000_000)
        return cls(
            f"{seconds:010d}.M{rest:06d}P{pid}Q{number:06d}.{_in_a_name(host)}",
            EPOCH + timedelta(microseconds=microseconds),
        )


def go_on_after(name: str) -> bool:
    """Let the next identities of this process sort behind *name*, which is one.

    Returns whether that is later than the clock has it now.
    """
    global _last
    match = _ID.fullmatch(name)
    assert match is not None
    with _clock:
        _last = max(_last, int(match[1]) * 1_000_000 + int(match[2]))
        return _last > time.time_ns() // 1000


@functools.cache
def _in_a_name(host: str) -> str:
    # A Maildir reader takes "/" for a folder and ":" for the start of the flags.
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "_" for c in host)
    return safe[:_LONGEST_HOST] or "localhost"


def is_id(name: str) -> bool:
    """Tell whether *name* is an identity's, whatever follows it."""
    return _ID.fullmatch(name) is not None
