"""What is asked of the operating system: files, flushing, locks, links."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging


def log() -> logging.Logger:
    """Return the logger of this package. To import it takes 3 ms, and who reads needs none."""
    import logging

    return logging.getLogger("mailhandlers")
