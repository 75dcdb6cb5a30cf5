"""Windows: files, links, locks and processes. :mod:`.posix` has the other form.

Where another program has a file open that was not opened to be shared, as editors and virus
scanners do, nobody may rename, replace or remove it: that is tried again for a while. On an
event loop it isn't, since all its sessions would stand still; a thread tries again.
"""

from __future__ import annotations

import ctypes
import errno
import msvcrt
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import wintypes
from typing import Any, TypeVar

from ..block import FormatError, split_block

assert sys.platform == "win32"  # else mypy doesn't know what is called here

_T = TypeVar("_T")

NOT_SUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What a file system says that doesn't know what it is asked for."""

NO_LINKS = {errno.EINVAL, errno.EMLINK}
"""What is said where one file can't have a further name: FAT, and 1,023 names on NTFS."""

IS_LINK: set[int] = set()
"""What :func:`open_file` says to a link: nothing, it follows them."""

CAN_REPLACE_OPEN = False
"""Whether another file can get the name of one that somebody has open."""

SYNCS_FOLDERS = False
"""Whether the disk is asked for the names in a folder: :func:`flush_folders`."""

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_BINARY
"""How :func:`os.open` makes a file that only this process knows."""

_ACCESS_DENIED, _SHARING_VIOLATION, _LOCK_VIOLATION = 5, 32, 33
_HANDLE_EOF, _IO_PENDING = 38, 997
_PATIENCE, _PATIENCE_OF_LOOPS = 2.0, 0.02  # seconds
_HEAD = 1 << 16
# https://docs.python.org/3/library/mailbox.html and OfflineIMAP have "!", isync has ";".
_FLAGS = re.compile("[:!;]")
# Behind all that a file holds: on Windows nobody else may read what is locked.
_LOCKED_OCTET = 1 << 62

_kernel = ctypes.WinDLL("kernel32", use_last_error=True)
_CreateFile = _kernel.CreateFileW
_CreateFile.restype = wintypes.HANDLE
_CreateFile.argtypes = [
    *(wintypes.LPCWSTR, wintypes.DWORD, wintypes.DWORD, wintypes.LPVOID),
    *(wintypes.DWORD, wintypes.DWORD, wintypes.HANDLE),
]
_INVALID_HANDLE = wintypes.HANDLE(-1).value
_GENERIC_READ, _GENERIC_WRITE, _DELETE = 0x80000000, 0x40000000, 0x00010000
_SHARE_ALL = 0x7
_CREATE_NEW, _OPEN_EXISTING, _OPEN_ALWAYS = 1, 3, 4
_DELETE_ON_CLOSE = 0x04000000

_MoveFileEx = _kernel.MoveFileExW
_MoveFileEx.argtypes = [wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD]
_REPLACE_EXISTING, _WRITE_THROUGH = 0x1, 0x8


class _Overlapped(ctypes.Structure):
    """OVERLAPPED: here, the octet of a file from which on something is done."""

    _fields_ = (
        ("internal", ctypes.c_size_t),
        ("internal_high", ctypes.c_size_t),
        ("offset", ctypes.c_uint64),
        ("event", wintypes.HANDLE),
    )


_overlapped = ctypes.POINTER(_Overlapped)
_ReadFile = _kernel.ReadFile
_ReadFile.argtypes = [
    *(wintypes.HANDLE, wintypes.LPVOID, wintypes.DWORD, wintypes.LPDWORD, _overlapped)
]
_LockFileEx = _kernel.LockFileEx
_LockFileEx.argtypes = [wintypes.HANDLE, *[wintypes.DWORD] * 4, _overlapped]
_UnlockFileEx = _kernel.UnlockFileEx
_UnlockFileEx.argtypes = [wintypes.HANDLE, *[wintypes.DWORD] * 3, _overlapped]
_FAIL_IMMEDIATELY, _EXCLUSIVE = 0x1, 0x2


def _error(path: str | None = None) -> OSError:
    code = ctypes.get_last_error()
    return OSError(0, ctypes.FormatError(code).strip(), path, code)


def _patiently(attempt: Callable[[], _T]) -> _T:
    """Return what *attempt* does, once no other program has the file open."""
    until = time.monotonic() + (_PATIENCE_OF_LOOPS if _is_on_loop() else _PATIENCE)
    while True:
        try:
            return attempt()
        except OSError as error:
            # Access is denied to a file that is in use, and to one that isn't ours.
            if error.winerror not in (_ACCESS_DENIED, _SHARING_VIOLATION, _LOCK_VIOLATION):
                raise
            if time.monotonic() > until:
                raise
        time.sleep(0.001)


