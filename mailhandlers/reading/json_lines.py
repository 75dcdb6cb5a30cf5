"""The file of JsonLines."""

from __future__ import annotations

from ..formats import json_lines
from ..mail import Mail
from ..writing import appending
from .growing import GrowingStore
from .store import GoneError


class JsonLinesStore(GrowingStore):
    """The file of JsonLines."""

    entry_start = b""
    growing_file = staticmethod(appending.json_lines_file)

    def parse(self, data: bytes, is_last: bool, written: float) -> Mail:
        if not data.strip() or (is_last and not data.endswith(b"\n")):
            raise GoneError(self.path)
        return json_lines.decode(data)
