"""What is asked of the store at a path, and how long that takes; of any version of the package.

This is a process of its own: so the memory it takes is the Inbox's.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mailhandlers import Inbox, NoMessageError

_ASKED = 2.0  # seconds
_LONG = 2.0  # seconds: it is measured once


def _absent(inbox: Inbox) -> None:
    with suppress(NoMessageError):
        inbox.latest(to="nobody@example.com")


def _silence(inbox: Inbox) -> None:
    with inbox.expect_none(within=0):
        pass


def _one(inbox: Inbox) -> None:
    assert inbox.messages(to="user7@example.com")


def _nothing(inbox: Inbox) -> None:
    assert not inbox.messages(matching="no message holds this")


# What is asked of an Inbox that knows nothing yet, or of one that was asked before.
_FIRST: dict[str, Callable[[Inbox], object]] = {
    "latest": Inbox.latest,
    "latest(to=nobody)": _absent,
    "messages(to=one)": _one,
    "len": len,
    "expect_none(within=0)": _silence,
}
if hasattr(Inbox, "by_recipient"):  # not in 1.1
    _FIRST["by_recipient"] = Inbox.by_recipient


def ask(path: str) -> None:
    """Print the milliseconds of each question to the store at *path*, and octets a message."""
    rows: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:  # what is imported only now isn't memory's
        Path(folder, "1.eml").write_bytes(b"From: eva@example.com\nSubject: one\n\nHi\n")
        for act in (*_FIRST.values(), Inbox.messages):
            with suppress(AssertionError):
                act(Inbox(folder))
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
    if hasattr(Inbox, "by_recipient"):  # 1.1 remembers nothing
        for name, act in _FIRST.items():
            measure(name, act, again=True)
    asked = found = 0
    begun = time.perf_counter()
    while (seconds := time.perf_counter() - begun) < _ASKED:
        found += len(inbox.messages(to=f"user{asked * 7919 % min(count, 20_000)}@example.com"))
        asked += 1
    rows["messages(to=each in turn)"] = 1000 * seconds / asked
    rows["  for each found"] = 1000 * seconds / found
    begun = time.perf_counter()
    for message in inbox:
        _ = message["Subject"]
    rows["one pass"] = 1000 * (time.perf_counter() - begun)
    rows["messages(matching=nothing)"] = 1000 * _seconds(lambda: _nothing(inbox))
    for name, value in rows.items():
        print(f"{name}\t{value}")


def _seconds(act: Callable[[], object]) -> float:
    """Return the shortest of three times, or one that is long."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        act()
        times.append(time.perf_counter() - begun)
        if times[-1] > _LONG:
            break
    return min(times)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    ask(sys.argv[1])
