"""What killed servers left behind: temporary files of ours that nobody will finish."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from ..mail import is_id

# https://cr.yp.to/proto/maildir.html: a file in tmp that nobody touched for 36 hours.
_OLD = 36 * 60 * 60


def sweep(folder: str) -> None:
    """Remove the temporary files in *folder* that have names of ours and are old.

    They are a Maildir's in ``tmp``, and hidden ones elsewhere. One that can't be removed
    stays: it is in nobody's way.
    """
    is_tmp = os.path.basename(folder) == "tmp"
    before = time.time() - _OLD
    with suppress(OSError):
        for entry in os.scandir(folder):
            name = entry.name if is_tmp else entry.name.removeprefix(".").partition(".tmp")[0]
            if is_id(name) and is_tmp is not entry.name.startswith("."):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        os.unlink(entry.path)
