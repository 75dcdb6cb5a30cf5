"""Wait until the disk has what was written."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY}
"""What a file system says that doesn't know what it is asked for."""

# Flushes that run at the same time are one to the drive. Where a flush takes 3 ms, 25 new
# files took 91 ms one after the other and 16 ms in parallel; where it takes 0.1 ms, the
# threads cost more than they save.
_SLOW_FLUSH = 0.001
_MOST_FLUSHES = 64


def fsync(fd: int) -> None:
    """Wait until the disk has the file, whatever its drive caches."""
    if sys.platform == "darwin":  # whose fsync leaves data in the drive's cache
        import fcntl

        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:  # as network disks say
                raise
    os.fsync(fd)


def fsync_folder(fd: int) -> None:
    """Wait until the disk has the names in a folder, where there is a way to ask for that."""
    try:
        fsync(fd)
    except OSError as error:
        # Some network and FUSE file systems can't, and keep names as they see fit.
        if error.errno not in NOT_SUPPORTED:
            raise


def fsync_all(fds: Sequence[int], fsync: Callable[[int], None] = fsync) -> None:
    """Wait until the disk has all files. Raises the first OSError of any."""
    if not fds:
        return
    first, *others = fds
    started = time.perf_counter()
    fsync(first)
    if others and time.perf_counter() - started > _SLOW_FLUSH:
        # Threads can't be had at a limit, nor while the program ends: then in turn, below.
        with suppress(RuntimeError), ThreadPoolExecutor(_MOST_FLUSHES) as pool:
            for _ in pool.map(fsync, others):
                pass
            return
    for fd in others:
        fsync(fd)


def start_writing(fds: Sequence[int]) -> None:
    """Have the disk begin with all files, so that one commit of its journal takes them.

    The fsyncs that follow then wait once, not once for each file. This is a hint alone:
    on Linux, POSIX_FADV_DONTNEED starts to write what it is to forget.
    """
    if len(fds) > 1 and hasattr(os, "posix_fadvise"):
        for fd in fds:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
