"""Removing some messages: what else there is, who else writes and reads, and what fails."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faulty import CALLS, in_a_process
from hypothesis import example, given
from hypothesis import strategies as st
from load import Senders, names_of_whole
from shell import raw_mail
from support import (
    JSON_LINES,
    KEEP_ALL,
    KIND,
    MBOX,
    ON_DISK,
    PATIENCE,
    Kind,
    Server,
    contents,
    made,
    tree,
    wait_until,
)

from mailhandlers import Inbox, read_latest
from mailhandlers.disk import locks
from mailhandlers.disk.files import Disk
from mailhandlers.inbox.criteria import Criteria
from mailhandlers.inbox.cursor import EntryCursor
from mailhandlers.mail import Mail
from mailhandlers.stores.folder import FolderStore
from mailhandlers.stores.growing import GrowingStore
from mailhandlers.stores.json_lines import JsonLinesStore
from mailhandlers.stores.latest import LatestStore
from mailhandlers.stores.maildir import MaildirStore
from mailhandlers.stores.mbox import MboxStore
from mailhandlers.stores.people import PeopleStore
from mailhandlers.stores.store import Entry, GoneError, Store

pytestmark = pytest.mark.posix  # Windows replaces no file that is open
growing = pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda kind: kind.handler)
TO = ["bob@example.com", "carol@example.com"]


def mail(number: int, to: str = TO[0]) -> Mail:
    return raw_mail(b"Subject: %d\r\n\r\nFrom me\r\n%s\r\n" % (number, b"x" * number), [to])


def numbers(store: Path) -> list[str]:
    return [str(message["Subject"]) for message in Inbox(store)]


def filled(kind: Kind, store: Path, count: int = 6) -> Store:
    """Return the store of a handler of this *kind*, where each third message is Carol's."""
    writer: Store = made(kind, store)._store
    writer.add([mail(number, TO[number % 3 == 0]) for number in range(count)])
    return writer


# What a message leaves behind


def test_a_message_goes_from_the_folders_of_all_its_recipients(tmp_path: Path) -> None:
    store = PeopleStore(str(tmp_path / "people"), Disk(sync=False))
    some = [
        raw_mail(b"%d\r\n" % number, to)
        for number, to in enumerate([TO, TO[:1], [*TO, TO[1].upper()]])
    ]
    store.add(some)
    Inbox(store.path).clear(to=TO[1])
    assert os.listdir(f"{store.path}/{TO[1]}") == []
    assert sorted(os.listdir(f"{store.path}/{TO[0]}")) == [
        f"{some[1].envelope.id}.eml",
        "latest.eml",
    ]
    assert read_latest(f"{store.path}/{TO[0]}/latest.eml").original_content == b"1\r\n"


def test_the_link_follows_to_the_latest_that_is_left(tmp_path: Path) -> None:
    store = PeopleStore(str(tmp_path / "people"), Disk(sync=False))
    store.add([mail(number) for number in range(4)])
    [link] = Path(store.path).rglob("latest.eml")
    (link.parent / "zzz.eml").write_bytes(b"Subject: theirs\n\n")
    (link.parent / "notes.txt").touch()
    for gone, left in [("0", "3"), ("3", "2"), ("1", "2")]:
        Inbox(store.path).clear(subject=gone)
        assert read_latest(link)["Subject"] == left
        assert link.is_symlink()
    Inbox(store.path).clear(subject="2")
    assert sorted(os.listdir(link.parent)) == ["notes.txt", "zzz.eml"]


def test_who_empties_the_folders_leaves_the_link_to_what_came_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "people"
    server, other = PeopleStore(str(store)), PeopleStore(str(store))
    server.add([mail(1, TO[0])])
    folder = store / TO[0]
    listdir = os.listdir
    arrived: list[Mail] = []

    def slowly(path: str) -> list[str]:
        names = listdir(path)
        if path == str(folder) and not arrived:
            arrived.append(mail(2, TO[0]))
            server.add(arrived)
        return names

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", slowly)
        other.clear()
    assert sorted(os.listdir(folder)) == [f"{arrived[0].envelope.id}.eml", "latest.eml"]
    assert read_latest(folder / "latest.eml")["Subject"] == "2"
    other.clear()
    assert os.listdir(folder) == []


