"""Handlers that do what the disk needs and nothing else, to show what the disk takes.

They stop the event loop while they wait, store no envelope and undo nothing. With one
session a handler that waits for the disk can't be faster by more than what runs differ by.
"""

from __future__ import annotations

import itertools
import os
from argparse import ArgumentParser
from typing import Any


class Append:
    """Append to one file, and fsync it."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @classmethod
    def from_cli(cls, parser: ArgumentParser, path: str) -> Append:
        """Return the handler for *path*."""
        return cls(path)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Store the message: the hook of aiosmtpd."""
        os.write(self._fd, envelope.content)
        os.fsync(self._fd)
        return "250 OK"


class File:
    """Make a file, fsync it, rename it, and fsync the folder."""

    def __init__(self, path: str) -> None:
        os.mkdir(path)
        self._path = path
        self._folder = os.open(path, os.O_RDONLY)
        self._numbers = itertools.count()

    @classmethod
    def from_cli(cls, parser: ArgumentParser, path: str) -> File:
        """Return the handler for *path*."""
        return cls(path)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Store the message: the hook of aiosmtpd."""
        name = f"{self._path}/{next(self._numbers)}"
        fd = os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, envelope.content)
        os.fsync(fd)
        os.close(fd)
        os.rename(f"{name}.tmp", name)
        os.fsync(self._folder)
        return "250 OK"
