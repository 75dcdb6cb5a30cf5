"""The page and the HTTP API: every store, read by a browser and by any language.

Needs ``pip install 'mailhandlers[web]'``. Whatever a message holds is hostile here: it is
escaped, or shown in a frame that runs nothing and loads nothing from elsewhere.
"""

from __future__ import annotations

import os


def main(path: str | os.PathLike[str], listen: str = "localhost:8026") -> None:
    """Show the store at *path* on ``[HOST:]PORT`` until Ctrl-C.

    Raises StoreError where *path* holds no store, ValueError for an address that is none,
    OSError where it can't be had.
    """
    from .server import serve

    serve(path, listen)