def test_a_message_that_is_being_stored_gets_the_link_by_itself(tmp_path: Path) -> None:
    store = PeopleStore(str(tmp_path / "people"), Disk(sync=False))
    first, second, third = mail(1), mail(2), mail(3)
    store.add([first, second])
    [link] = Path(store.path).rglob("latest.eml")
    # It has its name, and may still be refused.
    (link.parent / f"{third.envelope.id}.eml").touch()
    Inbox(store.path).clear(subject="2")
    assert os.readlink(link) == f"{first.envelope.id}.eml"


@pytest.mark.parametrize("call", ["symlink", "replace"])
def test_a_link_that_can_not_follow_keeps_its_message(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PeopleStore(str(tmp_path / "people"), Disk(sync=False))
    store.add([mail(1), mail(2)])
    before = tree(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="the end"):
        patch.setattr(os, call, fail)
        Inbox(store.path).clear(subject="2")
    assert tree(tmp_path) == before


def fail(*_: object, **__: object) -> Any:
    raise OSError(errno.EIO, "the end")


def test_a_message_that_a_mail_client_moves_meanwhile_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MaildirStore(str(tmp_path / "inbox"), Disk(sync=False))
    store.add([mail(1), mail(2)])
    unlink = os.unlink

    def too_late(path: str) -> None:
        monkeypatch.setattr(os, "unlink", unlink)
        os.rename(path, f"{store.path}/cur/{os.path.basename(path)}:2,S")
        unlink(path)

    monkeypatch.setattr(os, "unlink", too_late)
    Inbox(store.path).clear(subject="1")
    assert numbers(Path(store.path)) == ["2"]


def test_a_message_that_can_never_be_caught_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MaildirStore(str(tmp_path / "inbox"), Disk(sync=False))
    store.add([mail(1)])

    def gone(path: str) -> None:
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", gone)
        with pytest.raises(OSError, match="another program moves messages each time"):
            Inbox(store.path).clear(subject="1")


def test_a_message_that_replaced_the_one_to_remove_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LatestStore(str(tmp_path / "latest.mail"), Disk(sync=False))
    rename = os.rename
    for late in ([mail(2)], [mail(2), mail(3)]):
        store.add([mail(1)])
        coming = iter(late)

        def too_late(source: str, target: str, coming: Iterator[Mail] = coming) -> None:
            if source == store.path:
                store.add([next(coming)])
            rename(source, target)
            if source == store.path:
                for one in coming:
                    store.add([one])

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", too_late)
            Inbox(store.path).clear(subject="1")
        assert numbers(Path(store.path)) == [f"{len(late) + 1}"]
        assert os.listdir(tmp_path) == ["latest.mail"]


@pytest.mark.parametrize("handler", [MboxStore, JsonLinesStore])
def test_a_file_without_some_is_the_file_of_the_others(
    handler: type[GrowingStore], tmp_path: Path
) -> None:
    some = [mail(number, TO[number % 2]) for number in range(7)]
    without = handler(str(tmp_path / "without"), Disk(sync=False))
    without.add(some[::2])
    store = handler(str(tmp_path / "store"), Disk(sync=False))
    store.add(some)
    Inbox(store.path).clear(to=TO[1])
    assert Path(store.path).read_bytes() == Path(without.path).read_bytes()


@given(st.lists(st.booleans(), max_size=9), st.integers(1, 40))
@example([True], 1)
@pytest.mark.parametrize("handler", [MboxStore, JsonLinesStore])
def test_any_ones_may_go(
    handler: type[GrowingStore],
    tmp_path_factory: pytest.TempPathFactory,
    goes: list[bool],
    piece: int,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    some = [mail(number, TO[is_gone]) for number, is_gone in enumerate(goes)]
    without = handler(str(folder / "without"), Disk(sync=False))
    without.add([one for one in some if one.envelope.rcpt_tos == TO[:1]])
    store = handler(str(folder / "store"), Disk(sync=False))
    store.add(some)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mailhandlers.stores.growing._PIECE", piece)
        Inbox(store.path).clear(to=TO[1])
    assert Path(store.path).read_bytes() == Path(without.path).read_bytes()
    shutil.rmtree(folder)


def test_mail_of_other_programs_is_removed(tmp_path: Path) -> None:
    theirs = [
        b"From eva@x.test Sat Nov 21 08:48:0%d 2026\nSubject: %d\n\nHi\n\n" % (n, n)
        for n in range(4)
    ]
    path = tmp_path / "mail.mbox"
    path.write_bytes(b"".join(theirs)[:-1])  # the last blank line is missing
    for gone in ("1", "3"):
        Inbox(path).clear(subject=gone)
    assert path.read_bytes() == theirs[0] + theirs[2]


def test_what_is_no_message_stays(tmp_path: Path) -> None:
    path = tmp_path / "mail.jsonl"
    store = JsonLinesStore(str(path), Disk(sync=False))
    path.write_bytes(b'{"a": 1}\n\n')
    store.add([mail(1)])
    with path.open("ab") as file:
        file.write(b"not JSON\n")
    store.add([mail(2)])
    Inbox(path).clear(mail_from="eva@example.com")
    assert path.read_bytes() == b'{"a": 1}\n\nnot JSON\n'


def test_what_a_killed_append_left_goes_as_before_an_append(tmp_path: Path) -> None:
    path = tmp_path / "mail.mbox"
    store = MboxStore(str(path), Disk(sync=False))
    store.add([mail(1), mail(2)])
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    os.symlink(f"mailhandlers.1.{path.stat().st_ino}.{len(whole)}", f"{path}.lock")
    Inbox(path).clear(subject="1")
    assert whole.endswith(path.read_bytes())
    assert numbers(path) == ["2"]
    assert os.listdir(tmp_path) == ["mail.mbox"]


# The new file is as the old one


@growing
def test_the_new_file_has_the_owner_and_the_permissions_of_the_old_one(
    kind: Kind, store: Path
) -> None:
    filled(kind, store)
    store.chmod(0o640)
    if not os.getuid():
        os.chown(store, 12345, 12346)
    before = store.stat()
    Inbox(store).clear(to=TO[1])
    after = store.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (
        *(before.st_uid, before.st_gid),
        0o640,
    )


@growing
def test_where_they_can_not_be_kept_nothing_changes(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(kind, store)
    before = tree(store.parent)
    fstat = os.fstat

    def another_users(fd: int) -> os.stat_result:
        status = fstat(fd)
        values = list(status)
        values[stat.ST_UID] += os.path.samestat(status, os.stat(store))
        return os.stat_result(values, {"st_mtime_ns": status.st_mtime_ns})

    def not_allowed(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", another_users)
        patch.setattr(os, "fchown", not_allowed)
        with pytest.raises(PermissionError, match="its owner and group couldn't be kept"):
            Inbox(store).clear(to=TO[1])
    assert tree(store.parent) == before


@growing
def test_a_link_to_the_file_stays_one(kind: Kind, store: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "file"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    store.symlink_to(elsewhere)
    filled(kind, store)
    Inbox(store).clear(to=TO[1])
    assert store.is_symlink()
    assert os.listdir(elsewhere.parent) == ["file"]
    assert numbers(store) == numbers(elsewhere) == ["1", "2", "4", "5"]


# What others do meanwhile


def meanwhile(store: Store, *actions: Callable[[], object]) -> Callable[[], Iterator[Entry]]:
    """Return what finds Carol's messages; each time it did, the next of *actions* is done."""
    coming = iter(actions)

    def wanted() -> Iterator[Entry]:
        yield from [*Criteria(to=TO[1]).entries_among(store.oldest_first())]
        next(coming, int)()

    return wanted


@growing
def test_what_is_appended_meanwhile_stays(kind: Kind, store: Path) -> None:
    writer = filled(kind, store)
    writer.remove(meanwhile(writer, lambda: writer.add([mail(6, TO[1])])))
    assert numbers(store) == ["1", "2", "4", "5", "6"]


def rotated(path: Path) -> None:
    path.rename(f"{path}.1")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def with_a_line_above(path: Path) -> None:
    path.write_bytes(b"a line above\n" + path.read_bytes())


def with_the_first_one_changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Subject: 0", b"Subject: X", 1))


@growing
@pytest.mark.parametrize(
    ("change", "left"),
    [
        (rotated, ["8"]),
        (emptied, ["8"]),
        (with_a_line_above, ["1", "2", "4", "5", "8"]),
        (with_the_first_one_changed, ["1", "2", "4", "5", "8"]),
    ],
)
def test_what_is_found_is_looked_for_again_where_the_file_is_another(
    kind: Kind, store: Path, change: Callable[[Path], None], left: list[str]
) -> None:
    writer = filled(kind, store)

    def act() -> None:
        change(store)
        writer.add([mail(7, TO[1]), mail(8)])

    writer.remove(meanwhile(writer, act))
    assert numbers(store) == left


@growing
def test_a_file_that_is_another_each_time_is_told(kind: Kind, store: Path) -> None:
    writer = filled(kind, store)

    def act() -> None:
        with_a_line_above(store)

    with pytest.raises(OSError, match="other programs write it anew each time"):
        writer.remove(meanwhile(writer, *[act] * 99))
    assert len(numbers(store)) == 6


@growing
def test_a_file_that_is_rotated_at_the_last_moment_has_all(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(kind, store)
    fsync = os.fsync
    made(kind, store.with_name("next"))._store.add([mail(7)])

    def rotate_then(fd: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        rotated(store)
        store.with_name("next").rename(store)

    monkeypatch.setattr(os, "fsync", rotate_then)
    Inbox(store).clear(to=TO[1])
    assert numbers(Path(f"{store}.1")) == [*map(str, range(6))]
    assert numbers(store) == ["7"]
    assert sorted(os.listdir(store.parent)) == [store.name, f"{store.name}.1"]


@growing
def test_who_waits_for_the_lock_appends_to_the_new_file(kind: Kind, store: Path) -> None:
    """Also a server in another process: it has opened the old one when that is replaced."""
    writer = filled(kind, store)
    waiting = threading.Thread(target=lambda: made(kind, store)._store.add([mail(7)]))
    replace = os.replace

    def when_it_waits(source: str, target: str) -> None:
        if target == str(store):
            inode = store.stat().st_ino
            waiting.start()
            wait_until(lambda: open_count(inode) > before)
        replace(source, target)

    before = open_count(store.stat().st_ino) + 1  # ours
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", when_it_waits)
        Inbox(store).clear(to=TO[1])
    waiting.join()
    assert numbers(store) == ["1", "2", "4", "5", "7"]
    assert writer.path == str(store)


def open_count(inode: int) -> int:
    """Return how often this process has the file open."""
    count = 0
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):
            count += os.fstat(int(name)).st_ino == inode
    return count


@growing
def test_nobody_has_the_new_file_before_it_is_on_disk_for_good(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(kind, store)
    fsync, tried = os.fsync, []

    def try_to_append(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            with pytest.raises(OSError, match="holds the lock"):
                made(kind, store)._store.add([mail(7)], patience=0.02)
            tried.append(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", try_to_append)
    Inbox(store).clear(to=TO[1])
    assert tried
    assert not os.path.lexists(f"{store}.lock")


@growing
def test_a_lock_that_is_not_had_is_told(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = filled(kind, store)
    before = tree(store.parent)
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0.05)
    monkeypatch.setattr(locks, "deadline", lambda *_: time.monotonic() + 0.05)
    fd, _ = writer._open_locked(locks.deadline())  # type: ignore[attr-defined]
    try:
        with pytest.raises(locks.LockTimeoutError):
            Inbox(store).clear(to=TO[1])
    finally:
        writer._lock.release(fd, str(store))  # type: ignore[attr-defined]
    assert tree(store.parent) == before


@KEEP_ALL
@pytest.mark.slow
def test_others_remove_while_servers_store(kind: Kind, store: Path) -> None:
    """What nobody removes is there once, whole, and who follows hears of each once."""
    program = (
        "import sys\nfrom mailhandlers import Inbox\nfor line in sys.stdin:\n"
        "    Inbox(sys.argv[1]).clear(to=line.strip())\n"
    )
    remover = subprocess.Popen(
        [sys.executable, "-c", program, store], stdin=subprocess.PIPE, text=True
    )
    with Server(kind.handler, store) as one, Server(kind.handler, store) as two, remover:
        assert remover.stdin is not None
        cursor = EntryCursor(store)
        senders = Senders([one.port, two.port] * 2, "x", most=40)
        followed: list[str] = []
        rounds = 0
        while not senders.finished:
            remover.stdin.write("user2@x\n")
            remover.stdin.flush()
            Inbox(store).clear(to="user1@x")
            for entry in cursor.new():
                with suppress(GoneError):
                    followed.append(entry.read().content.split(b"\r\n")[0].decode()[9:])
            rounds += 1
        senders.join()
        remover.stdin.close()
        assert remover.wait(PATIENCE) == 0
    for to in ("user1@x", "user2@x"):
        Inbox(store).clear(to=to)
    for entry in cursor.new():
        followed.append(entry.read().content.split(b"\r\n")[0].decode()[9:])
    assert senders.refusals == []
    stays = [name for name in senders.acknowledged if int(name.rpartition("-")[2]) % 3 == 0]
    assert sorted(names_of_whole(store)) == sorted(stays)
    # A message may be removed from one recipient's folder before it is in the next.
    told = [name for name in followed if name in stays or kind.handler != "PerRecipientDir"]
    assert len(told) == len(set(told))
    assert set(stays) <= set(followed)
    assert rounds > 2


# Who follows


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Return what happens to a store: messages come, some go, somebody looks."""
    steps: list[tuple[str, Any]] = []
    for _ in range(draw(st.integers(1, 8))):
        what = draw(st.sampled_from(["add", "remove", "clear", "look"]))
        if what == "add":
            steps.append((what, draw(st.integers(1, 3))))
        elif what == "remove":
            steps.append((what, draw(st.sets(st.integers(0, 9)))))
        else:
            steps.append((what, None))
    return steps


@ON_DISK
@given(histories(), st.booleans())
@example([("add", 3), ("look", None), ("remove", {2}), ("look", None)], False)
@example([("add", 3), ("look", None), ("remove", {1, 2}), ("add", 1)], True)
@example([("add", 3), ("remove", {0, 1, 2}), ("add", 1), ("look", None)], False)
def test_who_follows_neither_repeats_nor_misses_one(
    kind: Kind,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, Any]],
    is_foreign: bool,
) -> None:
    """Those that nobody removed before they were looked at come, once, and in order."""
    store = tmp_path_factory.mktemp("history") / kind.store
    writer = made(kind, store)._store
    cursor = EntryCursor(store)
    seen: list[str] = []
    there: list[int] = []
    due: list[int] = []  # what must be seen
    count = 0

    def look() -> None:
        for entry in cursor.new():
            seen.append(subject_of(entry.read()))
        due.clear()

    for what, value in [*steps, ("look", None)]:
        if what == "add":
            for _ in range(value):
                add(kind, store, writer, count, is_foreign)
                if not kind.keeps_all:
                    there.clear()
                    due.clear()
                there.append(count)
                due.append(count)
                count += 1
        elif what == "remove":
            gone = {str(there[index]) for index in value if index < len(there)}
            Inbox(store).clear(where=lambda m, gone=gone: m["Subject"] in gone)  # type: ignore[misc]
            there = [number for number in there if str(number) not in gone]
            due = [number for number in due if str(number) not in gone]
        elif what == "clear":
            Inbox(store).clear()
            there.clear()
            due.clear()
        else:
            before = len(seen)
            wanted = [*map(str, due)]
            look()
            assert [name for name in seen[before:] if name in wanted] == wanted
    assert len(set(seen)) == len(seen)
    assert numbers(store) == [*map(str, there)]
    shutil.rmtree(store.parent)


def subject_of(one: Mail) -> str:
    return one.content.split(b"Subject: ")[1].split(b"\n")[0].decode().strip()


def add(kind: Kind, store: Path, writer: Store, number: int, is_foreign: bool) -> None:
    """Add a message, in an mbox perhaps as another program would: without an id."""
    if is_foreign and kind is MBOX:
        entry = b"From eva@x.test Sat Nov 21 08:48:00 2026\nSubject: %d\n\nHi\n\n"
        with store.open("ab") as file:
            file.write(entry % number)
    else:
        writer.add([mail(number)])


@growing
def test_a_late_message_with_an_earlier_id_is_not_missed(kind: Kind, store: Path) -> None:
    """As a large one has, that takes long to interpret."""
    writer = made(kind, store)._store
    some = [mail(number) for number in range(4)]
    writer.add([some[1], some[2]])
    cursor = EntryCursor(store)
    Inbox(store).clear(subject="2")
    writer.add([some[0], some[3]])
    assert [subject_of(entry.read()) for entry in cursor.new()] == ["0", "3"]


@growing
def test_to_compare_ends_somewhere(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailhandlers.stores.entries._MOST_COMPARED", 3)
    writer = made(kind, store)._store
    writer.add([mail(number) for number in range(9)])
    cursor = EntryCursor(store)
    Inbox(store).clear(where=lambda message: int(message["Subject"]) > 2)
    writer.add([mail(9)])
    assert [subject_of(entry.read()) for entry in cursor.new()] == ["9"]


# What fails


@pytest.mark.slow
def test_an_error_at_any_step_removes_all_or_nothing(
    kind: Kind, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused = set()
    for call, where in CALLS.items():
        for number in itertools.count(1):
            writer = filled(kind, store)
            before = contents(store)
            original, calls = getattr(where, call), itertools.count(1)
            happened: list[bool] = []

            def broken(
                *args: Any,
                original: Any = original,
                calls: Iterator[int] = calls,
                number: int = number,
                happened: list[bool] = happened,
                call: str = call,
                **named: Any,
            ) -> Any:
                if next(calls) != number:
                    return original(*args, **named)
                happened.append(True)
                if call == "close":  # what can't be closed is closed: close(2)
                    original(*args, **named)
                raise OSError(
                    errno.EIO, "the end", *[a for a in args[:1] if isinstance(a, str)]
                )

            is_told = False
            caplog.clear()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(where, call, broken)
                try:
                    Inbox(store).clear(to=TO[1])
                except OSError:
                    is_told = True
                    refused.add(call)
            left = contents(store)
            after = [each for number, each in enumerate(before) if number % 3]
            if kind.keeps_all and not isinstance(writer, FolderStore):
                assert left in ([before] if is_told else [before, after]), (call, number)
            is_told |= "it is left out" in caplog.text  # one that can't be read
            assert is_told or left == (after if kind.keeps_all else before), (call, number)
            writer.add([mail(9)])
            assert contents(store)[-1] == mail(9).content
            assert not os.path.lexists(f"{store}.lock"), (call, number)
            shutil.rmtree(store.parent)
            store.parent.mkdir()
            if not happened:
                break
    assert "unlink" in refused or not kind.is_folder


@ON_DISK
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_at_any_call_removes_all_or_nothing(kind: Kind, store: Path) -> None:
    for number in itertools.count(1):
        writer = filled(kind, store)
        before = contents(store)
        after = [each for index, each in enumerate(before) if index % 3]
        if not in_a_process(lambda: Inbox(store).clear(to=TO[1]), killed_at=number):
            break
        left = contents(store)
        if isinstance(writer, GrowingStore):
            assert left in (before, after), number
        in_a_process(lambda: start_and_store(kind, store, mail(9)))
        assert contents(store) == [*left, mail(9).content][-99 if kind.keeps_all else -1 :]
        assert not os.path.lexists(f"{store}.lock")
        links = [path for path in store.rglob("*") if path.is_symlink()]
        assert all(path.exists() for path in links)
        shutil.rmtree(store.parent)
        store.parent.mkdir()
    assert number > 3


def start_and_store(kind: Kind, store: Path, one: Mail) -> None:
    writer = made(kind, store)._store
    writer.prepare()
    writer.add([one])


@growing
def test_what_a_killed_one_left_long_ago_is_swept(kind: Kind, store: Path) -> None:
    filled(kind, store)
    left = store.with_name(".1763714880.M123456P4242Q000001.laptop.tmp")
    left.touch()
    os.utime(left, (0, 0))
    made(kind, store)._store.prepare()
    assert os.listdir(store.parent) == [store.name]


def test_a_full_disk_removes_nothing(kind: Kind, small_disk: Path) -> None:
    store = small_disk / kind.store
    writer = made(kind, store)._store
    body = b"x" * 998 + b"\r\n"
    for to in (TO[0], TO[1], TO[0]):
        writer.add([raw_mail(b"Subject: x\r\n\r\n" + body * 60, [to])])
    before = contents(store)
    with suppress(OSError), (small_disk / "filler").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    if kind in (MBOX, JSON_LINES):
        listed = sorted(os.listdir(small_disk))
        with pytest.raises(OSError, match="No space left"):
            Inbox(store).clear(to=TO[1])
        assert contents(store) == before
        assert sorted(os.listdir(small_disk)) == listed
        (small_disk / "filler").unlink()
    Inbox(store).clear(to=TO[1])
    assert contents(store) == ([before[0], before[2]] if kind.keeps_all else before)


# Dotlocks


def test_while_a_file_is_replaced_its_dotlock_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is killed then leaves one that the next message takes over at once."""
    store = tmp_path / "mail.mbox"
    filled(KIND["MboxSink"], store)
    replace, seen = os.replace, []

    def look(source: str, target: str) -> None:
        if target == str(store):
            seen.append(os.readlink(f"{store}.lock"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    Inbox(store).clear(to=TO[1])
    assert seen == [f"mailhandlers.{os.getpid()}"]
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("nobody has the lock"))
    os.symlink(seen[0], f"{store}.lock")
    made(MBOX, store)._store.add([mail(9)])
    assert os.listdir(tmp_path) == ["mail.mbox"]


def test_the_dotlock_goes_before_anybody_has_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it may be that of the next one that goes."""
    store = tmp_path / "mail.mbox"
    filled(MBOX, store)
    unlink = os.unlink
    tried: list[str] = []

    def try_to_append(path: str) -> None:
        if path.endswith(".lock") and not tried:
            tried.append(path)
            with pytest.raises(OSError, match="holds the lock"):
                made(MBOX, store)._store.add([mail(7)], patience=0.02)
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", try_to_append)
        Inbox(store).clear(to=TO[1])
    assert tried


def test_where_there_are_no_links_the_dotlock_is_a_file_then_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", lambda *_: fail_with(errno.EPERM))
    store = tmp_path / "mail.mbox"
    filled(MBOX, store)
    Inbox(store).clear(to=TO[1])
    assert os.listdir(tmp_path) == ["mail.mbox"]
    assert numbers(store) == ["1", "2", "4", "5"]


def fail_with(error: int) -> None:
    raise OSError(error, os.strerror(error))
