"""The file of MboxSink, or an mbox of another program's."""

from __future__ import annotations

import contextlib
import os

from ..formats import FormatError, mbox
from ..mail import Mail
from ..writing import locks
from . import other_programs
from .growing import GrowingStore
from .store import GoneError


class MboxStore(GrowingStore):
    """The file of MboxSink, or an mbox of another program's."""

    entry_start = b"From "

    def parse(self, data: bytes, start: int, status: os.stat_result) -> Mail:
        if start + len(data) == status.st_size:
            begun = locks.begun(f"{self.path}.lock", status)
            if mbox.is_torn(data, None if begun is None else begun - start):
                raise GoneError(self.path)
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
        from ..writing.appending import mbox_file

        mbox_file(self.path).truncate()
