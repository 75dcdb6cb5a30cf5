"""The file of MboxSink, or an mbox of another program's."""

from __future__ import annotations

import contextlib
import os

from ..block import FormatError
from ..disk import locks
from ..formats import mbox
from ..mail import Mail
from . import other_programs
from .growing import GrowingStore


class MboxStore(GrowingStore):
    """The file of MboxSink, or an mbox of another program's."""

    entry_start = b"From "

    def is_torn(self, data: bytes, before: int | None) -> bool:
        return mbox.is_torn(data, before)

    def begun(self, status: os.stat_result) -> int | None:
        return locks.begun(f"{self.path}.lock", status)

    def is_changing(self, fd: int) -> bool:
        return locks.is_changing(fd, f"{self.path}.lock")

    def parse(self, data: bytes, status: os.stat_result) -> Mail:
        with contextlib.suppress(FormatError):
            return mbox.decode(data)
        first, _, content = mbox.unquote_from(data).partition(b"\n")
        if not first.startswith(b"From "):
            raise FormatError("no From line begins this mbox")
        when = other_programs.mbox_date(first)
        content = content.removesuffix(b"\n")
        envelope = other_programs.envelope(
            content, self.path, status.st_mtime if when is None else when
        )
        return Mail(envelope, content)

    def clear(self) -> None:
        from .appending import mbox_file

        mbox_file(self.path).truncate()