def _is_on_loop() -> bool:
    """Tell whether an event loop runs in this thread; who has none hasn't imported asyncio."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


# Files.


def open_file(path: str, flags: int, mode: int = 0o600) -> int:
    """Open the file *path*, wherever it leads: a link needs a right here.

    Others may rename and remove it while it is open, which :func:`os.open` forbids.
    """
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    access = _GENERIC_READ if not writes else _GENERIC_READ | _GENERIC_WRITE
    how = _OPEN_EXISTING
    if flags & os.O_CREAT:
        how = _CREATE_NEW if flags & os.O_EXCL else _OPEN_ALWAYS

    def attempt() -> int:
        handle = _CreateFile(path, access, _SHARE_ALL, None, how, 0, None)
        if handle != _INVALID_HANDLE:
            return msvcrt.open_osfhandle(handle, flags | os.O_BINARY | os.O_NOINHERIT)
        error = _error(path)
        if error.winerror == _ACCESS_DENIED and os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raise error

    return _patiently(attempt)


def open_to_read(path: str) -> int:
    """Open the file *path*, wherever it leads."""
    return open_file(path, os.O_RDONLY)


def write(fd: int, pieces: Sequence[bytes]) -> int:
    """Write *pieces*, or a part; return how many octets."""
    return os.write(fd, b"".join(pieces))


def pread(fd: int, size: int, offset: int) -> bytes:
    """Return up to *size* octets from *offset* on, whatever else reads."""
    buffer = ctypes.create_string_buffer(size)
    done = wintypes.DWORD()
    where = _Overlapped(offset=offset)
    handle = msvcrt.get_osfhandle(fd)
    if not _ReadFile(handle, buffer, size, ctypes.byref(done), ctypes.byref(where)):
        if ctypes.get_last_error() == _HANDLE_EOF:
            return b""
        raise _error()
    return buffer.raw[: done.value]


def start_writing(fds: Sequence[int]) -> None:
    """Have the disk begin with all files: a hint for which Windows has no call."""


def fsync(fd: int) -> None:
    """Wait until the disk has the file: FlushFileBuffers."""
    os.fsync(fd)


def flush_folders(paths: Sequence[str], flush: Callable[..., None]) -> None:
    """Windows has nothing to ask for: :func:`rename` and :func:`replace` have waited."""


# Names.


def link(path: str, name: str) -> None:
    """Give the file *path* a further *name*."""
    os.link(path, name)


def rename(path: str, name: str, *, sync: bool) -> None:
    """Give the file *path* the *name*, which nobody has; with *sync*, once the disk has it."""
    _patiently(lambda: _move(path, name, _WRITE_THROUGH * sync))


def replace(path: str, name: str, *, sync: bool) -> None:
    """Give the file *path* the *name* of another one; with *sync*, once the disk has it."""
    _patiently(lambda: _move(path, name, _REPLACE_EXISTING | _WRITE_THROUGH * sync))


def _move(path: str, name: str, how: int) -> None:
    if not _MoveFileEx(path, name, how):
        raise _error(name)


def unlink(path: str) -> None:
    """Remove the name *path*."""
    _patiently(lambda: os.unlink(path))


def hold(path: str) -> int | None:
    """Keep the file *path* on disk until what is returned is closed: not here."""
    return None


def longest_name(folder: str) -> int:
    """Return how many octets the name of a file in *folder* may have."""
    return 255


def without_flags(name: str) -> str:
    """Return the *name* of a message in a Maildir without what mail clients note behind it.

    A name on Windows has no colon: each client has another sign for it.
    """
    return _FLAGS.split(name, maxsplit=1)[0]


# Permissions: a new file or folder has those of the folder that it is made in.


def check_mode(mode: int) -> None:
    """Raise ValueError, in a sentence for the user, where files can't have this *mode*."""
    raise ValueError(
        f"mode={mode:04o}: Windows has no such permissions, and gives new files those of their "
        "folder: leave mode= out, and set them there"
    )


def permit(fd: int, mode: int) -> None:
    """Give the open file *fd* the permissions *mode*: those of its folder do."""


def own(fd: int, status: os.stat_result) -> None:
    """Give the open file *fd* the owner in *status*: that of its folder does."""


def permit_folder(path: str, status: os.stat_result, mode: int) -> None:
    """Give the folder *path* the permissions *mode*: those of its own folder do."""


def check_writable(folder: str) -> None:
    """Raise OSError where this process can't make files in *folder*."""
    probe = lock_folder(folder)  # nothing but a try tells
    if probe is not None:
        os.close(probe)


def is_trusted(status: os.stat_result) -> bool:
    """Tell whether this user or an administrator made what has the *status*.

    A symbolic link needs a right that others don't have.
    """
    return True


def is_private(status: os.stat_result) -> bool:
    """Tell whether a folder of this *status* is the user's own: temporary ones are."""
    return True


# What points to a message.


