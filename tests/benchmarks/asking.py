"""What is asked of the store at a path, and how long that takes; of any version of the package.

This is a process of its own: so the memory it takes is the Inbox's.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mailhandlers import Inbox, NoMessageError

_ASKED = 2.0  # seconds


def _absent(inbox: Inbox) -> None:
    with suppress(NoMessageError):
        inbox.latest(to="nobody@example.com")


def _silence(inbox: Inbox) -> None:
    with inbox.expect_none(within=0):
        pass


# What is asked of an Inbox that knows nothing yet, or of one that was asked before.
_FIRST: dict[str, Callable[[Inbox], object]] = {
    "latest": Inbox.latest,
    "latest, to nobody": _absent,
    "len": len,
    "a wait, begun and ended": _silence,
}
if hasattr(Inbox, "by_recipient"):  # not in 1.1
    _FIRST["by_recipient"] = Inbox.by_recipient


def ask(path: str) -> None:
    """Print the milliseconds of each question to the store at *path*, and octets a message."""
    rows: dict[str, float] = {}
    before = _resident()
    inbox = Inbox(path)
    count = len(inbox)
    for _ in range(2):  # at the second question it makes an index
        inbox.messages(to="nobody@example.com")
    rows["octets a message"] = (_resident() - before) / count

    def measure(name: str, act: Callable[[Inbox], object], again: bool) -> None:
        def read() -> object:
            return act(inbox if again else Inbox(path))

        rows[name + ", again" * again] = 1000 * _seconds(read)

    for name, act in _FIRST.items():
        measure(name, act, again=False)
    for name, act in _FIRST.items():
        measure(name, act, again=True)
    asked = found = 0
    begun = time.perf_counter()
    while (seconds := time.perf_counter() - begun) < _ASKED:
        found += len(inbox.messages(to=f"user{asked * 7919 % min(count, 20_000)}@example.com"))
        asked += 1
    rows["messages(to=one), again"] = 1000 * seconds / asked
    rows["  for each found"] = 1000 * seconds / found
    begun = time.perf_counter()
    for message in inbox:
        _ = message["Subject"]
    rows["one pass, a message"] = 1000 * (time.perf_counter() - begun) / count
    for name, value in rows.items():
        print(f"{name}\t{value}")


def _seconds(act: Callable[[], object]) -> float:
    """Return the shorter of two times."""
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
    return min(times)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    ask(sys.argv[1])
