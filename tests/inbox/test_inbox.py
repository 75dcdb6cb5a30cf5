"""Reading back: the same tests for all stores."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import tracemalloc
import typing
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from posting import Post, growing, subjects, written
from shell import mail, put
from support import (
    HELLO,
    HOST,
    KINDS,
    PATIENCE,
    WINDOWS,
    Client,
    Kind,
    Process,
    controlled,
    wait_until,
)

import mailhandlers
from mailhandlers import Inbox, NoMessageError, StoreError, read_latest, read_messages
from mailhandlers.disk import system
from mailhandlers.inbox.readable import Mails
from mailhandlers.mail import Mail


def hold(store: Path, length: int) -> None:
    """Lock *store*, an mbox at least, as our server does that appends behind *length*."""
    lock = Path(f"{store}.lock")
    lock.unlink(missing_ok=True)
    lock.symlink_to(f"mailhandlers.1.{store.stat().st_ino}.{length}")


def test_the_latest_and_all(kind: Kind, inbox: Inbox, post: Post) -> None:
    for number in range(12):
        post(f"mail {number}")
    kept = range(12) if kind.keeps_all else range(11, 12)
    assert inbox.latest()["Subject"] == "mail 11"
    assert read_latest(inbox.path)["Subject"] == "mail 11"
    assert subjects(inbox) == [f"mail {number}" for number in kept]
    assert subjects(inbox.messages()) == subjects(inbox)
    assert subjects(read_messages(inbox.path)) == subjects(inbox)
    assert len(inbox) == len(kept)
    assert bool(inbox)


def test_no_store_is_no_mail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("Subject: x\n\n")
    os.symlink(tmp_path / "gone", tmp_path / "dangling")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".gitkeep").touch()
    for name in ("none", "none/none", "file/none", "dangling", "empty", "folder"):
        inbox = Inbox(tmp_path / name)
        assert (list(inbox), len(inbox), inbox.messages(to="x")) == ([], 0, [])
        with pytest.raises(NoMessageError, match="no message in "):
            inbox.latest()
        inbox.clear()


@growing
def test_a_part_of_a_message_is_not_there(kind: Kind, store: Path) -> None:
    whole, coming = written(kind), written(kind, "coming")
    step = 40 if WINDOWS else 1  # Wine takes 50 ms for a file
    for length in range(0, len(coming) - 1, step):  # the last octet is no part of the message
        store.write_bytes(whole + coming[:length])
        hold(store, len(whole))
        assert len(Inbox(store)) == 1, length
        assert read_latest(store)["Subject"] == "old"
        store.write_bytes(coming[:length])
        hold(store, 0)
        assert list(Inbox(store)) == []


def test_clear_under_a_running_server(
    kind: Kind, inbox: Inbox, store: Path, post: Post
) -> None:
    inbox.clear()
    for _ in range(3):
        post("old", to="bob@example.com")
        post("old", to="new")
        inbox.clear()
        assert list(inbox) == []
        assert len(inbox) == 0
        with pytest.raises(NoMessageError):
            inbox.latest()
        with inbox.expect(to="bob@example.com") as expected:
            post("new")
        assert expected.message is not None
        assert subjects(inbox) == ["new"]
        assert inbox.latest()["Subject"] == "new"
        if kind.handler == "PerRecipientDir":
            assert (store / "bob@example.com" / "latest.eml").exists()
            assert not os.path.lexists(store / "new" / "latest.eml")


def test_clear_takes_what_meets_the_criteria(kind: Kind, inbox: Inbox, post: Post) -> None:
    if kind.handler in ("MboxSink", "JsonLines") and not system.CAN_REPLACE_OPEN:
        pytest.skip("no file that is open can be replaced here")
    followed = inbox.follow(timeout=0)
    for number in range(2):
        post(f"bob {number}", to="bob@example.com")
        post(f"carol {number}", to="carol@example.com")
    inbox.clear(to="bob@example.com", subject="bob 1")
    inbox.clear(where=lambda message: message["Subject"] == "bob 0")
    inbox.clear(mail_from="nobody@example.com")
    left = ["carol 0", "carol 1"] if kind.keeps_all else ["carol 1"]
    assert subjects(inbox) == left
    assert subjects(followed) == left
    with pytest.raises(TypeError, match="there is no criterion 'recipient'"):
        inbox.clear(recipient="bob@example.com")  # type: ignore[call-arg]
    assert subjects(inbox) == left


def test_clear_between_appends_of_many(kind: Kind, inbox: Inbox, post: Post) -> None:
    def post_ten() -> None:
        for _ in range(10):
            post()

    with ThreadPoolExecutor() as pool:
        senders = [pool.submit(post_ten) for _ in range(3)]
        while not all(sender.done() for sender in senders):
            inbox.clear()
            list(inbox)  # no StoreError, whatever is taken away under the reader
    for sender in senders:
        sender.result()
    inbox.clear()
    post("after")
    assert subjects(inbox) == ["after"]


def test_clear_takes_nothing_from_a_maildir_in_the_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "Maildir"
    mkdir = os.mkdir
    kept = []

    def mkdir_then_clear(path: str, mode: int) -> None:
        mkdir(path, mode)
        if (store / "tmp").exists():
            (store / "tmp" / "begun").touch()
            Inbox(store).clear()
            kept.append((store / "tmp" / "begun").exists())

    monkeypatch.setattr(os, "mkdir", mkdir_then_clear)
    with controlled(mailhandlers.MaildirSink(store)) as controller:
        Post(controller.port)()
    assert kept == [True]


@pytest.mark.parametrize(
    ("octets", "place"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\r", "line 1"),
        (b"\0" * 100, "line 1"),
        (b"hello world\n", "line 1"),
        (b"2026-11-21T08:48:00 started\n", "line 1"),
        (b"ERROR: no such thing\n", "line 1"),
        (b'{"a": 1}\n', "octet 0"),
        (b'{\n  "a": 1\n}\n', "octet 0"),
        (b"[1, 2]\n", "line 1"),
    ],
)
def test_garbage_is_named_with_path_and_place(
    tmp_path: Path, octets: bytes, place: str
) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(octets)
    inbox = Inbox(path)
    for call in (inbox.latest, inbox.messages, inbox.__len__):
        with pytest.raises(StoreError) as told:
            call()
        assert str(path) in str(told.value)
        if octets.count(b"\n") < 2:
            assert place in str(told.value)
    with pytest.raises(StoreError):
        read_latest(path, timeout=PATIENCE)


@growing
@pytest.mark.parametrize("bad", [b"garbage\n", b"\xff\0\n\n\n", b"Return-Path\n", b'"id"\n'])
def test_a_bad_line_hides_no_good_one(kind: Kind, store: Path, bad: bytes) -> None:
    good = [written(kind, "one"), written(kind, "two")]
    store.write_bytes(bad + good[0] + good[1])
    assert subjects(Inbox(store)) == ["one", "two"]
    begin = b"From x\nReturn-Path: x\n" if kind.handler == "MboxSink" else b'{"id": "1"}\n'
    store.write_bytes(good[0] + begin + bad + good[1])
    assert read_latest(store)["Subject"] == "two"
    assert subjects(Inbox(store).messages(subject=re.compile("one|two"))) == ["one", "two"]


def test_a_bad_file_hides_no_good_one(
    kind: Kind, inbox: Inbox, store: Path, post: Post
) -> None:
    post("good")
    if not kind.is_folder:
        pytest.skip("one file is not several")
    folder = wait_until(
        lambda: next(path for path in store.rglob("*[0-9]*") if path.is_file())
    ).parent
    for name in ("9999999998.a.eml", "1.b.eml", "c.eml"):
        (folder / name).mkdir()
    assert inbox.latest()["Subject"] == "good"
    assert subjects(inbox) == ["good"]
    next(path for path in folder.iterdir() if path.is_file()).unlink()
    with pytest.raises(StoreError, match=r"9999999998\.a\.eml: it is no regular file"):
        inbox.latest()


@pytest.mark.posix
def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.c").touch()
    with pytest.raises(StoreError, match=r"else than mail, such as .*src/main\.c"):
        read_latest(tmp_path)
    (tmp_path / "README").touch()
    with pytest.raises(StoreError, match=r"else than mail, such as .*README"):
        list(Inbox(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreError, match="fifo is no regular file and no folder"):
        read_latest(tmp_path / "fifo")


def test_a_recipient_may_be_called_new(tmp_path: Path) -> None:
    store = tmp_path / "people"
    inbox = Inbox(store)
    with controlled(mailhandlers.PerRecipientDir(store, sync=False)) as controller:
        post = Post(controller.port)
        for person in ("new", "cur", "tmp", "bob@example.com"):
            post(f"for {person}", to=person)
            assert inbox.latest(to=person)["Subject"] == f"for {person}"
        assert len(inbox) == 4
        inbox.clear()
        post("again")
        assert subjects(inbox) == ["again"]


def test_mail_being_written_to_a_recipients_folder_is_no_garbage(tmp_path: Path) -> None:
    (tmp_path / ".1.eml.tmp").write_bytes(b"Return")
    assert list(Inbox(tmp_path)) == []


@growing
@pytest.mark.slow
def test_one_message_is_in_memory_at_a_time(kind: Kind, store: Path) -> None:
    store.write_bytes(written(kind, "large", body="x" * 20_000) * 2000)
    inbox = Inbox(store)
    tracemalloc.start()
    try:
        assert sum(len(message.original_content) > 20_000 for message in inbox) == 2000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000  # of 40 MB and more


@growing
@pytest.mark.slow
def test_the_latest_is_read_from_the_end(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    pread = os.pread

    def counting(fd: int, length: int, offset: int) -> bytes:
        asked.append(length)
        return pread(fd, length, offset)

    one = written(kind)
    octets = []
    monkeypatch.setattr(os, "pread", counting)
    for count in (300, 30_000):
        store.write_bytes(one * (count - 1) + written(kind, "last"))
        asked.clear()
        assert read_latest(store)["Subject"] == "last"
        octets.append(sum(asked))
    assert octets[0] == octets[1] < 200_000


@pytest.mark.parametrize("handler", ["MaildirSink", "PerRecipientDir"])
@pytest.mark.slow
def test_the_latest_of_a_folder_is_one_file(tmp_path: Path, handler: str) -> None:
    kind = next(kind for kind in KINDS if kind.handler == handler)
    store = tmp_path / kind.store
    with controlled(getattr(mailhandlers, handler)(store, sync=False)) as controller:
        for number in range(5):
            Post(controller.port)(str(number))
    trace = tmp_path / "trace"
    code = f"from mailhandlers import read_latest; read_latest({str(store)!r})"
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    subprocess.run(
        ["strace", "-f", "-o", trace, "-e", "trace=openat", sys.executable, "-c", code],
        check=True,
        timeout=PATIENCE,
    )
    opened = [line for line in trace.read_text().splitlines() if str(store) in line]
    assert sum("O_DIRECTORY" not in line for line in opened) == 1


def test_a_grader_gets_the_latest_over_http(tmp_path: Path) -> None:
    store = tmp_path / "people"
    store.mkdir()
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "-b", HOST, "-d", str(store)]
    url = f"http://{HOST}:{port}/bob@example.com/latest.eml"
    with (
        controlled(mailhandlers.PerRecipientDir(store, sync=False)) as controller,
        Process(command, stderr=subprocess.DEVNULL) as web,
    ):
        try:
            wait_until(lambda: socket.socket().connect_ex((HOST, port)) == 0)
            for subject in ("first", "second"):
                Post(controller.port)(subject)
                with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                    (tmp_path / "got.eml").write_bytes(answer.read())
                got = read_latest(tmp_path / "got.eml")
                assert got["Subject"] == subject
                assert got.envelope == read_latest(store).envelope
                assert got.original_content == read_latest(store).original_content
        finally:
            web.terminate()


def test_what_a_recipients_folder_holds(tmp_path: Path) -> None:
    store = tmp_path / "people"
    with controlled(mailhandlers.PerRecipientDir(store, sync=False)) as controller:
        Post(controller.port)("one")
        Post(controller.port)("two")
    folder = store / "bob@example.com"
    assert subjects(Inbox(folder)) == ["one", "two"]
    assert read_latest(folder / "latest.eml")["Subject"] == "two"
    copied = tmp_path / "copied"
    copied.mkdir()
    shutil.copy(folder / "latest.eml", copied / "latest.eml")
    assert subjects(Inbox(copied)) == ["two"]


def test_reading_changes_nothing(kind: Kind, inbox: Inbox, store: Path, post: Post) -> None:
    post()
    paths = [store, *store.rglob("*")]
    before = [(path, path.lstat().st_mtime_ns, path.lstat().st_mode) for path in paths]
    list(inbox)
    inbox.latest()
    with inbox.expect_none(within=0):
        pass
    assert before == [
        (path, path.lstat().st_mtime_ns, path.lstat().st_mode)
        for path in [store, *store.rglob("*")]
    ]


def test_the_same_view_whatever_the_store(tmp_path: Path) -> None:
    views = []
    for kind in KINDS:
        store = tmp_path / kind.store
        people = ["bob@example.com", "carol@example.com"]
        handler = getattr(mailhandlers, kind.handler)(store, sync=False)
        with controlled(handler) as controller, Client(controller.port) as client:
            assert client.send(HELLO, to=people) == "250 OK"
        message = read_latest(store)
        views.append((message.text, message.bcc, message.keys(), message.original_content))
    assert all(view == views[0] for view in views)


def test_a_reader_imports_no_server() -> None:
    code = (
        "import sys; from mailhandlers import read_latest, Inbox;"
        "print({'aiosmtpd', 'asyncio', 'ssl'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_type_hints_can_be_looked_up() -> None:
    for function in (read_latest, mailhandlers.read_messages, Inbox.latest, Inbox.follow):
        assert typing.get_type_hints(function)
    assert set(mailhandlers.__all__) <= set(dir(mailhandlers))


def test_index_and_slices(kind: Kind, inbox: Inbox, post: Post) -> None:
    for number in (0, -1):
        with pytest.raises(IndexError, match=f"there is no message {number} in "):
            inbox[number]
    assert inbox[:] == inbox[-2:] == []
    for number in range(5):
        post(str(number))
    there = subjects(inbox)
    assert len(there) == (5 if kind.keeps_all else 1)
    assert subjects(reversed(inbox)) == there[::-1]
    for index in range(-len(there), len(there)):
        assert inbox[index]["Subject"] == there[index]
    for index in (len(there), -len(there) - 1):
        with pytest.raises(IndexError):
            inbox[index]
    bounds = [None, -6, -5, -2, -1, 0, 1, 3, 6]
    steps = [None, 1, 2, -1, -2] if kind.handler == "MboxSink" else [None]
    for start, stop, step in itertools.product(bounds, bounds, steps):
        chosen = slice(start, stop, step)
        assert subjects(inbox[chosen]) == there[chosen], chosen
    with pytest.raises(ValueError, match="slice step"):
        inbox[::0]
    with pytest.raises(TypeError):
        inbox["first"]  # type: ignore[call-overload]  # the mistake that is tested


def test_the_newest_by_index_reads_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("MboxSink", tmp_path / "m", *(mail(str(number)) for number in range(20)))
    read = []
    read_all = Mails.__iter__

    def counted(mails: Mails) -> Iterator[Mail]:
        for each in read_all(mails):
            read.append(each)
            yield each

    monkeypatch.setattr(Mails, "__iter__", counted)
    inbox = Inbox(tmp_path / "m")
    assert inbox[-1]["Subject"] == "19"
    assert len(read) == 1
    assert subjects(inbox[-3:-1]) == ["17", "18"]
    assert len(read) == 4


def test_to_clear_with_a_criterion_that_is_none_removes_nothing(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    with pytest.raises(ValueError, match=r"clear\(to=None\) would remove any message"):
        inbox.clear(to=None)
