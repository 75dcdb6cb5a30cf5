"""Style sheets that can't reach out of the page they stand in."""

from __future__ import annotations

import re
from collections.abc import Callable

_ESCAPE = re.compile(r"\\(?:([0-9a-fA-F]{1,6})\s?|(.?))", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_IMPORT = re.compile(r"@(?:import|charset|namespace)[^;}]*(?:;|\Z)?", re.IGNORECASE)
_URL = re.compile(r"url\(\s*(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^\"')]*))\s*\)?", re.IGNORECASE)
_LOADING = re.compile(
    r"(?:-\w+-)?(?:image-set|image|src|element|cross-fade|expression|paint)\s*\(|"
    r"(?:behavior|-moz-binding)\s*:",
    re.IGNORECASE,
)


def harmless(style: str, image: Callable[[str], str]) -> str:
    """Return *style* with nothing in it that loads, runs or ends the sheet.

    *image* is given each address and returns what may stand for it, or "".
    """
    # Escapes first: with them anything below can be spelled otherwise.
    style = _ESCAPE.sub(_character, style)
    style = _COMMENT.sub(" ", style)
    style = _IMPORT.sub("", style.replace("<", ""))

    def url(match: re.Match[str]) -> str:
        allowed = image((match[1] or match[2] or match[3] or "").strip())
        return f'url("{allowed}")' if allowed else "none"

    return _LOADING.sub("x-", _URL.sub(url, style))


def _character(match: re.Match[str]) -> str:
    if match[1] is None:
        return match[2]
    code = int(match[1], 16)
    return chr(code) if 0x20 <= code < 0xD800 or 0xE000 <= code < 0x110000 else ""
