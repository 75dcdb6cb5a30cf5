"""Pure functions between a message and the bytes that stand for it in a store.

Each format has a module with its two directions, and with what tells a whole entry from
one that a crash cut short. Nothing here touches a disk.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = 1 << 16
"""How many octets of a file are looked at, to tell what it is."""


class Mended(NamedTuple):
    """What to do about the last entry of a file before the next is appended."""

    keep: int
    """How many of its octets stay."""
    closing: bytes = b""
    """What ends it, if it stays."""
    is_sure: bool = True
    """Whether what doesn't stay is surely the rest of an append that never was finished."""
