"""A file that is read while it is written: each message is there as it came, or not at all."""

from __future__ import annotations

import itertools
import mailbox
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import KIND, PATIENCE, Kind, Server, json_line
from test_envelope import EXAMPLE

from mailhandlers import Inbox, read_latest, read_messages
from mailhandlers.disk import locks
from mailhandlers.inbox.criteria import Criteria
from mailhandlers.inbox.cursor import Cursor
from mailhandlers.inbox.remembering import Remembered
from mailhandlers.mail import Mail
from mailhandlers.stores import entries, mbox

pytestmark = pytest.mark.slow  # real faults, real load: half a minute

GROWING = pytest.mark.parametrize(
    "kind", [KIND["MboxSink"], KIND["JsonLines"]], ids=lambda kind: kind.handler
)
OLD = b"Subject: old\r\n\r\nbody\r\n"
# Wherever it is cut, it may end as a whole entry does.
BLANK = b"Subject: coming\r\n\r\n" + b"\r\n" * 8


def entry(kind: Kind, content: bytes) -> bytes:
    mail = Mail(replace(EXAMPLE, id=content[9:15].decode(), size=len(content)), content)
    return json_line(mail) if kind.handler == "JsonLines" else b"".join(mbox.encode(mail))


def write_anew(store: Path, data: bytes) -> None:
    store.unlink(missing_ok=True)  # ext4 waits for the disk where a file is emptied
    store.write_bytes(data)


class Meanwhile:
    """Has a writer do its next steps before one of the reader's calls.

    *steps* are the writer's; it has done *done* of them when the reader begins, and before the
    reader's *call*-th call it does all up to number *until*. While the reader sleeps, the rest.
    """

    calls_to_watch: tuple[tuple[Any, str], ...] = (
        *((os, name) for name in ("fstat", "open", "pread", "readlink", "stat")),
        (time, "sleep"),
    )

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    @contextmanager
    def doing(
        self, steps: list[Callable[[], object]], done: int, until: int, call: int
    ) -> Iterator[None]:
        steps = steps.copy()
        self.calls = 0
        is_writing = False

        def work(number: int) -> None:
            nonlocal is_writing
            is_writing = True
            for step in steps[:number]:
                step()
            del steps[:number]
            is_writing = False

        def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def function(*args: Any, **named: Any) -> Any:
                if is_writing:
                    return original(*args, **named)
                self.calls += 1
                if name == "sleep":
                    work(len(steps))
                elif self.calls == call:
                    work(until - done)
                return original(*args, **named)

            return function

        work(done)
        with self._monkeypatch.context() as patch:
            for module, name in self.calls_to_watch:
                patch.setattr(module, name, watched(name, getattr(module, name)))
            yield
        work(len(steps))


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    return Meanwhile(monkeypatch)


def schedules(meanwhile: Meanwhile, number: int) -> Iterator[tuple[int, int, int]]:
    """Yield how much is done, until where and at which call, as long as calls are made."""
    for done in range(number):
        for until in range(done + 1, number + 1):
            call = meanwhile.calls = 1
            while call <= meanwhile.calls:
                yield done, until, call
                call += 1


def appending(kind: Kind, store: Path, pieces: list[bytes]) -> list[Callable[[], object]]:
    """Return the steps in which a server of ours appends *pieces*."""
    lock = locks.MboxLock() if kind.handler == "MboxSink" else locks.FileLock()
    fd = os.open(store, os.O_RDWR | os.O_APPEND)
    return [
        lambda: lock.acquire(fd, str(store), locks.deadline()),
        *(lambda piece=piece: os.write(fd, piece) for piece in pieces),
        lambda: lock.release(fd, str(store)),
    ]


def pieces_of(data: bytes, last: int) -> list[bytes]:
    """Return *data* in pieces, of which the *last* ones are an octet each."""
    head = data[:-last]
    third = len(head) // 3
    tail = data[-last:]
    return [head[:third], head[third:], *(tail[i : i + 1] for i in range(last))]


@GROWING
def test_a_message_that_is_appended_is_whole_or_not_there(
    kind: Kind, store: Path, meanwhile: Meanwhile
) -> None:
    old, coming = entry(kind, OLD), entry(kind, BLANK)
    pieces = pieces_of(coming, 4)
    looks = 0
    for done, until, call in schedules(meanwhile, len(pieces) + 2):
        write_anew(store, old)
        with meanwhile.doing(appending(kind, store, pieces), done, until, call):
            latest = read_latest(store)
        assert not latest.is_altered, (done, until, call)
        assert latest.original_content in (OLD, BLANK)
        looks += 1
    assert looks > 150


@GROWING
def test_a_cursor_never_moves_past_a_message_that_is_appended(
    kind: Kind, store: Path, meanwhile: Meanwhile
) -> None:
    old, coming = entry(kind, OLD), entry(kind, BLANK)
    pieces = pieces_of(coming, 4)
    for done, until, call in schedules(meanwhile, len(pieces) + 2):
        write_anew(store, old)
        cursor = Cursor(store, Criteria(), Remembered(store))
        found = []
        with meanwhile.doing(appending(kind, store, pieces), done, until, call):
            found.append(cursor.next())
        found.append(cursor.next())
        [message] = filter(None, found)
        assert not message.is_altered, (done, until, call)
        assert message.original_content == BLANK
        assert cursor.next() is None


