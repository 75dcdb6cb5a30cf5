"""The file of JsonLines."""

from __future__ import annotations

import os

from ..formats import json_lines
from ..mail import Mail
from .growing import GrowingStore
from .store import GoneError


class JsonLinesStore(GrowingStore):
    """The file of JsonLines."""

    entry_start = b""

    def is_torn(self, data: bytes, before: int | None) -> bool:
        return json_lines.is_torn(data.rstrip(b"\0"))

    def parse(self, data: bytes, status: os.stat_result) -> Mail:
        if not data.strip(b"\0\r\n\t "):
            raise GoneError(self.path)
        return json_lines.decode(data)

    def clear(self) -> None:
        from .appending import json_lines_file

        json_lines_file(self.path).truncate()
