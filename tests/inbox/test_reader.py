"""Reading back: the same tests for all five stores."""

from __future__ import annotations

import gc
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import (
    HELLO,
    HOST,
    JSON_LINES,
    KINDS,
    MBOX,
    PATIENCE,
    Client,
    Kind,
    Process,
    controlled,
    json_line,
    wait_until,
)
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import Inbox, NoMessageError, StoreError, block, read_latest, read_messages
from mailhandlers.inbox import search, watch
from mailhandlers.mail import Mail
from mailhandlers.stores import mbox
from mailhandlers.stores.store import Store

GROWING = [kind for kind in KINDS if kind.handler in ("MboxSink", "JsonLines")]
growing = pytest.mark.parametrize("kind", GROWING, ids=[kind.handler for kind in GROWING])


class Post:
    """Sends mail to a handler in a thread; a message is stored when the call returns."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self,
        subject: str = "hello",
        to: str = "bob@example.com",
        body: str = "Hi!",
        sender: str = "eva@example.com",
    ) -> None:
        content = f"Subject: {subject}\r\nTo: {to}\r\n\r\n{body}\r\n".encode()
        with Client(self.port) as client:
            assert client.send(content, sender, [to]) == "250 OK"


@pytest.fixture
def post(kind: Kind, store: Path) -> Iterator[Post]:
    handler = getattr(mailhandlers, kind.handler)(store, sync=False)
    with controlled(handler) as controller:
        yield Post(controller.port)


@pytest.fixture
def inbox(store: Path) -> Inbox:
    return Inbox(store)


@pytest.fixture
def while_waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something once, when a reader has looked and waits before it looks again."""
    pause = watch.Watch.pause

    def arrange(action: Callable[[], object]) -> None:
        # The third time: the second look is for the folders that the first one found.
        pending: list[Callable[[], object]] = [action, int, int]

        def act(self: watch.Watch, cost: float) -> float:
            if pending:
                pending.pop()()
            return pause(self, cost)

        monkeypatch.setattr(watch.Watch, "pause", act)

    return arrange


def subjects(messages: object) -> list[str]:
    return [message["Subject"] for message in messages]  # type: ignore[attr-defined]


def written(kind: Kind, subject: str = "old", body: str = "Hi") -> bytes:
    """Return what a growing store holds of one message."""
    content = f"Subject: {subject}\r\n\r\n{body}\r\n".encode()
    envelope = replace(EXAMPLE, id=subject, size=len(content))
    if kind.handler == "JsonLines":
        return json_line(Mail(envelope, content))
    return b"".join(mbox.encode(Mail(envelope, content)))


# Finding


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


def test_criteria(kind: Kind, inbox: Inbox, post: Post) -> None:
    criteria: dict[str, list[Any]] = {
        "to": ["bob@example.com", "BOB@example.COM"],
        "mail_from": ["eva@example.com", "Eva@Example.com"],
        "subject": ["Grüße 4711", re.compile("4711$"), re.compile("^gr", re.IGNORECASE)],
        "matching": ["Subject: Grüße", "C.de 482913", re.compile("CODE", re.IGNORECASE)],
        "where": [lambda message: message.codes == ["482913"]],
    }
    post("other", to="carol@example.com", sender="dan@example.com")
    post("=?utf-8?q?Gr=C3=BC=C3=9Fe_4711?=", body="Code 482913")
    for name, values in criteria.items():
        for value in values:
            assert inbox.latest(**{name: value})["Subject"] == "Grüße 4711", name
            assert subjects(inbox.messages(**{name: value})) == ["Grüße 4711"], name
    assert inbox.messages(subject="Grüße") == []
    assert inbox.messages(to="carol@example.com", mail_from="eva@example.com") == []
    if kind.keeps_all:
        assert inbox.latest(to="carol@example.com")["Subject"] == "other"


def test_an_envelope_is_not_searched(inbox: Inbox, post: Post) -> None:
    post(body="no digits")
    assert inbox.messages(matching=r"\d{4}") == []
    assert inbox.messages(matching="Return-Path|X-") == []


