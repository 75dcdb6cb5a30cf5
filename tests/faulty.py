"""The five handlers on a disk that a test can let fail or stop: ``-c faulty.MailFile``.

A test and its server speak through the files of a folder. What a handler asks of the disk
is looked at before the command forks, so that its thread and its child are treated alike.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import Kind, Server, wait_until, writer_of

from mailhandlers import JsonLines, MaildirSink, MailFile, MboxSink, PerRecipientDir
from mailhandlers.mail import Mail
from mailhandlers.writing.commit import GroupCommit
from mailhandlers.writing.writers import Written

__all__ = ["JsonLines", "MailFile", "MaildirSink", "MboxSink", "PerRecipientDir"]

CALLS = [
    *("close", "fstat", "fsync", "ftruncate", "link", "lstat", "mkdir", "open", "readlink"),
    *("rename", "replace", "stat", "symlink", "unlink", "writev"),
]
"""The functions of :mod:`os` that can fail."""


class Gate:
    """Takes the place of os.fsync, and holds whoever calls it while it is closed."""

    def __init__(self, folder: Path) -> None:
        self._held = folder / "held"
        self._path = folder / "gate"
        self._path.touch()
        self._lock = self._path.open("rb")
        self._fsync = os.fsync

    def __call__(self, fd: int) -> None:
        # The kernel wakes up whoever waits for a lock, also in another process.
        with open(self._path, "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                self._held.write_text(f"{os.getpid()}")
                fcntl.flock(lock, fcntl.LOCK_SH)
        self._fsync(fd)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Hold every fsync within this block."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            self._held.unlink(missing_ok=True)
            self.open()

    def open(self) -> None:
        """Let all go on."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def wait_for_somebody(self) -> int:
        """Return the process that is held, once one is."""
        return wait_until(lambda: _number_in(self._held))


class Disk:
    """The disk of one server, as its test sees it.

    *writer* is who writes all that comes, thread or child; any: as the command chooses.

    What is said of the disk fails the test where somebody else has written.
    """

    def __init__(self, folder: Path, writer: str) -> None:
        self._folder = folder
        self.writer = writer
        self._gate = Gate(folder)
        self.server: Server

    @contextmanager
    def serving(
        self, kind: Kind, store: Path, *arguments: str, change: str = "", **settings: Any
    ) -> Iterator[Server]:
        """Run the stock command on this disk; *change* is code that it runs at its start."""
        env = {
            "PYTHONPATH": str(Path(__file__).parent),
            "FAULTY_DISK": str(self._folder),
            "FAULTY_WRITER": self.writer,
            "FAULTY_CHANGE": change,
        }
        settings["env"] = env | settings.get("env", {})
        handler = f"faulty.{kind.handler}"
        with Server(handler, store, *arguments, **settings) as self.server:
            yield self.server

    def fail(
        self, call: str, number: int = 1, error: int | str = 5, *, lasting: bool = False
    ) -> None:
        """Let the *number*-th *call* of the writer fail, and if *lasting* all that follow.

        *error* is a number of :mod:`errno`, EIO unless given, or the name of an exception.
        """
        told = self._folder / "told"
        told.write_text(f"{call} {number} {error} {lasting:d}")
        told.rename(self._folder / "fail")

    def failed(self) -> int:
        """Return the process that the fault happened in, or 0; there is none from now on."""
        (self._folder / "fail").unlink(missing_ok=True)
        pid = _number_in(self._folder / "failed")
        (self._folder / "failed").unlink(missing_ok=True)
        assert pid in {0} | self._writers()
        return pid

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold every fsync within this block."""
        with self._gate.closed():
            yield

    def go_on(self) -> None:
        """Let all go on, before the end of :meth:`stopped`."""
        self._gate.open()

    def wait_for_writer(self) -> int:
        """Return the process of the writer, once it is held."""
        pid = self._gate.wait_for_somebody()
        assert pid in self._writers()
        return pid

    def wait_for_messages(self, number: int) -> None:
        """Wait until the server was given *number* messages since its start."""
        wait_until(lambda: _number_in(self._folder / "messages") == number)

    def _writers(self) -> set[int]:
        thread = set() if self.writer == "child" else {self.server.process.pid}
        child = set() if self.writer == "thread" else {writer_of(self.server)}
        return thread | child


def _number_in(path: Path) -> int:
    try:
        return int(path.read_bytes() or b"0")
    except FileNotFoundError:
        return 0


# What follows runs in the server.


def _install(environ: Mapping[str, str]) -> None:
    folder = Path(environ["FAULTY_DISK"])
    server = os.getpid()
    unlink, lock = os.unlink, threading.Lock()

    def may_fail(call: str) -> None:
        if os.getpid() == server and threading.current_thread() is threading.main_thread():
            return  # the event loop: it doesn't write
        with lock:
            try:
                told, number, error, lasting = (folder / "fail").read_text().split()
            except FileNotFoundError:
                return
            if told != call:
                return
            left = max(int(number) - 1, 0)
            if left or lasting == "1":
                (folder / "fail").write_text(f"{call} {left} {error} {lasting}")
            else:
                unlink(folder / "fail")
            if left == 0:
                (folder / "failed").write_text(f"{os.getpid()}")
                raise _exception(error)

    setattr(os, "fsync", Gate(folder))  # noqa: B010
    for name in CALLS:
        setattr(os, name, _failing(name, getattr(os, name), may_fail))

    commit, write, received = GroupCommit.commit, GroupCommit.write, 0

    async def counting_commit(self: GroupCommit, mail: Mail) -> str:
        nonlocal received
        received += 1
        (folder / "messages").write_text(f"{received}")
        return await commit(self, mail)

    def write_by_one(self: GroupCommit, mails: list[Mail], written: Written) -> None:
        if not mails:
            write(self, mails, written)
        elif environ["FAULTY_WRITER"] == "child":
            assert self._child is not None
            self._child.commit(mails, written)
        else:
            self._thread.commit(mails, written)

    GroupCommit.commit = counting_commit  # type: ignore[method-assign]
    if environ["FAULTY_WRITER"] != "any":
        GroupCommit.write = write_by_one  # type: ignore[method-assign]
    exec(environ["FAULTY_CHANGE"], {})


def _failing(
    name: str, call: Callable[..., Any], may_fail: Callable[[str], None]
) -> Callable[..., Any]:
    def failing(*arguments: Any, **named: Any) -> Any:
        if name == "close":  # what can't be closed is closed all the same: close(2)
            call(*arguments, **named)
            may_fail(name)
            return None
        may_fail(name)
        return call(*arguments, **named)

    return failing


def _exception(error: str) -> Exception:
    if error.isdecimal():
        return OSError(int(error), os.strerror(int(error)))
    made: Exception = {"ZeroDivisionError": ZeroDivisionError, "MemoryError": MemoryError}[
        error
    ]()
    return made


if "FAULTY_DISK" in os.environ:
    _install(os.environ)
