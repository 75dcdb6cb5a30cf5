"""Small messages that other programs, or we, once read wrongly: tests/message/cases."""

from __future__ import annotations

from pathlib import Path

from mailhandlers import StoredMessage

FOLDER = Path(__file__).parent / "message" / "cases"


def case(name: str) -> StoredMessage:
    """Return the message *name*, as one that no server of ours received."""
    return StoredMessage.parse((FOLDER / f"{name}.eml").read_bytes())
