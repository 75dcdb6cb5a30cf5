"""The five handlers on a disk that a test can let fail or stop: ``-c faulty.MailFile``.

A test and its server speak through the files of a folder.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support import WINDOWS, Kind, Server, wait_until

from mailhandlers import JsonLines, MaildirSink, MailFile, MboxSink, PerRecipientDir
from mailhandlers import commit as commits
from mailhandlers.commit import Commits
from mailhandlers.disk import system
from mailhandlers.mail import Mail

__all__ = ["JsonLines", "MailFile", "MaildirSink", "MboxSink", "PerRecipientDir"]

_ANYWHERE = ("close", "fstat", "fsync", "ftruncate", "lstat", "mkdir", "open", "stat")
_OF_POSIX = ("link", "readlink", "rename", "replace", "symlink", "unlink", "writev")
_OF_WINDOWS = (
    *("link", "lock_folder", "make_pointer", "open_file", "open_to_read", "pointed_to"),
    *("rename", "replace", "unlink", "write"),
)
CALLS: dict[str, Any] = dict.fromkeys(_ANYWHERE, os) | (
    dict.fromkeys(_OF_WINDOWS, system) if WINDOWS else dict.fromkeys(_OF_POSIX, os)
)
"""The functions that can fail, and where they are."""

WRITE = "write" if WINDOWS else "writev"
"""What writes a message."""


def in_a_process(work: Callable[[], object], killed_at: int = 0) -> bool:
    """Do *work* in another process; kill that before its call *killed_at* of the system.

    Return whether it was killed.
    """
    if (pid := os.fork()) == 0:
        left = itertools.count(killed_at - 1, -1)

        def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
            def function(*args: Any, **named: Any) -> Any:
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **named)

            return function

        for name, where in CALLS.items() if killed_at else ():
            setattr(where, name, deadly(getattr(where, name)))
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return status != 0


class Gate:
    """Takes the place of os.fsync, and holds whoever calls it while it is closed."""

    def __init__(self, folder: Path) -> None:
        self._held = folder / "held"
        self._closed = folder / "closed"
        self._fsync = os.fsync

    def __call__(self, fd: int) -> None:
        if self._closed.exists():
            self._held.write_bytes(b"")
            wait_until(lambda: not self._closed.exists())
        self._fsync(fd)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Hold every fsync within this block."""
        self._held.unlink(missing_ok=True)
        self._closed.write_bytes(b"")
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        """Let all go on."""
        self._closed.unlink(missing_ok=True)

    def wait_for_somebody(self) -> None:
        """Wait until somebody is held."""
        wait_until(self._held.exists)


class Disk:
    """The disk of one server, as its test sees it.

    The thread writes all that comes, so that the loop goes on where the disk stands still;
    where it *is_quick*, the loop tries to write all but the first.
    """

    def __init__(self, folder: Path, *, is_quick: bool = False) -> None:
        self._folder = folder
        self._is_quick = is_quick
        self._gate = Gate(folder)
        self.server: Server

    @contextmanager
    def serving(
        self, kind: Kind, store: Path, *arguments: str, change: str = "", **settings: Any
    ) -> Iterator[Server]:
        """Run the stock command on this disk; *change* is code that it runs at its start."""
        env = {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
            "FAULTY_DISK": str(self._folder),
            "FAULTY_IS_QUICK": "yes" if self._is_quick else "",
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
        system.replace(str(told), str(self._folder / "fail"), sync=False)

    def failed(self) -> bool:
        """Tell whether the fault happened; there is none from now on."""
        with suppress(FileNotFoundError):
            system.unlink(str(self._folder / "fail"))
        has_failed = (self._folder / "failed").exists()
        (self._folder / "failed").unlink(missing_ok=True)
        return has_failed

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Hold every fsync within this block."""
        with self._gate.closed():
            yield

    def go_on(self) -> None:
        """Let all go on, before the end of :meth:`stopped`."""
        self._gate.open()

    def wait_for_writer(self) -> None:
        """Wait until the writer is held."""
        self._gate.wait_for_somebody()

    def wait_for_messages(self, number: int) -> None:
        """Wait until the server was given *number* messages since its start."""
        wait_until(lambda: _number_in(self._folder / "messages") == number)


def _number_in(path: Path) -> int:
    try:
        return int(path.read_bytes() or b"0")
    except FileNotFoundError:
        return 0


# What follows runs in the server.


def _install(environ: Mapping[str, str]) -> None:
    folder = Path(environ["FAULTY_DISK"])
    unlink, lock = os.unlink, threading.Lock()
    is_writing = False

    def may_fail(call: str) -> None:
        if not is_writing and threading.current_thread() is threading.main_thread():
            return  # the event loop's own
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
                (folder / "failed").write_bytes(b"")
                raise _exception(error)

    setattr(os, "fsync", Gate(folder))  # noqa: B010
    for name, module in CALLS.items():
        setattr(module, name, _failing(name, getattr(module, name), may_fail))

    commit, write, received = Commits.commit, Commits.write_here, 0

    async def counting_commit(self: Commits, mail: Mail) -> str:
        nonlocal received
        received += 1
        (folder / "messages").write_text(f"{received}")
        return await commit(self, mail)

    def failing_write(self: Commits, mails: Sequence[Mail]) -> bool:
        nonlocal is_writing
        is_writing = bool(environ["FAULTY_IS_QUICK"])
        if is_writing:
            with self._writing:  # the thread may still tidy up behind its reply: then it writes
                pass
        try:
            return is_writing and write(self, mails)
        finally:
            is_writing = False

    Commits.commit = counting_commit  # type: ignore[method-assign]
    Commits.write_here = failing_write  # type: ignore[method-assign]
    commits.LONGEST_ON_LOOP = 1000.0
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
