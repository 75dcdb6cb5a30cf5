"""Files that grow: what is never written to, what a crash leaves, whose lock is whose."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from locking import leave_dotlock
from shell import raw_mail
from support import HELLO, KINDS, PATIENCE, Client, Kind, controlled, tree
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import (
    Inbox,
    MaildirSink,
    MailFile,
    MboxSink,
    PerRecipientDir,
    read_latest,
    read_messages,
)
from mailhandlers.disk import locks
from mailhandlers.mail import Mail
from mailhandlers.stores import mbox

ONE = [Mail(replace(EXAMPLE, size=len(HELLO)), HELLO)]
GROWING = [kind for kind in KINDS if kind.handler in ("MboxSink", "JsonLines")]
growing = pytest.mark.parametrize("kind", GROWING, ids=lambda kind: kind.handler)
FILES = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.is_folder], ids=lambda kind: kind.handler
)
NOT_OURS = [
    b"API_TOKEN=abc123\n",
    b"API_TOKEN=abc123",
    b"From home with love",
    b"From home with love\n",
    b"[1, 2]\n",
    b'{\n  "name": "x"\n}\n',
    b"\0" * 70_000,
]


def made(kind: Kind, store: Path) -> Any:
    return getattr(mailhandlers, kind.handler)(store)


def contents(store: Path) -> list[bytes]:
    return [message.original_content for message in read_messages(store)]


# A file that holds something else


@FILES
@pytest.mark.parametrize("octets", NOT_OURS)
def test_a_file_of_something_else_is_refused_at_the_start(
    kind: Kind, store: Path, octets: bytes
) -> None:
    store.write_bytes(octets)
    with pytest.raises(ValueError, match=r"holds something else than .* stays as it is"):
        made(kind, store)
    assert store.read_bytes() == octets


@FILES
@pytest.mark.parametrize("octets", NOT_OURS)
def test_a_file_that_came_to_hold_something_else_is_never_written_to(
    kind: Kind, store: Path, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    handler = made(kind, store)
    with controlled(handler) as controller, Client(controller.port) as client:
        assert client.send() == "250 OK"
        store.write_bytes(octets)
        before = tree(store.parent)
        assert client.send().startswith("451 ")
        assert tree(store.parent) == before
        assert f"{store}: it holds something else than " in caplog.text
        with pytest.raises(OSError, match="it holds something else than "):
            handler.reset()
        assert tree(store.parent) == before
        store.unlink()
        assert client.send() == "250 OK"


def test_the_command_says_so_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    path.write_bytes(NOT_OURS[0])
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-c", "mailhandlers.MboxSink"]
    done = subprocess.run([*command, path], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert "settings holds something else than an mbox, and stays as it is" in done.stderr


@pytest.mark.parametrize(
    ("handler", "octets"),
    [
        ("MboxSink", b"From - Sat Nov 21 08:48:00 2026\nSubject: theirs\n\nHi\n"),
        ("MboxSink", b"a line above\n" + b"".join(mbox.encode(ONE[0]))),
        ("JsonLines", b'{"a": 1}\n'),
        ("JsonLines", b'{"id": "x"}'),
        ("JsonLines", b"\n\n"),
        ("MboxSink", b""),
        ("JsonLines", b""),
        ("MailFile", b""),
    ],
)
def test_what_another_program_began_is_gone_on_with(
    tmp_path: Path, handler: str, octets: bytes
) -> None:
    store = tmp_path / "store"
    store.write_bytes(octets)
    getattr(mailhandlers, handler)(store)._store.add(ONE)
    assert handler == "MailFile" or store.read_bytes().startswith(octets)
    assert contents(store)[-1] == HELLO


# What a crash leaves


def test_nuls_behind_a_message_hide_it_not_and_go(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    MboxSink(store)._store.add(ONE)
    whole = store.read_bytes()
    store.write_bytes(whole + bytes(2000))
    assert contents(store) == [HELLO]
    MboxSink(store)._store.add(ONE)
    assert store.read_bytes().startswith(whole + b"From ")
    # As version 1.0 went on.
    store.write_bytes(whole + bytes(2000) + b"\n\n" + whole)
    assert contents(store) == [HELLO, HELLO]


@growing
def test_nuls_at_the_end_of_what_was_written_are_no_message(kind: Kind, store: Path) -> None:
    made(kind, store)._store.add(ONE)
    whole = store.read_bytes()
    store.write_bytes(whole + whole[: len(whole) // 2] + bytes(2000))
    assert contents(store) == [HELLO]
    made(kind, store)._store.add(ONE)
    assert contents(store) == [HELLO, HELLO]


def test_a_server_that_starts_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    MboxSink(store)._store.add(ONE)
    whole = store.read_bytes()
    # A part of a message that ends as a whole one does, but for the lock.
    torn = whole[: whole.index(b"\n\n") + 2]
    store.write_bytes(whole + torn)
    leave_dotlock(store, len(whole))
    assert contents(store) == [HELLO]
    MboxSink(store)._store.prepare()
    assert tree(tmp_path) == {"mail.mbox": whole}


def test_a_lock_that_is_left_takes_no_message_for_torn_that_was_there_before(
    tmp_path: Path,
) -> None:
    store = tmp_path / "mail.mbox"
    MboxSink(store)._store.add(ONE)
    store.write_bytes(store.read_bytes().replace(b"How are you?\n", b""))
    leave_dotlock(store, store.stat().st_size)
    MboxSink(store)._store.add(ONE)
    assert [message.is_altered for message in read_messages(store)] == [True, False]


# What can't be taken back, and what is stored


@contextmanager
def faults(monkeypatch: pytest.MonkeyPatch, **broken: Callable[..., Any]) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, function in broken.items():
            patch.setattr(os, name, function)
        yield


def fail(*args: Any, **named: Any) -> Any:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@growing
def test_what_can_not_be_taken_back_at_a_quota_is_taken_back_by_the_next(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    handler._store.add(ONE)
    with (
        faults(monkeypatch, fsync=fail, ftruncate=fail),
        pytest.raises(OSError, match=re.escape(os.strerror(errno.EDQUOT))),
    ):
        handler._store.add([ONE[0]._replace(content=b"refused\r\n")])
    handler._store.add(ONE)
    assert contents(store) == [HELLO, HELLO]


@growing
def test_what_another_server_has_appended_to_it_meanwhile_is_not_taken_back(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, other = made(kind, store), made(kind, store)
    handler._store.add(ONE)
    with (
        faults(monkeypatch, fsync=fail, ftruncate=fail),
        pytest.raises(OSError, match=re.escape(os.strerror(errno.EDQUOT))),
    ):
        handler._store.add([ONE[0]._replace(content=b"refused\r\n")])
    other._store.add([raw_mail(b"of the other\r\n")])
    handler._store.add(ONE)
    assert b"of the other\r\n" in contents(store)


@growing
def test_a_file_that_another_server_has_used_already_is_not_taken_away(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, other = made(kind, store), made(kind, store)

    def late(*_: Any) -> None:
        other._store.add(ONE)
        raise OSError(errno.ENOSPC, "no room for a dotlock")

    monkeypatch.setattr(handler._store._lock, "acquire", late)
    with pytest.raises(OSError, match="no room for a dotlock"):
        handler._store.add(ONE)
    assert contents(store) == [HELLO]


@pytest.mark.posix  # Windows syncs no folder
@pytest.mark.parametrize("is_first", [True, False])
def test_the_latest_message_of_another_server_stays_when_ours_fails(
    tmp_path: Path, is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "latest.mail"
    handler, other = MailFile(store), MailFile(store)
    if not is_first:
        handler._store.add(ONE)

    def late(*_: Any) -> None:
        other._store.add([raw_mail(b"of the other\r\n")])
        fail()

    monkeypatch.setattr(handler._store._disk, "sync_folders", late)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EDQUOT))):
        handler._store.add(ONE)
    assert contents(store) == [b"of the other\r\n"]
    assert os.listdir(tmp_path) == ["latest.mail"]


@pytest.mark.posix
@pytest.mark.parametrize("is_first", [True, False])
def test_the_link_to_the_message_of_another_server_stays_when_ours_fails(
    tmp_path: Path, is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, other = PerRecipientDir(tmp_path / "people"), PerRecipientDir(tmp_path / "people")
    if not is_first:
        handler.store_all([raw_mail(HELLO)])

    def late(*_: Any) -> None:
        other.store_all([raw_mail(b"of the other\r\n")])
        fail()

    mine = raw_mail(HELLO)
    with monkeypatch.context() as patch:
        patch.setattr(handler._store._disk, "sync_folders", late)
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.EDQUOT))):
            handler._store.add([mine])
    latest = read_latest(tmp_path / "people" / "bob@example.com" / "latest.eml")
    assert latest.original_content == b"of the other\r\n"


@growing
@pytest.mark.posix
def test_a_file_that_can_not_have_its_permissions_is_taken_away(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    before = tree(store.parent)
    monkeypatch.setattr(handler._store._disk, "permit", fail)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.EDQUOT))):
        handler._store.add(ONE)
    assert tree(store.parent) == before


@growing
def test_whole_blocks_go_where_a_part_of_one_can_not_be_cut_off(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    handler._store.add(ONE)
    whole = store.read_bytes()
    ftruncate, cut = os.ftruncate, []

    def as_btrfs_does(fd: int, length: int) -> None:
        cut.append(length)
        if length % 4096 and len(cut) < 2:
            fail()
        ftruncate(fd, length)

    large = Mail(replace(EXAMPLE, size=9999), b"x" * 9999)
    with (
        faults(monkeypatch, fsync=fail, ftruncate=as_btrfs_does),
        pytest.raises(OSError, match=re.escape(os.strerror(errno.EDQUOT))),
    ):
        handler._store.add([large])
    assert cut == [len(whole), 4096, len(whole)]
    assert store.read_bytes() == whole


@pytest.mark.parametrize("call", ["close", "fstat"])
def test_an_error_behind_the_fsync_refuses_nothing_that_is_stored(
    kind: Kind, store: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    handler._store.add(ONE)
    original, fsync = getattr(os, call), os.fsync
    synced: list[int] = []

    def note(fd: int) -> None:
        fsync(fd)
        synced.append(fd)

    def broken(fd: int) -> Any:
        result = original(fd)
        if fd in synced[:1]:
            synced.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return result

    with faults(monkeypatch, fsync=note, **{call: broken}):
        handler._store.add([ONE[0].renamed()])
    assert not synced or call == "fstat"
    assert contents(store) == ([HELLO, HELLO] if kind.keeps_all else [HELLO])


def test_a_lock_timeout_leaves_no_empty_mbox(
    tmp_path: Path,
) -> None:
    Path(tmp_path, "mail.mbox.lock").touch()
    before = tree(tmp_path)
    with pytest.raises(locks.LockTimeoutError):
        MboxSink(tmp_path / "mail.mbox")._store.add(ONE, patience=0.1)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_folder_that_can_not_be_fsynced_refuses_nothing(
    kind: Kind, store: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_alone(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(error, os.strerror(error))
        fsync(fd)

    with faults(monkeypatch, fsync=files_alone):
        made(kind, store)._store.add(ONE)
    assert contents(store) == [HELLO]


@pytest.mark.posix  # Windows syncs no folder
def test_a_name_that_is_new_to_this_process_is_fsynced(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(kind, store)._store.add(ONE)  # by another, which may have been killed before its fsync
    fsync = os.fsync
    folders: list[tuple[int, int]] = []

    def note(fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            folders.append((status.st_dev, status.st_ino))
        fsync(fd)

    parent = store.parent.stat()
    handler = made(kind, store)
    with faults(monkeypatch, fsync=note):
        handler._store.add([ONE[0].renamed()])
        assert (parent.st_dev, parent.st_ino) in folders
        folders.clear()
        handler._store.add([ONE[0].renamed()])
    if kind.handler != "MailFile":  # whose every message is a new name
        assert (parent.st_dev, parent.st_ino) not in folders


# Nothing waits for ever


@pytest.mark.posix
@FILES
def test_a_fifo_at_the_path_is_451(
    kind: Kind, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with controlled(made(kind, store)) as controller, Client(controller.port) as client:
        assert client.send() == "250 OK"
        store.unlink()
        os.mkfifo(store)
        assert client.send().startswith("451 ")
        assert "no regular file" in caplog.text
        store.unlink()
        assert client.send() == "250 OK"


@pytest.mark.posix
def test_a_fifo_in_a_maildir_hides_no_mail(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    MaildirSink(store)._store.add(ONE)
    os.mkfifo(store / "new" / "9999999999.fifo")
    assert contents(store) == [HELLO]
    assert len(Inbox(store)) == 1


@growing
def test_a_disk_that_shows_another_inode_each_time_is_no_endless_wait(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = made(kind, store)
    handler._store.add(ONE)
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with pytest.raises(locks.LockTimeoutError, match="another file is there each time"):
        handler._store.add(ONE, patience=0.1)


# What arrived, in a file that others write anew


def marked(data: bytes) -> bytes:
    """Return what a mail client makes of an mbox when its user has read it."""
    return data.replace(b"\nSubject: ", b"\nStatus: RO\nX-UID: 7\nSubject: ")


def without_the_first(data: bytes) -> bytes:
    return data[data.index(b"\nFrom ") + 1 :]


def without_the_last(data: bytes) -> bytes:
    return data[: data.rindex(b"\nFrom ") + 1]


def in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def by_rename(path: Path, data: bytes) -> None:
    path.with_name("new").write_bytes(data)
    path.with_name("new").replace(path)


# On Windows nobody may replace a file that somebody reads.
REPLACING = pytest.param(by_rename, marks=pytest.mark.posix)


def numbered(number: int) -> Mail:
    content = b"Subject: %d\r\n\r\n%s\r\n" % (number, b"x" * 9 * number)
    return Mail(replace(EXAMPLE, size=len(content)), content).renamed()


@pytest.mark.parametrize("write", [in_place, REPLACING])
@pytest.mark.parametrize("change", [marked, without_the_first, without_the_last])
@pytest.mark.parametrize("new", [0, 2])
def test_a_mail_client_that_writes_an_mbox_anew_makes_no_message_new(
    tmp_path: Path,
    new: int,
    change: Callable[[bytes], bytes],
    write: Callable[[Path, bytes], None],
) -> None:
    path = tmp_path / "mail.mbox"
    store = MboxSink(path)._store
    store.add([numbered(number) for number in range(5)])
    cursor = Inbox(path).follow(timeout=0)
    assert not [*cursor]
    write(path, change(path.read_bytes()))
    for number in range(5, 5 + new):
        store.add([numbered(number)])
    assert [message["Subject"] for message in cursor] == [*map(str, range(5, 5 + new))]


@pytest.mark.parametrize("write", [in_place, REPLACING])
def test_nor_does_it_in_an_mbox_that_another_program_made(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    path = tmp_path / "mail.mbox"
    theirs = b"From eva@x.test Sat Nov 21 08:48:00 2026\nSubject: %d\n\nHi\n\n"
    path.write_bytes(theirs % 1 + theirs % 2)
    cursor = Inbox(path).follow(timeout=0)
    write(path, marked(path.read_bytes()) + theirs % 3)
    assert [message["Subject"] for message in cursor] == ["3"]


@growing
@pytest.mark.parametrize("write", [in_place, REPLACING])
def test_what_is_made_anew_is_new(
    kind: Kind, store: Path, write: Callable[[Path, bytes], None]
) -> None:
    writer = made(kind, store)._store
    writer.add([numbered(number) for number in range(3)])
    cursor = Inbox(store).follow(timeout=0)
    write(store, b"")
    writer.add([numbered(number) for number in range(3, 9)])
    assert [message["Subject"] for message in cursor] == [*map(str, range(3, 9))]


@growing
def test_who_may_not_wait_leaves_the_end_of_another_program_to_others(
    kind: Kind, store: Path
) -> None:
    handler = made(kind, store)
    handler._store.add(ONE, 0)  # there is none
    handler._store.add(ONE, 0)
    made(kind, store)._store.add(ONE)
    before = store.read_bytes()
    with pytest.raises(BlockingIOError):
        handler._store.add(ONE, 0)
    assert store.read_bytes() == before
    handler._store.add(ONE)
    handler._store.add(ONE, 0)
    assert contents(store) == [HELLO] * 5


# Dotlocks


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_links_the_dotlock_is_a_file(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(target: str, path: str) -> None:
        raise OSError(error, os.strerror(error), target, None, path)

    monkeypatch.setattr(os, "symlink", none)
    store = tmp_path / "mail.mbox"
    MboxSink(store)._store.add(ONE)
    lock, fd = locks.MboxLock(), os.open(store, os.O_RDWR)
    lock.acquire(fd, str(store), locks.deadline())
    assert Path(f"{store}.lock").is_file()
    os.close(fd)  # as a killed process does
    assert locks.length_before(f"{store}.lock", store.stat()) == store.stat().st_size
    MboxSink(store)._store.add(ONE)
    assert os.listdir(tmp_path) == ["mail.mbox"]
    assert contents(store) == [HELLO, HELLO]


@pytest.mark.posix
def test_the_dotlock_of_one_that_writes_to_a_rotated_file_is_its_own(tmp_path: Path) -> None:
    store = tmp_path / "mail.mbox"
    MboxSink(store)._store.add(ONE)
    ours, fd = locks.MboxLock(), os.open(store, os.O_RDWR)
    ours.acquire(fd, str(store), locks.deadline())
    store.rename(f"{store}.1")
    store.touch()
    with pytest.raises(locks.LockTimeoutError):
        MboxSink(store)._store.add(ONE, patience=0.1)
    another = os.readlink(f"{store}.lock").replace("mailhandlers.", "mailhandlers.1")
    os.unlink(f"{store}.lock")
    os.symlink(another, f"{store}.lock")
    ours.release(fd, str(store))
    assert os.readlink(f"{store}.lock") == another
    # Whoever had it is dead after a minute.
    os.utime(f"{store}.lock", (0, 0), follow_symlinks=False)
    MboxSink(store)._store.add(ONE)
    assert contents(store) == [HELLO]
    assert not os.path.lexists(f"{store}.lock")


# Names and permissions


def test_any_name_that_is_accepted_can_be_written(tmp_path: Path) -> None:
    for handler, name, longest in (
        ("MailFile", "\u6f22" * 85, 255),
        ("JsonLines", "x" * 250, 250),
        ("MboxSink", "x" * 250, 250),
    ):
        store = tmp_path / handler / name
        store.parent.mkdir()
        kind = getattr(mailhandlers, handler)
        kind(store)._store.add(ONE)
        assert contents(store) == [HELLO]
        with pytest.raises(ValueError, match=f"is too long: take one of {longest} octets"):
            kind(f"{store}x")


@pytest.mark.posix
@pytest.mark.parametrize("umask", [0o777, 0o277, 0o022])
def test_permissions_are_those_of_the_mode_alone(kind: Kind, store: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made(kind, store)._store.add(ONE)
    finally:
        os.umask(before)
    for path in (store, *store.rglob("*")):
        if not path.is_symlink():
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert contents(store) == [HELLO]


def test_a_message_is_stored_where_files_have_no_permissions(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    before = os.umask(0o277)
    try:
        with faults(monkeypatch, fchmod=none):
            made(kind, store)._store.add(ONE)
    finally:
        os.umask(before)
    assert os.listdir(store.parent)


@pytest.mark.posix
def test_the_log_names_the_path_and_not_what_a_link_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(target: str, path: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target, None, path)

    handler = MboxSink(tmp_path / "mail.mbox")
    with controlled(handler) as controller, Client(controller.port) as client:
        monkeypatch.setattr(os, "symlink", full)
        assert client.send().startswith("452 ")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{tmp_path}/mail.mbox.lock: No space left")
    assert os.listdir(tmp_path) == []
