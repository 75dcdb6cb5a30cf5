"""``keep=``: the oldest messages go, and no others."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faulty import Disk
from hypothesis import given
from hypothesis import strategies as st
from shell import raw_mail
from support import KIND, Kind, Server, wait_until

from mailhandlers import Inbox, JsonLines, MaildirSink, MailFile, MboxSink, PerRecipientDir
from mailhandlers import identity as identities
from mailhandlers.handler import Handler
from mailhandlers.identity import Identity
from mailhandlers.writing import retention
from mailhandlers.writing.retention import Keep, too_old

DAY = 24 * 60 * 60
FOLDERS = [KIND["MaildirSink"], KIND["PerRecipientDir"]]
HANDLERS: dict[str, Any] = {"MaildirSink": MaildirSink, "PerRecipientDir": PerRecipientDir}
EACH = pytest.mark.parametrize("kind", FOLDERS, ids=lambda kind: kind.handler)


def content(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n" % number


def subjects(store: Path) -> list[int]:
    return [int(message["Subject"]) for message in Inbox(store)]


def put(store: Path, kind: Kind, *seconds: float, to: str = "bob@example.com") -> list[str]:
    """Store a message from each of *seconds*, numbered from 0; return their names."""
    folder = store / ("new" if kind.handler == "MaildirSink" else to)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, second in enumerate(seconds):
        name = Identity.at(int(second * 1e6), 1, number, "laptop").id
        names.append(name if kind.handler == "MaildirSink" else f"{name}.eml")
        (folder / names[-1]).write_bytes(content(number))
    wait_until(lambda: is_settled(store))
    return names


def is_settled(store: Path) -> bool:
    """Tell whether no file is of the last second: it might still wait for its 250."""
    return time.time() - max(path.stat().st_ctime for path in store.rglob("*")) > 1


def shows(store: Path, numbers: list[int]) -> bool:
    return subjects(store) == numbers


@pytest.fixture
def just_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove messages at once, which have one second else."""
    monkeypatch.setattr(retention, "_JUST_NOW", 0.0)


# What goes

stamps = st.integers(0, 2_000_000_000)


@given(st.sets(stamps), st.integers(1, 20))
def test_the_newest_stay(seconds: set[int], most: int) -> None:
    names = {second: Identity.at(second * 1_000_000, 1, 1, "laptop").id for second in seconds}
    gone = too_old(names.values(), Keep.of(most), now=0)
    assert gone == [names[second] for second in sorted(seconds)[:-most]]


@given(st.sets(stamps), st.integers(1, 99_999), stamps)
def test_those_of_the_last_days_stay(seconds: set[int], days: int, now: int) -> None:
    names = {second: Identity.at(second * 1_000_000, 1, 1, "laptop").id for second in seconds}
    gone = too_old(names.values(), Keep.of(f"{days}d"), now)
    assert gone == [names[s] for s in sorted(seconds) if s < now - days * DAY]


@pytest.mark.parametrize("value", [0, -1, "0d", "7", "d", "7 d", "1.5d", "7D", "\u0667d", ""])
def test_what_would_keep_nothing_is_refused(tmp_path: Path, value: int | str) -> None:
    with pytest.raises(ValueError, match="try keep=1000 for so many messages, or keep=7d"):
        MaildirSink(tmp_path / "inbox", keep=value)


@pytest.mark.parametrize("value", [True, 1.5, [7]])
def test_what_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="keep is a number or a text, not"):
        MaildirSink(tmp_path / "inbox", keep=value)


@pytest.mark.parametrize(
    ("handler", "instead"),
    [
        (MailFile, "MailFile takes no keep=: it keeps the latest message alone"),
        (MboxSink, "MboxSink takes no keep=: rotate its file by a rename"),
        (JsonLines, "JsonLines takes no keep=: rotate its file by a rename"),
    ],
)
def test_a_file_is_rotated_instead(
    tmp_path: Path, handler: type[Handler], instead: str
) -> None:
    with pytest.raises(ValueError, match=instead):
        handler(tmp_path / "store", keep=7)


# A server that keeps some


@EACH
@pytest.mark.parametrize("writer", ["thread", "child"])
def test_the_oldest_go_after_the_new_are_stored(
    kind: Kind, store: Path, disk: Disk, writer: str
) -> None:
    put(store, kind, *range(1, 11))
    with disk.serving(kind, store, "keep=5") as server, server.client() as client:
        assert subjects(store) == [5, 6, 7, 8, 9]
        for number in range(10, 14):
            assert client.send(content(number)) == "250 OK"
            newest = [*range(number - 4, number + 1)]
            wait_until(partial(shows, store, newest))
        assert server.errors() == ""


