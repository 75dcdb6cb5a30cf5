"""A disk whose flush takes 3 ms, as a laptop's does: ext4 in a file whose fsync sleeps.

The file is in a FUSE file system of ours, which runs this module as a program; a loop device
makes it a disk. What is written stays in memory, so that the sleep is nearly all of the time,
and each flush is counted.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

FLUSH_SECONDS = 0.003
_OCTETS = 8 << 30  # of which memory holds what was written
_COUNT = "user.flushes"  # the extended attribute that tells how many there were
_PATIENCE = 10.0


class NoSlowDiskError(Exception):
    """This machine can't have such a disk; the text says why, and what to do."""


class SlowDisk(NamedTuple):
    """A mounted one."""

    folder: Path
    image: Path

    def flushes(self) -> int:
        """Return how many flushes the disk has done."""
        return int(os.getxattr(self.image, _COUNT))


def _check() -> None:
    """Raise NoSlowDiskError for what is missing."""
    if not sys.platform.startswith("linux"):
        raise NoSlowDiskError("a slow disk is made with Linux's loop device: run it there")
    if os.geteuid():
        raise NoSlowDiskError("only root may mount a slow disk: run this part with sudo")
    for device, module in (("/dev/fuse", "fuse"), ("/dev/loop-control", "loop")):
        if not os.path.exists(device):
            raise NoSlowDiskError(
                f"{device} is missing: try `modprobe {module}`; a container must be given it"
            )
    if not shutil.which("mkfs.ext4"):
        raise NoSlowDiskError("mkfs.ext4 is missing: install Debian's package e2fsprogs")
    if not find_spec("mfusepy") or not shutil.which("fusermount3"):
        raise NoSlowDiskError(
            "FUSE is missing: `pip install mfusepy`, and install Debian's package fuse3"
        )


@contextmanager
def mounted() -> Iterator[SlowDisk]:
    """Make and mount a slow disk; in the end, whatever happened, nothing of it is left."""
    _check()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slow-disk-")))
        for name in ("fuse", "ext4"):
            (home / name).mkdir()
        image = home / "fuse" / "image"
        # In a session of its own: Ctrl-C would end it before what stands on it is unmounted.
        server = subprocess.Popen(
            [sys.executable, __file__, str(image.parent)], start_new_session=True
        )
        stack.callback(server.wait)
        stack.callback(server.terminate)
        _wait_until(lambda: server.poll() is not None or image.parent.is_mount())
        if server.poll() is not None:
            raise NoSlowDiskError(f"FUSE ended with {server.returncode}: see above")
        stack.callback(_unmount, image.parent)
        _run("mkfs.ext4", "-q", "-i", "4096", "-E", "assume_storage_prezeroed=1", str(image))
        # The loop device goes with the mount.
        _run("mount", "-t", "ext4", "-o", "loop", str(image), str(home / "ext4"))
        stack.callback(_unmount, home / "ext4")
        yield SlowDisk(home / "ext4", image)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Make *folder* the working directory, where servers get their stores, for a while."""
    home = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(home)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoSlowDiskError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def _wait_until(is_so: Callable[[], bool]) -> bool:
    """Return whether it was so before our patience ended."""
    end = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.01)
    return True


def _unmount(folder: Path) -> None:
    """Unmount *folder*, which a server that was just killed may use a moment longer."""

    def is_done() -> bool:
        return not subprocess.run(["umount", folder], capture_output=True).returncode

    if not _wait_until(is_done):
        subprocess.run(["umount", "--lazy", folder], check=True)


def _serve(mount_point: str) -> None:
    """Serve a file system of one file, until it is unmounted."""
    mfusepy: Any = import_module("mfusepy")

    class Files(mfusepy.Operations):  # type: ignore[misc]
        """``/image``, the whole disk."""

        use_ns = True

        def __init__(self) -> None:
            self._memory = os.memfd_create("slow-disk")
            os.truncate(self._memory, _OCTETS)
            self._flushes = 0

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
            if path == "/image":
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": _OCTETS}
            raise mfusepy.FuseOSError(errno.ENOENT)

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", "image"]

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(self._memory, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            return os.pwrite(self._memory, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            time.sleep(FLUSH_SECONDS)
            self._flushes += 1
            return 0

        def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
            if name != _COUNT:
                raise mfusepy.FuseOSError(errno.ENODATA)
            return str(self._flushes).encode()

    mfusepy.FUSE(Files(), mount_point, foreground=True, max_idle_threads=10)


if __name__ == "__main__":
    _serve(sys.argv[1])
