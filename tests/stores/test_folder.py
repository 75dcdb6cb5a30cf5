"""``keep=``: the oldest messages go, and no others."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from faulty import Disk as Faults
from hypothesis import given
from hypothesis import strategies as st
from locking import folder_lock
from shell import raw_mail
from support import IS_ROOT, KIND, PATIENCE, WINDOWS, Kind, Server, wait_until
from test_envelope import EXAMPLE

from mailhandlers import (
    Inbox,
    JsonLines,
    MaildirSink,
    MailFile,
    MboxSink,
    PerRecipientDir,
    block,
)
from mailhandlers.disk import system
from mailhandlers.disk.files import Disk
from mailhandlers.handler import Handler
from mailhandlers.mail import Identity, Mail
from mailhandlers.stores.folder import FolderStore
from mailhandlers.stores.keep import Keep
from mailhandlers.stores.maildir import MaildirStore
from mailhandlers.stores.people import PeopleStore

DAY = 24 * 60 * 60
MAILDIR, PEOPLE = KIND["MaildirSink"], KIND["PerRecipientDir"]
HANDLERS: dict[str, Any] = {"MaildirSink": MaildirSink, "PerRecipientDir": PerRecipientDir}
STORES: dict[str, type[FolderStore]] = {
    "MaildirSink": MaildirStore,
    "PerRecipientDir": PeopleStore,
}
EACH = pytest.mark.parametrize("kind", [MAILDIR, PEOPLE], ids=lambda kind: kind.handler)


def content(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n" % number


def subjects(store: Path) -> list[int]:
    return [int(message["Subject"]) for message in Inbox(store)]


def has(store: Path, numbers: list[int]) -> bool:
    return subjects(store) == numbers


def folder_of(store: Path, kind: Kind, to: str = "bob@example.com") -> Path:
    return store / ("new" if kind == MAILDIR else to)


def put(store: Path, kind: Kind, *seconds: float) -> list[str]:
    """Store a message from each of *seconds*, numbered from 0; return their names."""
    folder = folder_of(store, kind)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, second in enumerate(seconds):
        name = Identity.at(int(second * 1e6), 1, number, "laptop").id
        names.append(name if kind == MAILDIR else f"{name}.eml")
        octets = content(number)
        mail = Mail(replace(EXAMPLE, id=name, size=len(octets)), octets)
        (folder / names[-1]).write_bytes(b"".join(block.encode(mail)))
        os.utime(folder / names[-1], (second, second))
    return names


def count(store: Path, kind: Kind) -> int:
    return len(list(folder_of(store, kind).glob("[0-9]*")))


# What goes

stamps = st.integers(0, 2_000_000_000)


def names_of(seconds: set[int]) -> dict[int, str]:
    return {second: Identity.at(second * 1_000_000, 1, 1, "laptop").id for second in seconds}


@given(st.sets(stamps), st.integers(1, 20), stamps)
def test_the_newest_stay(seconds: set[int], most: int, now: int) -> None:
    names = names_of(seconds)
    gone = Keep.of(most).too_old(names.values(), now)
    assert gone == [names[second] for second in sorted(seconds)[:-most]]


@given(st.sets(stamps), st.integers(1, 99_999), stamps)
def test_those_of_the_last_days_stay(seconds: set[int], days: int, now: int) -> None:
    names = names_of(seconds)
    gone = Keep.of(f"{days}d").too_old(names.values(), now)
    assert gone == [names[s] for s in sorted(seconds) if s < now - days * DAY]


@pytest.mark.parametrize("value", [0, -1, "0d", "7", "d", "7 d", "1.5d", "7D", "\u0667d", ""])
def test_what_would_keep_nothing_is_refused(tmp_path: Path, value: int | str) -> None:
    with pytest.raises(ValueError, match="is no number of messages or days: try keep=1000 for"):
        MaildirSink(tmp_path / "inbox", keep=value)


@pytest.mark.parametrize("value", [True, 1.5, [7]])
def test_what_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="keep is a number or a text, not"):
        MaildirSink(tmp_path / "inbox", keep=value)


@pytest.mark.parametrize(
    ("handler", "instead"),
    [
        (MailFile, "keep= is for folders: this one keeps the latest"),
        (MboxSink, "keep= is for folders: rename this file now and then"),
        (JsonLines, "keep= is for folders: rename this file now and then"),
    ],
)
def test_a_file_is_rotated_instead(
    tmp_path: Path, handler: type[Handler], instead: str
) -> None:
    with pytest.raises(ValueError, match=instead):
        handler(tmp_path / "store", keep=7)


# A server that keeps some


@EACH
def test_the_oldest_go_after_the_new_are_stored(kind: Kind, store: Path, disk: Faults) -> None:
    put(store, kind, *range(1, 11))
    with (
        disk.serving(kind, store, "keep=5") as server,
        server.client() as client,
    ):
        assert subjects(store) == [5, 6, 7, 8, 9]
        for number in range(10, 14):
            assert client.send(content(number)) == "250 OK"
            wait_until(partial(has, store, [*range(number - 4, number + 1)]))
        assert server.errors() == ""


@EACH
def test_none_goes_for_a_message_without_its_250(kind: Kind, store: Path, disk: Faults) -> None:
    put(store, kind, 1, 2, 3)
    with (
        disk.serving(kind, store, "keep=3") as server,
        server.client() as client,
    ):
        with disk.stopped():
            client.submit(content(3))
            disk.wait_for_writer()
            assert {0, 1, 2} <= {*subjects(store)}
        assert client.reply() == "250 OK"
        wait_until(lambda: has(store, [1, 2, 3]))


@EACH
def test_none_goes_for_a_message_that_is_refused(kind: Kind, store: Path, disk: Faults) -> None:
    put(store, kind, 1, 2, 3)
    with disk.serving(kind, store, "keep=3") as server:
        # The message's own name is there, and is taken back; Windows syncs no folder.
        disk.fail("fsync", 1 if WINDOWS else 2)
        assert server.send(content(3)).startswith("451")
        assert disk.failed()
        assert subjects(store) == [0, 1, 2]


@EACH
def test_a_restart_removes_what_is_too_old(kind: Kind, store: Path) -> None:
    now = time.time()
    put(store, kind, 1, now - 8 * DAY, now - 6 * DAY, now - 1)
    with Server(kind.handler, store, "keep=7d"):
        assert subjects(store) == [2, 3]


@EACH
def test_age_is_looked_at_while_mail_comes(kind: Kind, store: Path) -> None:
    kept = STORES[kind.handler](str(store), Disk(sync=False), Keep(None, 1))
    kept.prepare()
    put(store, kind, 1, 2, 3)  # by somebody else, since a server has no older mail

    def another_goes() -> bool:
        kept.add([raw_mail(content(7))])
        kept.tidy_up()
        return 0 not in subjects(store)

    wait_until(another_goes)
    assert set(subjects(store)) == {7}


@EACH
def test_what_is_over_is_a_twentieth(kind: Kind, store: Path) -> None:
    kept = STORES[kind.handler](str(store), Disk(sync=False), Keep.of(40))
    sent = 0
    for size in (1, 2, 3, 50, 7, 1, 90, 1, 1):
        kept.add([raw_mail(content(sent + number)) for number in range(size)])
        kept.tidy_up()
        sent += size
        left = subjects(store)
        assert min(40, sent) <= len(left) <= 40 + 40 // 20
        assert left == [*range(sent - len(left), sent)]


@EACH
def test_what_comes_from_the_future_has_no_age(kind: Kind, store: Path) -> None:
    now = time.time()
    put(store, kind, now - 8 * DAY, now + 8 * DAY, now + 800 * DAY)
    with Server(kind.handler, store, "keep=7d") as server:
        assert server.send(content(3)) == "250 OK"
        assert subjects(store) == [3, 1, 2]
        assert server.errors() == ""


@EACH
def test_files_of_others_stay(kind: Kind, store: Path) -> None:
    put(store, kind, *range(1, 4))
    folder = folder_of(store, kind)
    others = {"1.2_3.laptop", "README.eml", ".hidden"}
    for name in others:
        (folder / name).write_text("Subject: 7\n\n")
    with Server(kind.handler, store, "keep=1"):
        names = {path.name for path in folder.iterdir()}
    assert others <= names
    assert len(names) == 4


@EACH
@pytest.mark.parametrize(
    "name", ["99999999999999.M000001P1Q1.laptop", "1700000000.M99999999999999999999P1Q1.laptop"]
)
def test_a_name_that_no_clock_gives_moves_no_clock(kind: Kind, store: Path, name: str) -> None:
    put(store, kind, 1)
    (folder_of(store, kind) / f"{name}{'.eml' * (kind is not MAILDIR)}").touch()
    with Server(kind.handler, store, "keep=1") as server:
        assert server.send(content(1)) == "250 OK"
        assert server.errors() == ""


def test_what_a_mail_client_has_read_counts_as_well(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    names = put(store, MAILDIR, *range(1, 5))
    (store / "cur").mkdir()
    for name in names[:2]:
        os.rename(store / "new" / name, store / "cur" / f"{name}:2,S")
    with Server("MaildirSink", store, "keep=3"):
        assert subjects(store) == [1, 2, 3]


def test_each_of_200_recipients_keeps_as_many(tmp_path: Path) -> None:
    store = tmp_path / "people"
    names = put(store, PEOPLE, *range(1, 6))
    bob = folder_of(store, PEOPLE)
    folders = [store / f"{number}@example.com" for number in range(200)]
    for folder in folders:  # to all: one file, with a name in each folder
        folder.mkdir()
        for name in names[:-1]:
            os.link(bob / name, folder / name)
        system.make_pointer(names[-2], str(folder / "latest.eml"))
    with Server("PerRecipientDir", store, "keep=2"):
        assert [subjects(folder) for folder in folders] == [[2, 3]] * 200
        assert subjects(bob) == [3, 4]
        latest = [Inbox(folder / "latest.eml").latest()["Subject"] for folder in folders]
        assert latest == ["3"] * 200


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "faulty"
    folder.mkdir(parents=True)
    return folder


def test_no_link_points_to_what_is_gone(tmp_path: Path) -> None:
    store = tmp_path / "people"
    names = put(store, PEOPLE, 1, 2)
    folder = folder_of(store, PEOPLE)
    system.make_pointer(names[-1], str(folder / "latest.eml"))
    with Server("PerRecipientDir", store, "keep=7d"):
        assert os.listdir(folder) == []


def test_while_another_process_changes_the_link_the_message_stays(tmp_path: Path) -> None:
    store = tmp_path / "people"
    names = put(store, PEOPLE, 1, 2)
    folder = folder_of(store, PEOPLE)
    system.make_pointer(names[-1], str(folder / "latest.eml"))
    with folder_lock(folder), Server("PerRecipientDir", store, "keep=7d") as server:
        assert {*os.listdir(folder)} - {".lock"} == {names[-1], "latest.eml"}
        assert server.errors() == ""


@pytest.mark.skipif(not IS_ROOT, reason="only root can be two users")
def test_a_folder_that_another_user_put_there_is_left_alone(tmp_path: Path) -> None:
    store = tmp_path / "people"
    put(store, PEOPLE, 1, 2, 3)
    elsewhere = store.rename(tmp_path / "elsewhere") / "bob@example.com"
    store.mkdir()
    link = store / "bob@example.com"
    link.symlink_to(elsewhere)
    os.chown(link, 1, 1, follow_symlinks=False)
    with Server("PerRecipientDir", store, "keep=1") as server:
        wait_until(lambda: "a link that another user made; old messages" in server.errors())
        assert len(os.listdir(elsewhere)) == 3


# The clock


@EACH
def test_a_clock_that_was_set_back_makes_no_new_message_the_oldest(
    kind: Kind, store: Path, disk: Faults
) -> None:
    ahead = time.time() + DAY
    put(store, kind, ahead, ahead + 1, ahead + 2)
    with disk.serving(kind, store, "keep=3") as server:
        for number in range(3, 5):
            assert server.send(content(number)) == "250 OK"
            wait_until(partial(has, store, [*range(number - 2, number + 1)]))
        assert server.errors().count("the clock was set back") == 1


@EACH
def test_nor_in_a_server_that_the_command_did_not_start(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ahead = time.time() + DAY
    put(store, kind, ahead, ahead + 1, ahead + 2)
    handler = HANDLERS[kind.handler](store, keep=3, sync=False)
    for number in range(3, 5):
        handler.store_all([raw_mail(content(number))])
        handler.close()
        assert subjects(store) == [*range(number - 2, number + 1)]
    assert caplog.text.count("the clock was set back") == 1


# What ends in the middle, and what fails


def prepare_and_die(kept: FolderStore, number: int) -> NoReturn:
    """Have this process killed when *kept* removes its *number*-th message."""
    calls, unlink = itertools.count(1), os.unlink

    def deadly(path: str) -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(path)

    try:
        os.unlink = deadly  # type: ignore[assignment]
        kept.prepare()
    finally:
        os._exit(1)


@EACH
@pytest.mark.posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_while_it_removes_loses_nothing_that_stays(kind: Kind, store: Path) -> None:
    names = put(store, kind, *range(1, 9))
    for number in range(3, 0, -1):
        pid = os.fork()
        if pid == 0:
            prepare_and_die(STORES[kind.handler](str(store), keep=Keep.of(2)), number)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        names = names[number - 1 :]
        assert sorted(os.listdir(folder_of(store, kind))) == names
    assert len(names) == 5
    STORES[kind.handler](str(store), keep=Keep.of(2)).prepare()
    assert subjects(store) == [6, 7]


@EACH
@pytest.mark.slow
def test_two_servers_keep_as_many_together(kind: Kind, store: Path, tmp_path: Path) -> None:
    disks = [Faults(_folder(tmp_path / name)) for name in ("a", "b")]
    with (
        disks[0].serving(kind, store, "keep=40") as one,
        disks[1].serving(kind, store, "keep=40") as other,
        one.client() as first,
        other.client() as second,
    ):
        for number in range(100):
            assert (first, second)[number % 2].send(content(number)) == "250 OK"
        # Each has counted its own, so that it may leave a twentieth more.
        wait_until(lambda: len(subjects(store)) <= 40 + 2 * 2)
        assert subjects(store)[-40:] == [*range(60, 100)]


@EACH
def test_what_can_not_be_removed_is_told_once_and_mail_goes_on(
    kind: Kind, store: Path, disk: Faults
) -> None:
    put(store, kind, 0.5)
    with disk.serving(kind, store, "keep=1") as server:
        put(store, kind, *range(1, 4))
        disk.fail("unlink", error=13, lasting=True)
        with server.client() as client:
            assert client.send(content(3)) == "250 OK"
            wait_until(lambda: "Permission denied; old messages stay" in server.errors())
            assert client.send(content(4)) == "250 OK"
        assert subjects(store) == [0, 0, 1, 2, 3, 4]
        disk.failed()  # it works from now on
        wait_until(lambda: server.send(content(5)) == "250 OK" and subjects(store) == [5])
        assert server.errors().count("\n") == 1


def test_a_store_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    store = tmp_path / "people"
    handler = PerRecipientDir(store, keep="7d", sync=False)
    handler._store.tidy_up()
    handler.store_all([raw_mail(content(1))])
    handler.close()
    assert subjects(store) == [1]


# Threads


@EACH
def test_threads_that_store_and_remove_at_once_do_not_disturb_each_other(
    kind: Kind, store: Path
) -> None:
    kept = STORES[kind.handler](str(store), Disk(sync=False), Keep.of(1))
    errors = []

    def work(thread: int) -> None:
        try:
            for turn in range(50):
                kept.add([raw_mail(content(turn), [f"{turn % 5}@x.test", f"{thread}@x.test"])])
                kept.tidy_up()
        except Exception as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []
    for folder in [store / "new"] if kind == MAILDIR else store.iterdir():
        assert len([*folder.glob("[0-9]*")]) == 1
