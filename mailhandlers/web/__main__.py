"""``python -m mailhandlers.web``: the same as ``mailhandlers web``."""

from __future__ import annotations

import sys

from .command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
