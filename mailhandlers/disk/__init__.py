"""What is asked of the operating system: files, flushing, locks, links, processes.

What differs from one system to the next is in ``system``: the same names in one of two forms.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if sys.platform == "win32":
    from . import windows as system
else:
    from . import posix as system

if TYPE_CHECKING:
    import logging

__all__ = ["log", "system"]


def log() -> logging.Logger:
    """Return the logger of this package. To import it takes 3 ms, and who reads needs none."""
    import logging

    return logging.getLogger("mailhandlers")
