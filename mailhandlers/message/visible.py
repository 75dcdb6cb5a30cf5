r"""Text that a client sent, for people to see: nothing in it may act.

An escape sequence can move a terminal's cursor, change the window's title or answer in the
user's name; a bidi override shows text in another order; a line separator makes up lines. All
of these are shown as ``\x1b`` and the like.
"""

from __future__ import annotations

import unicodedata

HARMLESS = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")
"""Characters of the category Cf without effect on others, which stay.

Soft hyphen, zero width space and (non-)joiners, which emoji and Persian need, word joiner, byte
order mark.
"""
_ACTING = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])


def visible(text: str, keep: str = "\n\t") -> str:
    """Return *text* with all escaped that acts, but for the characters *keep*."""
    if text.isprintable():
        return text
    # Each character once: a look at each of 720,000 NULs took 370 ms, and this takes 50.
    acting = {ord(c): _shown(c) for c in {*text} if not (c.isprintable() or c in keep)}
    return text.translate(acting) if acting else text


def visible_line(text: str) -> str:
    """Return *text* as one line: spaces, tabs and line ends in a row are one space.

    A row of spaces would fill the line, and what follows would look like the next one.
    """
    return visible(" ".join(text.split()), keep="")


def _shown(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    if category not in _ACTING or char in HARMLESS:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # an octet that was no UTF-8, as surrogateescape keeps it
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