@pytest.mark.parametrize(
    ("criteria", "text"),
    [
        ({"too": "x"}, "there is no criterion 'too': choose from to, mail_from, subject"),
        ({"to": re.compile("x")}, "the criterion 'to' can't be re.compile"),
        ({"to": ["bob@x"]}, "the criterion 'to' can't be ['bob@x']"),
        ({"mail_from": b"x"}, "the criterion 'mail_from' can't be b'x'"),
        ({"subject": 1}, "the criterion 'subject' can't be 1"),
        ({"subject": re.compile(b"x")}, "the criterion 'subject' can't be re.compile"),
        ({"where": "x"}, "the criterion 'where' is a function, not 'x'"),
    ],
)
def test_misuse_is_told_at_once(tmp_path: Path, criteria: Any, text: str) -> None:
    inbox = Inbox(tmp_path / "none")
    for call in (inbox.latest, inbox.messages, inbox.expect, inbox.expect_none):
        with pytest.raises(TypeError, match=re.escape(text)):
            call(**criteria)
    with pytest.raises(re.error):
        inbox.messages(matching="(")


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


# Waiting


def test_what_is_there_needs_no_waiting(inbox: Inbox, post: Post) -> None:
    post("one")
    assert inbox.latest(timeout=PATIENCE, to="bob@example.com")["Subject"] == "one"


def test_latest_waits(
    inbox: Inbox, post: Post, while_waiting: Callable[[Callable[[], object]], None]
) -> None:
    post("other")
    while_waiting(lambda: post("wanted"))
    assert inbox.latest(timeout=PATIENCE, subject="wanted")["Subject"] == "wanted"


def test_latest_waits_for_a_recipient_of_whom_nobody_heard(
    inbox: Inbox, post: Post, while_waiting: Callable[[Callable[[], object]], None]
) -> None:
    while_waiting(lambda: post(to="Carol+1@example.com"))
    assert inbox.latest(timeout=PATIENCE, to="carol+1@example.com").envelope


def test_only_new_mail_is_expected(inbox: Inbox, post: Post) -> None:
    post("same")
    old = inbox.latest()
    with inbox.expect(timeout=PATIENCE, to="bob@example.com") as expected:
        post("same")
    assert expected.message.envelope != old.envelope
    assert expected.message.original_content == old.original_content


def test_mail_is_had_within_the_block(inbox: Inbox, post: Post) -> None:
    post("old")
    with inbox.expect(timeout=PATIENCE) as expected:
        thread = threading.Thread(target=post, args=("new",))
        thread.start()
        assert expected.message["Subject"] == "new"
    thread.join()
    assert expected.message["Subject"] == "new"


def test_mail_may_come_after_the_block(
    inbox: Inbox, post: Post, while_waiting: Callable[[Callable[[], object]], None]
) -> None:
    post("old")
    while_waiting(lambda: post("new"))
    with inbox.expect(timeout=PATIENCE, subject=re.compile("old|new")) as expected:
        pass
    assert expected.message["Subject"] == "new"


def test_the_first_that_came_is_had(kind: Kind, inbox: Inbox, post: Post) -> None:
    post("0", to="carol@example.com")
    with inbox.expect(to="bob@example.com") as expected:
        for number in range(1, 5):
            post(str(number), to=["carol@example.com", "bob@example.com"][number % 2])
        if not kind.keeps_all:
            post("1")
    assert expected.message["Subject"] == "1"


def test_mail_in_the_very_tick_of_the_last_is_seen(
    monkeypatch: pytest.MonkeyPatch,
    inbox: Inbox,
    store: Path,
    post: Post,
    while_waiting: Callable[[Callable[[], object]], None],
) -> None:
    monkeypatch.setattr(watch, "_TICK", 10**12)
    post("old")
    before = {path: path.stat() for path in [store, *store.rglob("*")]}

    def in_the_same_tick() -> None:
        post("new")
        for path, status in before.items():
            if path.exists():
                os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))

    while_waiting(in_the_same_tick)
    with inbox.expect(timeout=PATIENCE) as expected:
        pass
    assert expected.message["Subject"] == "new"


