"""What each store keeps to, both directions, without a server."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from faulty import CALLS, WRITE
from locking import flock, posix_lock
from shell import raw_mail
from support import HELLO, WINDOWS, tree

from mailhandlers.disk import system
from mailhandlers.disk.files import Disk
from mailhandlers.inbox.readable import Mails
from mailhandlers.mail import Mail
from mailhandlers.stores.find import find
from mailhandlers.stores.growing import GrowingStore
from mailhandlers.stores.json_lines import JsonLinesOutput, JsonLinesStore
from mailhandlers.stores.latest import LatestStore
from mailhandlers.stores.maildir import MaildirStore
from mailhandlers.stores.mbox import MboxStore
from mailhandlers.stores.people import PeopleStore
from mailhandlers.stores.store import Effort, Entry, GoneError, NothingYet, Store

FOLDERS: list[type[Store]] = [MaildirStore, PeopleStore]
GROWING: list[type[Store]] = [MboxStore, JsonLinesStore]
STORES: list[type[Store]] = [LatestStore, *FOLDERS, *GROWING]


@pytest.fixture(params=STORES, ids=[kind.__name__ for kind in STORES])
def kind(request: pytest.FixtureRequest) -> type[Store]:
    chosen: type[Store] = request.param
    return chosen


@pytest.fixture
def store(kind: type[Store], tmp_path: Path) -> Store:
    """A store of each kind in turn, which holds nothing yet."""
    (tmp_path / "place").mkdir()
    return kind(str(tmp_path / "place" / "store"), Disk(sync=False))


def mails(*numbers: int) -> list[Mail]:
    return [raw_mail(b"Subject: %d\r\n\r\nFrom me\r\n" % number) for number in numbers]


def kept(store: Store, some: list[Mail]) -> list[Mail]:
    """Return those of *some* that *store* holds when all of them were added."""
    sealed = [mail.sealed() for mail in some]
    return sealed[-1:] if isinstance(store, LatestStore) else sealed


def read(entries: Iterable[Entry]) -> list[Mail]:
    return [entry.read() for entry in entries]


def test_what_is_added_is_there_as_it_came_in_the_order_of_arrival(store: Store) -> None:
    some = mails(*range(9))
    store.add(some[:3])
    for mail in some[3:]:
        store.add([mail])
    for reader in (store, find(store.path)):
        assert read(reader.oldest_first()) == kept(store, some)
        assert read(reader.newest_first()) == kept(store, some)[::-1]


def test_a_store_is_found_by_what_it_holds(store: Store) -> None:
    assert type(find(store.path)) is NothingYet
    store.add(mails(1))
    assert type(find(store.path)) is type(store)


def test_a_store_that_is_prepared_is_empty(store: Store) -> None:
    store.check()
    store.prepare()
    assert os.path.exists(store.path)
    assert read(find(store.path).newest_first()) == []
    before = tree(Path(store.path).parent)
    store.prepare()
    assert tree(Path(store.path).parent) == before


def test_what_arrived_since_is_what_was_added(store: Store) -> None:
    some = mails(*range(6))
    store.add(some[:2])
    seen = find(store.path).now()
    entries, seen = find(store.path).since(seen)
    assert read(entries) == []
    store.add(some[2:5])
    entries, seen = find(store.path).since(seen)
    assert read(entries) == kept(store, some[2:5])
    store.add(some[5:])
    assert read(find(store.path).since(seen)[0]) == kept(store, some[5:])
    assert read(find(store.path).since(None)[0]) == kept(store, some)


def test_what_comes_between_a_look_and_its_reading_is_new_once(store: Store) -> None:
    first, second = mails(1, 2)
    store.add([first])
    entries, seen = find(store.path).since(None)
    store.add([second])
    looks = [Mails(entries, None), Mails(find(store.path).since(seen)[0], None)]
    arrived = [mail for look in looks for mail in look]
    assert arrived == kept(store, [first, second])


def test_what_another_kind_of_store_saw_is_nothing(store: Store, tmp_path: Path) -> None:
    other = (MboxStore if isinstance(store, MaildirStore) else MaildirStore)(
        str(tmp_path / "other"), Disk(sync=False)
    )
    some = mails(1, 2)
    for each in (store, other):
        each.add(some)
    assert read(store.since(other.now())[0]) == kept(store, some)


def test_a_store_that_is_emptied_begins_anew(store: Store) -> None:
    store.clear()  # nothing is there yet
    store.add(mails(1, 2))
    seen = store.now()
    store.clear()
    assert read(find(store.path).newest_first()) == []
    some = mails(3)
    store.add(some)
    assert (
        read(store.newest_first()) == read(find(store.path).since(seen)[0]) == kept(store, some)
    )


def removed(store: Store, some: Iterable[Mail]) -> None:
    """Remove *some* from *store*."""
    if isinstance(store, GrowingStore) and not system.CAN_REPLACE_OPEN:
        pytest.skip("Windows replaces no file that is open")
    names = {mail.envelope.id for mail in some}
    store.remove(lambda: (e for e in store.oldest_first() if e.read().envelope.id in names))


@pytest.mark.parametrize("gone", [[0], [4], [1, 2], [0, 2, 4], [0, 1, 2, 3, 4]])
def test_what_is_removed_is_gone_and_all_else_is_as_it_was(
    store: Store, gone: list[int]
) -> None:
    some = mails(*range(5))
    store.add(some)
    there = kept(store, some)
    went = [some[number] for number in gone]
    removed(store, went)
    left = [mail for mail in there if mail not in [each.sealed() for each in went]]
    for reader in (store, find(store.path)):
        assert read(reader.oldest_first()) == left
        assert read(reader.newest_first()) == left[::-1]
    store.add(more := mails(5, 6))
    assert read(find(store.path).oldest_first()) == kept(store, [*left, *more])
    assert not [name for name in tree(Path(store.path).parent) if ".tmp" in name]


@pytest.mark.parametrize("gone", [[0], [3], [2, 3], [0, 1, 2, 3]])
def test_who_has_seen_what_was_there_sees_what_comes_after_a_removal(
    store: Store, gone: list[int]
) -> None:
    some = mails(*range(7))
    store.add(some[:4])
    entries, seen = find(store.path).since(None)
    assert read(entries) == kept(store, some[:4])
    removed(store, [some[number] for number in gone])
    entries, seen = find(store.path).since(seen)
    assert read(entries) == []
    store.add(some[4:6])
    removed(store, some[4:5])
    entries, seen = find(store.path).since(seen)
    assert read(entries) == kept(store, some[5:6])
    store.add(some[6:])
    assert read(find(store.path).since(seen)[0]) == kept(store, some[6:])


def test_to_remove_what_is_not_there_changes_nothing(store: Store) -> None:
    removed(store, mails(1))
    assert not os.path.lexists(store.path)
    store.add(mails(2))
    before, status = tree(Path(store.path).parent), os.stat(store.path)
    removed(store, mails(1))
    assert tree(Path(store.path).parent) == before
    assert os.path.samestat(os.stat(store.path), status)


@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
def test_who_reads_while_some_are_removed_misses_no_other(store: Store, order: str) -> None:
    some = mails(*range(9))
    store.add(some)
    there = read(find(store.path).oldest_first())
    entries: Iterator[Entry] = getattr(find(store.path), order)()
    found = [next(entries).read()]
    removed(store, [there[0], *there[-3:-1]])
    for entry in entries:
        with suppress(GoneError):
            found.append(entry.read())
    names = [mail.envelope.id for mail in found]
    assert len(set(names)) == len(names)
    assert {mail.envelope.id for mail in read(find(store.path).oldest_first())} <= {*names}
    assert all(mail in there for mail in found)


def test_what_holds_a_text_is_found(store: Store) -> None:
    some = mails(1, 2, 3)
    store.add(some)
    wanted = kept(store, some)[0]
    name = wanted.envelope.id.encode()
    assert wanted in read(store.holding(name))


@pytest.mark.parametrize("call", ["open", WRITE])
def test_all_mails_are_added_or_none(
    store: Store, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = mails(1, 2, 3)
    store.add(some[:1])
    before = tree(Path(store.path).parent)

    def fail(*args: object) -> None:
        raise OSError(errno.EIO, "the end")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="the end"):
        patch.setattr(CALLS[call], call, fail)
        if call == "open" and WINDOWS:
            patch.setattr(system, "open_file", fail)
        store.add(some[1:])
    assert tree(Path(store.path).parent) == before
    store.add(some[1:])
    assert read(store.oldest_first()) == kept(store, some)


def test_a_message_that_is_stored_again_is_there_twice(store: Store) -> None:
    some = mails(1)
    store.add(some)
    store.add(some)  # in a folder under another name
    found = read(store.oldest_first())
    assert [mail.content for mail in found] == [mail.content for mail in kept(store, some * 2)]


def test_a_folder_that_is_missing_is_told(kind: type[Store], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .*: create it first"):
        kind(str(tmp_path / "missing" / "store")).check()


def test_a_file_is_no_folder_and_a_folder_no_file(store: Store) -> None:
    if type(store) in FOLDERS:
        Path(store.path).touch()
        with pytest.raises(ValueError, match="is no folder, and this handler keeps one"):
            store.check()
    else:
        Path(store.path).mkdir()
        with pytest.raises(ValueError, match="is a folder: name a file in it"):
            store.check()


def test_the_loop_writes_small_messages_alone(store: Store) -> None:
    assert store.effort(raw_mail(HELLO)) is Effort.SMALL
    assert store.effort(raw_mail(HELLO + b"x" * (1 << 21))) is not Effort.SMALL


def test_what_goes_to_standard_output_is_read_by_nobody(
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = JsonLinesOutput("-")
    output.add(mails(1))
    assert '"subject": "1"' in capfd.readouterr().out
    assert read(output.newest_first()) == []
    assert output.effort(raw_mail(HELLO)) is Effort.LARGE


def test_what_had_no_room_on_standard_output_is_a_line_of_its_own(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = JsonLinesOutput("-")

    def full(fd: int, pieces: list[bytes]) -> int:
        os.write(fd, pieces[0][:99])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(system, "write", full)
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOSPC))):
            output.add(mails(1))
    output.add(mails(2))
    output.add(mails(3))
    torn, *whole = capfd.readouterr().out.splitlines()
    assert len(torn) == 99
    assert [json.loads(line)["subject"] for line in whole] == ["2", "3"]


@pytest.mark.parametrize("kind", GROWING, ids=lambda kind: kind.__name__)
def test_without_patience_a_lock_is_not_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(mails(1))
    monkeypatch.setattr(time, "sleep", pytest.fail)
    lock = flock if isinstance(store, JsonLinesStore) else posix_lock
    with lock(Path(store.path)), pytest.raises(OSError, match="holds the lock"):
        store.add(mails(2), patience=0)
    store.add(mails(3), patience=0)


@pytest.mark.parametrize("kind", GROWING, ids=lambda kind: kind.__name__)
def test_without_patience_what_somebody_else_left_at_the_end_is_not_looked_at(
    kind: type[Store], store: Store
) -> None:
    some = mails(*range(6))
    store.add(some[:1], patience=0)  # nothing is there
    store.add(some[1:2], patience=0)
    kind(store.path).add(some[2:3])
    before = tree(Path(store.path).parent)
    with pytest.raises(BlockingIOError):
        store.add(some[3:4], patience=0)
    assert tree(Path(store.path).parent) == before
    store.add(some[3:4])
    store.add(some[4:], patience=0)
    assert read(store.oldest_first()) == kept(store, some)