def rewriting(store: Path, after: bytes) -> list[Callable[[], object]]:
    """Return the steps in which a mail client writes *store* anew, in place and locked."""
    box = mailbox.mbox(store, create=False)
    fd = os.open(store, os.O_RDWR)
    third = len(after) // 3
    parts = [(0, third), (third, 2 * third), (2 * third, len(after))]
    return [
        box.lock,
        *(lambda a=a, b=b: os.pwrite(fd, after[a:b], a) for a, b in parts),
        lambda: os.ftruncate(fd, len(after)),
        lambda: os.close(fd),
        box.close,
    ]


@pytest.mark.parametrize("kind", [KIND["MboxSink"]], ids=["MboxSink"])
def test_what_a_mail_client_writes_anew_is_read_as_it_was_or_as_it_is(
    kind: Kind, store: Path, meanwhile: Meanwhile
) -> None:
    content = [OLD + b"%d\r\n" % number for number in range(3)]
    before = b"".join(entry(kind, one) for one in content)
    after = before.replace(b"Subject: old\n", b"Subject: old\nStatus: RO\nX-UID: 123\n")
    for a, b in ((before, after), (after, before)):
        for done, until, call in schedules(meanwhile, 7):
            write_anew(store, a)
            with meanwhile.doing(rewriting(store, b), done, until, call):
                found = [*read_messages(store)]
            assert [m.is_altered for m in found] == [False] * 3, (done, until, call)
            assert [m.original_content for m in found] == content


@pytest.mark.parametrize("kind", [KIND["MboxSink"]], ids=["MboxSink"])
def test_what_is_written_without_a_lock_is_read_again(
    kind: Kind, store: Path, meanwhile: Meanwhile
) -> None:
    half = entry(kind, OLD).replace(b"body", b"by a change")
    whole = half.replace(b"by a", b"as a")
    meanwhile.calls_to_watch = ((os, "pread"),)  # the last is the second look
    for call in itertools.count(1):
        write_anew(store, half)
        with store.open("rb+") as file:
            change = partial(os.pwrite, file.fileno(), whole, 0)
            with meanwhile.doing([change], 0, 1, call):
                latest = read_latest(store)
        assert latest.is_altered
        if meanwhile.calls < call:
            break
        assert latest.text == "as a change\n", call
    assert call > 3


# Nothing waits without end


@pytest.fixture
def altered(store: Path) -> Path:
    """Return an mbox with one message, which somebody made longer."""
    store.write_bytes(entry(KIND["MboxSink"], OLD).replace(b"body", b"longer body"))
    return store


ALTERED = pytest.mark.parametrize("kind", [KIND["MboxSink"]], ids=["MboxSink"])


@ALTERED
def test_a_lock_that_stays_hides_no_message_for_long(
    altered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def changed(pause: float) -> None:
        pauses.append(pause)
        altered.touch()

    monkeypatch.setattr(time, "sleep", changed)
    Path(f"{altered}.lock").touch()
    altered.touch()
    assert read_latest(altered).is_altered
    assert entries.LONGEST_WAIT <= sum(pauses) < entries.LONGEST_WAIT + 0.1


@ALTERED
def test_a_lock_on_a_file_that_does_not_change_is_not_waited_for(
    altered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", pytest.fail)
    Path(f"{altered}.lock").touch()
    os.utime(altered, (0, 0))
    assert read_latest(altered).is_altered


@ALTERED
def test_what_is_altered_is_shown_while_a_server_appends_behind_it(
    altered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", pytest.fail)
    lock, fd = locks.MboxLock(), os.open(altered, os.O_RDWR | os.O_APPEND)
    lock.acquire(fd, str(altered), locks.deadline())
    os.write(fd, entry(KIND["MboxSink"], BLANK)[:-4])
    assert [message.is_altered for message in read_messages(altered)] == [True]
    lock.release(fd, str(altered))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a lock")
@ALTERED
def test_a_lock_without_a_dotlock_is_seen(
    altered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.rename(altered, f"{altered}.real")
    os.symlink(f"{altered}.real", altered)  # the reader's path is not the writer's
    lock, fd = locks.MboxLock(), os.open(altered, os.O_RDWR)
    lock.acquire(fd, f"{altered}.real", locks.deadline())
    monkeypatch.setattr(time, "sleep", lambda pause: lock.release(fd, f"{altered}.real"))
    with altered.open("rb") as file:
        assert locks.is_changing(file.fileno(), f"{altered}.lock")
        assert read_latest(altered).is_altered
        assert not locks.is_changing(file.fileno(), f"{altered}.lock")


# Under load


@GROWING
def test_who_follows_a_busy_server_gets_each_message_whole(kind: Kind, store: Path) -> None:
    content = b"Subject: blank\r\n\r\n" + b"\r\n" * 20_000
    most = 150

    def send_all() -> None:
        with server.client() as client:
            for _ in range(most):
                assert client.send(content) == "250 OK"

    with Server(kind.handler, store, "sync=no") as server:
        followed = Inbox(store).follow(timeout=PATIENCE, from_start=True)
        sender = threading.Thread(target=send_all)
        sender.start()
        for message in itertools.islice(followed, most):
            assert not message.is_altered
            assert message.original_content == content
        sender.join(PATIENCE)
    assert len({message.envelope.id for message in read_messages(store)}) == most
