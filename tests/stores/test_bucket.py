"""A store in a bucket: what it puts, what it finds late, what an object store may answer."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import object_stores
import pytest
from support import FAILED, FULL, HELLO, HOST, PATIENCE, Client, Server, controlled, wait_until
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import BucketSink, Inbox, NoMessageError, StoreError, read_latest
from mailhandlers.block import encode
from mailhandlers.cli.main import main
from mailhandlers.disk import objects as disk_objects
from mailhandlers.mail import Identity, Mail
from mailhandlers.stores import bucket
from mailhandlers.stores.bucket import BucketStore

obstore = pytest.importorskip("obstore", reason="obstore is not here")

SES = b"Return-Path: <eva@x>\r\nTo: bob@example.com\r\nSubject: by SES\r\n\r\nHi\r\n"


@pytest.fixture
def store(new_bucket: Callable[[], Path]) -> str:
    return os.fspath(new_bucket())


def mail(seconds_ago: float = 0, number: int = 0, to: str = "bob@example.com") -> Mail:
    """Return a message that came so many seconds ago."""
    made = Identity.at(int((time.time() - seconds_ago) * 1_000_000), 1, number, "laptop")
    content = f"Subject: {number}\r\n\r\n".encode()
    envelope = replace(
        EXAMPLE,
        id=made.id,
        received=made.received,
        rcpt_tos=[to],
        size=len(content),
        sha256=None,
    )
    return Mail(envelope, content)


def objects(store: str) -> Any:
    """Return the bucket of *store*, to do with it what another program would."""
    return BucketStore(store)._bucket._store


def put(store: str, name: str, data: bytes) -> None:
    prefix = store.partition("://mail/")[2]
    obstore.put(objects(store), f"{prefix}/{name}", data)


def names(store: str) -> list[str]:
    prefix = store.partition("://mail/")[2]
    found = obstore.list(objects(store), prefix).collect()
    return sorted(each["path"].removeprefix(f"{prefix}/") for each in found)


def subjects(store: str, **criteria: Any) -> list[str]:
    return [str(message["Subject"]) for message in Inbox(store).messages(**criteria)]


# What is put


def test_a_message_is_a_mail_and_a_mark_for_each_recipient(store: str) -> None:
    message = Mail(replace(EXAMPLE, rcpt_tos=["Bob@example.com", "a/b@x"]), HELLO)
    sink = BucketSink(store)
    sink.store_all([])
    sink.store_all([message])
    name = EXAMPLE.id
    assert names(store) == [
        f"mail/{name}.eml",
        f"to/a%2Fb@x/{name}",
        f"to/bob@example.com/{name}",
        "to/writable",
    ]
    prefix = store.partition("://mail/")[2]
    data = obstore.get(objects(store), f"{prefix}/mail/{name}.eml").bytes()
    assert bytes(data) == b"".join(encode(message))


def test_the_mark_of_a_message_that_never_came_is_seen_by_nobody(store: str) -> None:
    BucketSink(store).store_all([mail(number=1)])
    put(store, f"to/bob@example.com/{mail().envelope.id}", b"")
    assert subjects(store, to="bob@example.com") == ["1"]
    assert read_latest(store, to="bob@example.com")["Subject"] == "1"
    assert len(Inbox(store)) == 1


def test_the_marks_come_first_and_a_waiting_reader_misses_nothing(store: str) -> None:
    with Inbox(store).expect(to="bob@example.com", timeout=PATIENCE) as expected:
        coming = mail(number=7)
        put(store, f"to/bob@example.com/{coming.envelope.id}", b"")

        def finish() -> None:
            put(store, f"mail/{coming.envelope.id}.eml", b"".join(encode(coming)))

        timer = threading.Timer(1.2, finish)  # two looks see the mark alone
        timer.start()
        assert expected.message["Subject"] == "7"
    timer.join()


@pytest.mark.slow
def test_a_name_that_is_taken_is_not_overwritten(tmp_path: Path) -> None:
    with served(object_stores.moto, tmp_path):
        first, second = mail(number=1), mail(number=2)
        second = second._replace(envelope=replace(second.envelope, id=first.envelope.id))
        sink = BucketSink("s3://mail/x")
        sink.store_all([first])
        sink.store_all([first])  # the same again, as after an answer that got lost
        assert subjects("s3://mail/x") == ["1"]
        sink.store_all([second])
        sink._store.tidy_up()
        assert subjects("s3://mail/x", to="bob@example.com") == ["1", "2"]


@contextlib.contextmanager
def served(server: Any, folder: Path) -> Iterator[None]:
    with server(folder) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


# Finding the newest, and what is new


def test_the_newest_of_thousands_is_found_without_listing_them(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "PAGE", 10)
    ages = [5.0 * day * 86400 for day in range(30, 0, -1)]
    ages += [86400.0 + n for n in range(40, 0, -1)]
    # Some share a second, and more than a page has do.
    ages += [90_000.0 - n / 100 for n in range(25)] + [7200.5, 7200.4]
    sink = BucketSink(store)
    sink.store_all([mail(age, number) for number, age in enumerate(ages)])
    ordered = [
        str(n) for _, n in sorted(zip(ages, range(len(ages)), strict=True), reverse=True)
    ]
    assert subjects(store) == ordered
    entries = BucketStore(store).newest_first()
    newest_first = [entry.read().content.split()[1].decode() for entry in entries]
    assert newest_first == ordered[::-1]
    listed = []
    keys = disk_objects.Bucket.keys

    def counted(*args: Any) -> Iterator[str]:
        for key in keys(*args):
            listed.append(key)
            yield key

    monkeypatch.setattr(disk_objects.Bucket, "keys", counted)
    assert read_latest(store)["Subject"] == ordered[-1]
    assert len(listed) < 40


def test_what_shows_late_behind_newer_names_comes_once(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = BucketSink(store)
    sink.store_all([mail(3000, 1), mail(20, 2)])
    store_ = BucketStore(store)
    seen = store_.now()
    late = [mail(50, 3), mail(1800, 4)]
    sink.store_all([mail(0, 5), *late])

    def new() -> list[str]:
        nonlocal seen
        entries, seen = store_.since(seen)
        return [entry.read().content.split()[1].decode() for entry in entries]

    assert new() == ["3", "5"]  # half an hour is too far back for each look
    assert new() == []
    assert isinstance(seen, bucket._Names)
    seen.far_due = 0
    assert new() == ["4"]
    seen.far_due = 0
    assert new() == []
    # A clock that is an hour ahead hides nobody.
    sink.store_all([mail(-3600, 6)])
    assert new() == ["6"]
    sink.store_all([mail(0, 7)])
    assert new() == ["7"]
    seen.far_due = 0
    assert new() == []


def test_who_reads_all_waits_for_many_at_once_and_who_wants_one_gets_one(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    BucketSink(store).store_all([mail(100 - number, number) for number in range(60)])
    get, lock, asked, running = disk_objects.Bucket.get, threading.Lock(), 0, [0]
    together = threading.Barrier(4)

    def noted(*args: Any) -> Any:
        nonlocal asked
        with lock:
            asked += 1
            running.append(running[-1] + 1)
        if 4 < asked <= 8:  # so many are on their way, or this never goes on
            together.wait(PATIENCE)
        got = get(*args)
        with lock:
            running.append(running[-1] - 1)
        return got

    monkeypatch.setattr(disk_objects.Bucket, "get", noted)
    assert len(Inbox(store)) == 60
    assert asked == 0
    assert read_latest(store)["Subject"] == "59"
    assert asked == 1
    assert subjects(store) == [str(number) for number in range(60)]
    assert asked == 61
    assert max(running) <= 16

    found = iter(Inbox(store))
    assert [str(next(found)["Subject"]) for _ in range(3)] == ["0", "1", "2"]
    found.close()  # type: ignore[attr-defined]
    assert asked <= 61 + 3 + 4


def test_of_what_is_large_little_is_read_before_it_is_asked_for(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_AHEAD", 10)
    BucketSink(store).store_all([mail(100 - number, number) for number in range(20)])
    threads = set()
    get = disk_objects.Bucket.get

    def noted(*args: Any) -> Any:
        threads.add(threading.current_thread())
        return get(*args)

    monkeypatch.setattr(disk_objects.Bucket, "get", noted)
    assert subjects(store) == [str(number) for number in range(20)]
    assert threads == {threading.current_thread()}


def test_who_follows_from_the_start_and_who_waits_get_each_once(store: str) -> None:
    with controlled(BucketSink(store)) as controller:
        follow = Inbox(store).follow(from_start=True, timeout=PATIENCE)
        for number in range(5):
            with Client(controller.port) as client:
                assert client.send(f"Subject: {number}\r\n\r\n".encode()) == "250 OK"
        assert [next(follow)["Subject"] for _ in range(5)] == list("01234")


def test_a_wait_asks_twice_a_second(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    since = BucketStore.since

    def counted(self: BucketStore, seen: Any) -> Any:
        looks.append(time.monotonic())
        return since(self, seen)

    monkeypatch.setattr(BucketStore, "since", counted)
    with pytest.raises(NoMessageError):
        Inbox(store).latest(timeout=2)
    assert 3 <= len(looks) <= 6


# Mail of others


def test_mails_under_any_name_are_read_by_their_time(store: str) -> None:
    put(store, "zzz", SES)
    wait_until(lambda: len(Inbox(store)) == 1)
    inbox = Inbox(store)
    with inbox.expect(timeout=PATIENCE) as expected:
        put(store, "aaa", SES.replace(b"by SES", b"later"))
    put(store, "notes", b"\0\1\2")
    assert expected.message["Subject"] == "later"
    assert subjects(store, to="bob@example.com") == ["by SES", "later"]
    assert read_latest(store)["Subject"] == "later"
    inbox.clear()
    assert names(store) == ["notes"]


def test_a_mail_that_was_copied_there_by_hand_is_read(store: str) -> None:
    BucketSink(store).store_all([mail(number=1)])
    put(store, "mail/hand-made.eml", SES)
    put(store, "mail/other.txt", b"notes")
    assert subjects(store) == ["1", "by SES"]


# keep=, clear, copy


def test_keep_removes_the_oldest_and_their_marks(store: str) -> None:
    BucketSink(store).store_all([mail(100 - n, n) for n in range(30)])
    sink = BucketSink(store, keep=20)
    with controlled(sink) as controller, Client(controller.port) as client:
        assert client.send(b"Subject: new\r\n\r\n") == "250 OK"
    # The start leaves 20; one in twenty may be more.
    assert subjects(store) == [*map(str, range(10, 30)), "new"]
    assert len(names(store)) == 2 * 21 + 1


def test_a_message_is_removed_with_its_marks(store: str) -> None:
    BucketSink(store).store_all([mail(10, 1), mail(9, 2, to="carol@x")])
    there = BucketStore(store)
    there.remove(lambda: [next(there.oldest_first())])
    assert subjects(store) == ["2"]
    assert len(names(store)) == 3


def test_keep_of_days(store: str) -> None:
    BucketSink(store).store_all([mail(90_000, 1), mail(80_000, 2)])
    BucketSink(store, keep="1d")._store.prepare()
    assert subjects(store) == ["2"]
    assert len(names(store)) == 3


def test_a_copy_to_a_bucket_and_back_is_exact(store: str, tmp_path: Path) -> None:
    messages = [mail(100 - n, n) for n in range(5)]
    mailhandlers.MaildirSink(tmp_path / "a", sync=False).store_all(messages)
    assert main(["copy", str(tmp_path / "a"), "BucketSink", store]) == 0
    assert main(["copy", str(tmp_path / "a"), "BucketSink", store]) == 0
    assert main(["copy", store, "MboxSink", str(tmp_path / "b")]) == 0
    there = [Mail(m.envelope, m.original_content) for m in Inbox(tmp_path / "b")]
    assert there == [message.sealed() for message in messages]


# What an object store answers


def test_what_is_wrong_is_said_before_the_port_opens() -> None:
    for path, told in {
        "inbox": "no address of a bucket",
        "s3://": "no address of a bucket",
        "s3://mail/../x": "no address of a bucket",
        "s3://mail/x//y": "no address of a bucket",
        "s3://key:secret@mail/x": "no address of a bucket",
        "ftp://mail/x": "no address of a bucket",
    }.items():
        with pytest.raises(ValueError, match=told):
            BucketSink(path)
    with pytest.raises(ValueError, match="mode= is for files"):
        BucketSink("s3://mail/x", mode=0o644)


def refused(*arguments: str, env: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"{HOST}:0"]
    ended = subprocess.run(
        [*command, "-c", "mailhandlers.BucketSink", *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1
    return ended.stderr


def test_a_bucket_that_is_not_there(store: str) -> None:
    told = "s3://none: there is no such bucket"
    assert refused("s3://none/x").startswith(f"aiosmtpd: {told}: ")
    with pytest.raises(StoreError, match="s3://none/x: there is no such bucket"):
        read_latest("s3://none/x")


def test_credentials_that_are_wrong_or_missing(store: str) -> None:
    wrong = refused(store, env={"AWS_ACCESS_KEY_ID": "nobody"})
    assert re.fullmatch(r"aiosmtpd: s3://mail: the object store says 403 \w+: .*\n", wrong)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        with pytest.raises(PermissionError, match="the object store says 403"):
            read_latest(store)


def test_an_environment_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StoreError, match="does not lead there: Account must be specified"):
        BucketSink("az://mail/x")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/none/key.json")
    with pytest.raises(
        StoreError, match=r"does not lead there: Unable to open .*/none/key.json"
    ):
        read_latest("gs://mail/x")


def test_pathlib_makes_one_slash_of_two(store: str) -> None:
    BucketSink(Path(store)).store_all([mail(number=3)])
    assert read_latest(Path(store))["Subject"] == "3"
    assert Inbox(f"{store}/").latest().envelope


class Answering:
    """An S3 server that answers each request with the same, or not at all."""

    def __init__(self, status: str | None, code: str = "") -> None:
        self._socket = socket.create_server((HOST, 0))
        self._answer = None
        body = f"<Error><Code>{code}</Code></Error>"
        if status is not None:
            head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            self._answer = f"{head}\r\n{body}".encode()
        self._kept: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._socket.getsockname()[1]}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                if self._answer is None:
                    self._kept.append(client)
                    continue
                with client, contextlib.suppress(OSError):
                    client.settimeout(5)
                    client.recv(1 << 16)
                    client.sendall(self._answer)

    def close(self) -> None:
        self._socket.close()
        for client in self._kept:
            client.close()


TRIED_AGAIN = ("full", "silent", "throttled")
ANSWERS = {
    "throttled": ("503 Slow Down", "SlowDown", FAILED, r"the object store says 503 SlowDown"),
    "full": ("507 Insufficient Storage", "XMinioStorageFull", FULL, r"507 XMinioStorageFull"),
    "forbidden": ("403 Forbidden", "AccessDenied", FAILED, r"says 403 AccessDenied"),
    "gone": ("404 Not Found", "NoSuchBucket", FAILED, r"there is no such bucket"),
    "silent": (None, "", FAILED, r"takes too long|can't be reached"),
}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(answer, id=name, marks=[pytest.mark.slow] if name in TRIED_AGAIN else [])
        for name, answer in ANSWERS.items()
    ],
)
def test_an_error_is_one_line_and_451_and_service_resumes(
    store: str, answer: tuple[str | None, str, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    status, code, reply, told = answer
    sink = BucketSink(store)
    sink.store_all([mail(number=1)])
    working = sink._store._bucket  # type: ignore[attr-defined] # it is a BucketStore
    answering = Answering(status, code)
    with controlled(sink) as controller, Client(controller.port) as client:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", answering.url)
            sink._store._bucket = BucketStore(store)._bucket  # type: ignore[attr-defined]
        started = time.monotonic()
        assert client.send().startswith(reply)
        assert time.monotonic() - started < 10 + 5
        [line] = [r.getMessage() for r in caplog.records if "refused mail" in r.getMessage()]
        assert re.search(told, line)
        assert "secret" not in caplog.text
        sink._store._bucket = working  # type: ignore[attr-defined]
        answering.close()
        assert client.send(b"Subject: 2\r\n\r\n") == "250 OK"
    wait_until(lambda: len(names(store)) == 5)  # nothing is left of what was refused
    assert subjects(store, to="bob@example.com") == ["1", "2"]


def test_a_process_that_was_forked_is_told(store: str) -> None:
    code = f"""
