"""A file that is kept open: what was appended before it was renamed can still be read."""

from __future__ import annotations

import os
from typing import BinaryIO
from weakref import finalize

from .store import open_regular


class HeldFile:
    """The file that is at *path* now, open as long as this object lives.

    Raises OSError, and FormatError where it is no regular file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open_regular(path)
        finalize(self, self._file.close)

    def is_in_place(self) -> bool:
        """Tell whether the file is still at its path."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def open(self) -> BinaryIO:
        """Return the file, opened once more."""
        return open(os.dup(self._file.fileno()), "rb", buffering=0)
