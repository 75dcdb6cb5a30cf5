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
def flock(path: Path) -> Iterator[None]:
    with path.open("rb+") as file:
        if WINDOWS:
            assert system.try_flock(file.fileno())
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def posix_lock(path: Path) -> Iterator[None]:
    with path.open("rb+") as file:
        if WINDOWS:
            assert system.try_lock(file.fileno())
        else:
            fcntl.lockf(file, fcntl.LOCK_EX)
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


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    fd = system.lock_folder(str(path))
    assert fd is not None
    yield
    os.close(fd)
