"""Locks that other programs hold; on Windows, those of another server."""

from __future__ import annotations

import mailbox
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import WINDOWS

from mailhandlers.disk import system

if not WINDOWS:
    import fcntl


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = system.open_file(str(path), os.O_RDWR)
    yield fd
    os.close(fd)


@contextmanager
def flock(path: Path) -> Iterator[None]:
    with opened(path) as fd:
        if WINDOWS:
            assert system.try_flock(fd)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield


@contextmanager
def posix_lock(path: Path) -> Iterator[None]:
    with opened(path) as fd:
        if WINDOWS:
            assert system.try_lock(fd)
        else:
            fcntl.lockf(fd, fcntl.LOCK_EX)
        yield


@contextmanager
def dotlock(path: Path) -> Iterator[None]:
    lock = Path(f"{path}.lock")
    lock.touch(exist_ok=False)
    yield
    lock.unlink()


@contextmanager
def lock_of_python(path: Path) -> Iterator[None]:
    box = mailbox.mbox(path, create=False)
    box.lock()
    yield
    box.unlock()
    box.close()


def leave_dotlock(mbox: Path, length: int) -> None:
    """Make the dotlock that a server leaves which was killed behind *length* octets."""
    owner, lock = f"mailhandlers.1.{mbox.stat().st_ino}.{length}", Path(f"{mbox}.lock")
    if WINDOWS:
        lock.write_text(owner)
    else:
        lock.symlink_to(owner)


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    fd = system.lock_folder(str(path))
    assert fd is not None
    yield
    os.close(fd)