def make_pointer(target: str, path: str) -> bool:
    """Make *path* a further name of the file *target* beside it, or a copy where none can be.

    A symbolic link needs a right. Returns False where the file is gone. Raises OSError.
    """
    message = os.path.join(os.path.dirname(path), target)
    try:
        os.link(message, path)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(open_to_read(message), "rb") as file, open(os.open(path, NEW), "wb") as copy:
            copy.write(file.read())
            copy.flush()
            os.fsync(copy.fileno())
    return True


def pointed_to(path: str) -> str | None:
    """Return which message *path* is, the name of its file; None where it is none of ours."""
    try:
        with open(open_to_read(path), "rb") as file:
            head = file.read(_HEAD)
            try:
                envelope, _ = split_block(head)
            except FormatError:  # it has thousands of recipients, or is no message of ours
                envelope, _ = split_block(head + file.read())
    except (FileNotFoundError, IsADirectoryError, FormatError):
        return None
    return f"{envelope.id}.eml"


# Locks.


def lock_folder(path: str) -> int | None:
    """Lock the folder *path* among our own servers, until what is returned is closed.

    None where somebody else has it. The lock is a file that nobody else may open, and that
    goes with whoever has it.
    """
    name = os.path.join(path, ".lock")
    handle = _CreateFile(
        *(name, _GENERIC_WRITE | _DELETE, 0, None, _OPEN_ALWAYS, _DELETE_ON_CLOSE, None)
    )
    if handle != _INVALID_HANDLE:
        return msvcrt.open_osfhandle(handle, os.O_NOINHERIT)
    error = _error(name)
    if error.winerror == _SHARING_VIOLATION:
        return None
    # Also said of one that goes just now, and of a folder that isn't ours to write.
    if error.winerror == _ACCESS_DENIED and os.path.lexists(name):
        return None
    raise error


def try_lock(fd: int) -> bool:
    """Lock the open file *fd*; return False where somebody else has it.

    No other program looks for this lock.
    """
    where = _Overlapped(offset=_LOCKED_OCTET)
    how = _EXCLUSIVE | _FAIL_IMMEDIATELY
    if _LockFileEx(msvcrt.get_osfhandle(fd), how, 0, 1, 0, ctypes.byref(where)):
        return True
    if ctypes.get_last_error() in (_LOCK_VIOLATION, _IO_PENDING):
        return False
    raise _error()


try_flock = try_lock


def unlock(fd: int) -> None:
    """Give back the lock of :func:`try_lock`."""
    where = _Overlapped(offset=_LOCKED_OCTET)
    if not _UnlockFileEx(msvcrt.get_osfhandle(fd), 0, 1, 0, ctypes.byref(where)):
        raise _error()


def close_locked(fd: int) -> None:
    """Give back the lock of *fd*, and close it; by a close alone it may take a while."""
    try:
        with suppress(OSError):  # it has none
            unlock(fd)
    finally:
        os.close(fd)


def is_locked(fd: int) -> bool:
    """Tell whether somebody else has that lock: only Linux tells without trying."""
    return False


def make_lock_link(owner: str, path: str) -> bool:
    """Make *path* a symbolic link that says *owner*: one needs a right, and a file does it."""
    return False


# Processes.

APART: dict[str, Any] = {"creationflags": 0x00000200}  # CREATE_NEW_PROCESS_GROUP
"""For :class:`subprocess.Popen`: Ctrl-C isn't for the new process."""

_OpenProcess = _kernel.OpenProcess
_OpenProcess.restype = wintypes.HANDLE
_OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
_WaitForSingleObject = _kernel.WaitForSingleObject
_WaitForSingleObject.argtypes = [wintypes.HANDLE, wintypes.DWORD]
_SYNCHRONIZE = 0x00100000


def rights() -> dict[str, Any]:
    """Return nothing: no server of ours gives up what it may."""
    return {}


def take_rights(given: dict[str, Any]) -> None:
    """Do nothing, as :func:`rights` has nothing to give."""


def wait_for_closed_pipe(fd: int) -> bool:
    """Return False: only who writes to the pipe *fd* is told."""
    return False


class Process:
    """The process *pid*, from now on: the next one with its number is another."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        # Not os.kill(), whose 0 is Ctrl-C here.
        self._handle = _OpenProcess(_SYNCHRONIZE, False, pid)
        # Another user's is there, but nothing tells when it ends.
        self._is_there = self._handle or ctypes.get_last_error() == _ACCESS_DENIED

    def has_ended(self, seconds: float = 0) -> bool:
        """Tell whether the process has ended, *seconds* from now at the latest."""
        if self._handle:
            return bool(_WaitForSingleObject(self._handle, int(seconds * 1000)) == 0)
        time.sleep(seconds)
        return not self._is_there