@pytest.mark.parametrize("kind", KINDS[:1], ids=["MailFile"])
def test_another_message_may_get_inode_size_and_time_of_the_old(
    inbox: Inbox, store: Path, post: Post
) -> None:
    post("same")
    status = store.stat()
    form = store.read_bytes()
    with inbox.expect(timeout=PATIENCE) as expected:
        identity = block.decode(form).envelope.id
        store.write_bytes(form.replace(identity.encode(), identity[::-1].encode()))
        os.utime(store, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert expected.message.envelope
    assert expected.message.envelope.id == identity[::-1]


@growing
def test_an_append_under_way_at_the_start_is_new(kind: Kind, store: Path) -> None:
    # A bare line feed keeps the entry out of LF form.
    whole, coming = written(kind), written(kind, "coming", body="bare\nLF")
    for length in (1, 5, len(coming) // 2, len(coming) - 2):
        store.write_bytes(whole + coming[:length])
        with Inbox(store).expect(timeout=PATIENCE) as expected, store.open("ab") as file:
            file.write(coming[length:])
        assert expected.message["Subject"] == "coming", length


def hold(store: Path, length: int) -> None:
    """Lock *store*, an mbox at least, as our server does that appends behind *length*."""
    lock = Path(f"{store}.lock")
    lock.unlink(missing_ok=True)
    lock.symlink_to(f"mailhandlers.1.{store.stat().st_ino}.{length}")


@growing
def test_a_part_of_a_message_is_not_there(kind: Kind, store: Path) -> None:
    whole, coming = written(kind), written(kind, "coming")
    for length in range(len(coming) - 1):  # the last octet is no part of the message
        store.write_bytes(whole + coming[:length])
        hold(store, len(whole))
        assert len(Inbox(store)) == 1, length
        assert read_latest(store)["Subject"] == "old"
        store.write_bytes(coming[:length])
        hold(store, 0)
        assert list(Inbox(store)) == []


def test_expecting_in_a_store_that_is_not_there(inbox: Inbox, post: Post) -> None:
    with inbox.expect(to="bob@example.com") as expected:
        post("first")
    assert expected.message["Subject"] == "first"


@pytest.mark.parametrize("before", [1, 3])
def test_expecting_in_a_store_that_is_cleared(inbox: Inbox, post: Post, before: int) -> None:
    for _ in range(before):
        post("same")
    with inbox.expect() as expected:
        inbox.clear()
        for subject in ("new", "same", "same"):
            post(subject)
    assert expected.message["Subject"] in ("new", "same")
    assert len(inbox) == len(inbox.messages(to="bob@example.com"))


@pytest.mark.parametrize("how", ["deleted", "rotated"])
def test_expecting_in_a_store_that_is_made_anew(
    kind: Kind, inbox: Inbox, store: Path, post: Post, how: str
) -> None:
    post("old")
    with inbox.expect(to="bob@example.com") as expected:
        if how == "rotated":
            store.rename(f"{store}.1")
        elif kind.is_folder:
            shutil.rmtree(store)
        else:
            store.unlink()
        post("new")
    assert expected.message["Subject"] == "new"
    assert subjects(inbox) == ["new"]


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda kind: kind.handler)
def test_expecting_what_came_right_before_a_rotation(
    kind: Kind, inbox: Inbox, store: Path, post: Post, before: int, after: int
) -> None:
    store.touch()  # as the command makes it
    for _ in range(before):
        post("old")
    with inbox.expect(count=1 + after, timeout=PATIENCE) as expected:
        post("new")
        store.rename(f"{store}.1")
        for _ in range(after):
            post("after")
    subjects = [message["Subject"] for message in expected.messages]
    assert subjects == ["new", "after"][: 1 + after]


@pytest.mark.parametrize("kind", [MBOX, JSON_LINES], ids=lambda kind: kind.handler)
def test_no_message_is_shown_twice_while_files_come_and_go(
    kind: Kind, inbox: Inbox, store: Path, post: Post
) -> None:
    def write() -> None:
        for number in range(200):
            post(f"{number}")
            if number % 3 == 0:
                store.rename(f"{store}.{number}")
            elif number % 7 == 0:
                store.unlink()

    with ThreadPoolExecutor() as pool:
        follower = inbox.follow(timeout=PATIENCE)
        writing = pool.submit(write)
        numbers = [0]
        while numbers[-1] < 199:
            numbers.append(int(next(follower)["Subject"]))
        writing.result()
    assert numbers[1:] == sorted(set(numbers[1:]))
    assert list(inbox.follow(timeout=0)) == []


def test_an_error_in_the_block_is_the_error(inbox: Inbox, post: Post) -> None:
    with pytest.raises(ZeroDivisionError), inbox.expect():
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), inbox.expect_none():
        post()
        _ = 1 / 0


