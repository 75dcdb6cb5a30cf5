"""The file of MboxSink, or an mbox of another program's."""

from __future__ import annotations

import re

from ..formats import FormatError, eml, mbox
from ..mail import Mail
from ..writing import appending
from . import other_programs
from .growing import GrowingStore
from .store import GoneError

# The blank line that ends an mbox entry, and how much of the next From line there may be.
_CLOSED = re.compile(rb"\n\n(?:F|Fr|Fro|From)?\Z")


class MboxStore(GrowingStore):
    """The file of MboxSink, or an mbox of another program's."""

    entry_start = b"From "
    growing_file = staticmethod(appending.mbox_file)

    def parse(self, data: bytes, is_last: bool, written: float) -> Mail:
        try:
            mail = mbox.decode(data)
        except FormatError:
            if is_last and mbox.is_torn(data):
                raise GoneError(self.path) from None
            first, _, content = mbox.unquote_from(data).partition(b"\n")
            if not first.startswith(b"From ") or eml.has_block(content):
                raise
        else:
            if is_last and not _CLOSED.search(data[-6:]):
                raise GoneError(self.path)
            return mail
        when = other_programs.mbox_date(first)
        content = content.removesuffix(b"\n")
        envelope = other_programs.envelope(
            content, self.path, written if when is None else when
        )
        return Mail(envelope, content)