@EACH
def test_a_restart_removes_what_is_too_old(kind: Kind, store: Path) -> None:
    now = time.time()
    put(store, kind, 1, now - 8 * DAY, now - 6 * DAY, now - 1)
    with Server(kind.handler, store, "keep=7d"):
        assert subjects(store) == [2, 3]


@EACH
def test_a_message_of_this_moment_waits_for_the_next(
    kind: Kind, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_JUST_NOW", 3600.0)
    handler = HANDLERS[kind.handler](store, keep=2, sync=False)
    handler.store_all([raw_mail(content(number)) for number in range(5)])
    handler.close()
    assert subjects(store) == [0, 1, 2, 3, 4]
    monkeypatch.setattr(retention, "_JUST_NOW", 0.0)
    handler._tidy_up()
    assert subjects(store) == [3, 4]


@EACH
@pytest.mark.usefixtures("just_now")
def test_files_of_others_stay(kind: Kind, store: Path) -> None:
    put(store, kind, *range(1, 4))
    folder = next(path for path in store.iterdir() if path.is_dir())
    others = {"1.2_3.laptop", "README.eml", ".hidden"}
    for name in others:
        (folder / name).write_text("Subject: 7\n\n")
    with Server(kind.handler, store, "keep=1"):
        names = {path.name for path in folder.iterdir()}
    assert others <= names
    assert len(names) == 4


def test_what_a_mail_client_has_read_counts_as_well(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    names = put(store, KIND["MaildirSink"], *range(1, 5))
    (store / "cur").mkdir()
    for name in names[:2]:
        os.rename(store / "new" / name, store / "cur" / f"{name}:2,S")
    wait_until(lambda: is_settled(store))
    with Server("MaildirSink", store, "keep=3"):
        assert subjects(store) == [1, 2, 3]


@pytest.mark.usefixtures("just_now")
def test_each_recipient_keeps_as_many(tmp_path: Path) -> None:
    store = tmp_path / "people"
    people = [f"{number}@example.com" for number in range(200)]
    handler = PerRecipientDir(store, keep=2, sync=False)
    for number in range(3):
        handler.store_all([raw_mail(content(number), people)])
    handler.store_all([raw_mail(content(3), people[:1])])
    handler.close()
    while handler._retention and (handler._retention._to_list or handler._retention._to_remove):
        handler._tidy_up()
    for person in people:
        kept = {"2", "3"} if person == people[0] else {"1", "2"}
        messages = [Inbox(p).latest()["Subject"] for p in (store / person).glob("[0-9]*")]
        assert set(messages) == kept
        assert Inbox(store / person / "latest.eml").latest()["Subject"] == max(kept)


@pytest.mark.usefixtures("just_now")
def test_no_link_points_to_what_is_gone(tmp_path: Path) -> None:
    store = tmp_path / "people"
    handler = PerRecipientDir(store, keep="1d", sync=False)
    handler.store_all([raw_mail(content(1))])
    folder = store / "bob@example.com"
    assert (folder / "latest.eml").exists()
    (old,) = folder.glob("[0-9]*")
    older = folder / f"1000000000{old.name[10:]}"
    old.rename(older)
    (folder / "latest.eml").unlink()
    (folder / "latest.eml").symlink_to(older.name)
    assert handler._retention
    handler._retention.sweep()
    assert os.listdir(folder) == []


@EACH
@pytest.mark.usefixtures("just_now")
def test_a_clock_that_was_set_back_makes_no_new_message_the_oldest(
    kind: Kind, store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identities, "_last", 0)
    ahead = time.time() + DAY
    put(store, kind, ahead, ahead + 1, ahead + 2)
    handler = HANDLERS[kind.handler](store, keep=3, sync=False)
    handler._retention.sweep()
    assert "the clock was set back" in caplog.text
    handler.store_all([raw_mail(content(3))])
    handler.close()
    assert subjects(store) == [1, 2, 3]


@EACH
def test_a_kill_loses_nothing_that_stays(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store, "keep=20") as server:
        sent = 0
        with server.client() as client:
            for sent in range(30):
                client.send(content(sent))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    assert subjects(store)[-20:] == [*range(sent - 19, sent + 1)]
    wait_until(lambda: is_settled(store))
    with Server(kind.handler, store, "keep=20"):
        assert subjects(store) == [*range(sent - 19, sent + 1)]


@EACH
def test_what_can_not_be_removed_is_told_once(
    kind: Kind, store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, link: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    handler = HANDLERS[kind.handler](store, keep=1, sync=False)
    with monkeypatch.context() as broken:
        broken.setattr(retention, "_JUST_NOW", 0.0)
        broken.setattr(retention, "remove_target", refuse)
        for number in range(4):
            handler.store_all([raw_mail(content(number))])
    handler.close()
    assert subjects(store) == [0, 1, 2, 3]
    assert caplog.text.count("Permission denied; old messages stay") == 1