def test_many_wait_for_their_own(inbox: Inbox, post: Post) -> None:
    people = [f"user{number}@example.com" for number in range(8)]
    start = threading.Barrier(len(people))
    found: dict[str, str] = {}

    def sign_up(person: str) -> None:
        with inbox.expect(timeout=PATIENCE, to=person) as expected:
            start.wait(PATIENCE)
            post(f"for {person}", to=person)
            if len(people) == 1:
                return
        found[person] = expected.message["Subject"]

    if read_kind(inbox) == "latest.mail":
        people[1:] = []  # one file keeps one message: the others' is replaced
        start = threading.Barrier(1)
    threads = [threading.Thread(target=sign_up, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(people) > 1:
        assert found == {person: f"for {person}" for person in people}


def read_kind(inbox: Inbox) -> str:
    return os.path.basename(inbox.path)


def test_waiting_looks_only_where_something_changed(
    inbox: Inbox, store: Path, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    post("old")
    for path in [store, *store.rglob("*")]:
        os.utime(path, (10**9, 10**9))
    looks = []
    find: Callable[..., Store] = search.__dict__["find"]

    def counting(*args: Any) -> Store:
        looks.append(args)
        return find(*args)

    monkeypatch.setattr(search, "find", counting)
    monkeypatch.setattr(watch.Watch, "pause", lambda *_: 0)
    with pytest.raises(NoMessageError):
        inbox.latest(timeout=0.05, to="nobody@example.com")
    assert len(looks) <= 3  # the first, one for its folders, one for the error


# What is told when no mail came


def test_the_error_tells_where_what_and_how_long(inbox: Inbox, post: Post) -> None:
    with pytest.raises(NoMessageError) as told:
        inbox.latest(timeout=0.02, to="bob@x.test", subject="Hi", matching="a.b")
    assert str(told.value) == (
        f"no message in {inbox.path} with to='bob@x.test', subject='Hi', matching=/a.b/, "
        "in 0.02 s; nothing is there yet"
    )
    post("before")
    with pytest.raises(NoMessageError) as told, inbox.expect(timeout=0.01, to="bob@x.test"):
        pass
    assert str(told.value) == (
        f"no new message in {inbox.path} with to='bob@x.test', in 0.01 s; no other came"
    )


def test_the_error_tells_what_came_instead(kind: Kind, inbox: Inbox, post: Post) -> None:
    post("before", to="dan@example.com")
    with (
        pytest.raises(NoMessageError) as told,
        inbox.expect(timeout=0.01, to="bob@example.com", subject="Welcome"),
    ):
        for number in range(6):
            post(f"other {number}", to="carol@example.com")
        post("Welcome", to="bobby@example.com")
        post("=?utf-8?q?Wel=1B[31m?=")
    misses = str(told.value).splitlines()
    assert misses[0].endswith("in 0.01 s; the nearest misses:")
    assert misses[1] == r"  to bob@example.com: 'Wel\x1b[31m'"
    if kind.keeps_all:
        assert misses[2] == "  to bobby@example.com: 'Welcome'"
        assert misses[3] == "  to carol@example.com: 'other 5'"
        assert len(misses) == 6
        assert "dan@" not in str(told.value)


def test_the_error_survives_what_a_function_can_not_take(inbox: Inbox, post: Post) -> None:
    post("no link")
    with pytest.raises(NoMessageError, match="no link"):
        inbox.latest(to="x@example.com", where=lambda message: message.links[0])
    with pytest.raises(IndexError):
        inbox.latest(where=lambda message: message.links[0])


def test_no_mail_is_expected(inbox: Inbox, post: Post) -> None:
    post("old")
    with inbox.expect_none(within=0.02):
        pass
    with inbox.expect_none(within=0.02, to="bob@example.com"):
        post("for another", to="carol@example.com")
    with (
        pytest.raises(AssertionError, match=r"a message came .*: to bob@example.com: 'new'"),
        inbox.expect_none(within=PATIENCE, to="bob@example.com"),
    ):
        post("new")


@pytest.mark.filterwarnings("error")
def test_without_with_there_is_a_warning(inbox: Inbox) -> None:
    for call in (inbox.expect, inbox.expect_none):
        with pytest.warns(UserWarning, match="need a 'with'"):
            call()
            gc.collect()
    lonely = inbox.expect()
    with pytest.raises(RuntimeError, match="needs a 'with'"):
        _ = lonely.message
    with pytest.warns(UserWarning, match="need a 'with'"):
        del lonely
        gc.collect()


# Starting clean


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


# What is no store


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
        (folder / name).write_bytes(b"\0garbage")
    assert inbox.latest()["Subject"] == "good"
    assert subjects(inbox) == ["good"]
    inbox.clear()
    (folder / "9999999999.d.eml").write_bytes(b"\0garbage")
    with pytest.raises(StoreError, match=r"9999999999\.d\.eml: no message begins like this"):
        inbox.latest()


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


# What it costs


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


# A grader on another machine


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