import os
from mailhandlers import Inbox
assert len(Inbox({store!r})) == 0
if os.fork() == 0:
    try:
        len(Inbox({store!r}))
    except OSError as error:
        print(error.strerror)
    os._exit(0)
os.wait()
"""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    told = subprocess.check_output([sys.executable, "-c", code], timeout=PATIENCE, text=True)
    assert "was forked" in told


# Other object stores


@pytest.mark.slow
def test_azure(tmp_path: Path) -> None:
    with served(object_stores.azurite, tmp_path), Server("BucketSink", "az://mail/x") as server:
        for number in range(3):
            assert server.send(f"Subject: {number}\r\n\r\n".encode()) == "250 OK"
        inbox = Inbox("az://mail/x")
        assert inbox.latest(to="BOB@example.com")["Subject"] == "2"
        with inbox.expect(timeout=PATIENCE) as expected:
            assert server.send() == "250 OK"
        assert expected.message["Subject"] == "hello"
        assert subjects("az://mail/x") == ["0", "1", "2", "hello"]
        inbox.clear()
        assert len(inbox) == 0


@pytest.mark.slow
def test_aws_as_moto_has_it(tmp_path: Path) -> None:
    with served(object_stores.moto, tmp_path), Server("BucketSink", "s3://mail/x") as server:
        for number in range(3):
            assert server.send(f"Subject: {number}\r\n\r\n".encode()) == "250 OK"
        inbox = Inbox("s3://mail/x")
        assert inbox.latest(to="bob@example.com")["Subject"] == "2"
        assert subjects("s3://mail/x") == ["0", "1", "2"]
        inbox.clear()
        assert len(inbox) == 0
