"""Links that somebody else planted, in a folder that others may write."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import HELLO, IS_ROOT, KINDS, Kind, tree
from test_envelope import EXAMPLE

import mailhandlers
from mailhandlers import Inbox, MailFile, PerRecipientDir, read_latest
from mailhandlers.mail import Mail

ONE = [Mail(replace(EXAMPLE, size=len(HELLO)), HELLO)]
GROWING = [kind for kind in KINDS if kind.handler in ("MboxSink", "JsonLines")]
FOLDERS = [kind for kind in KINDS if kind.is_folder]
growing = pytest.mark.parametrize("kind", GROWING, ids=lambda kind: kind.handler)
folders = pytest.mark.parametrize("kind", FOLDERS, ids=lambda kind: kind.handler)


def made(kind: Kind, store: Path) -> Any:
    return getattr(mailhandlers, kind.handler)(store)


@pytest.fixture
def somebody() -> Iterator[int]:
    """Another user, who is neither this one nor root."""
    if not IS_ROOT:
        pytest.skip("only root can make links of other users")
    yield 65534


def plant(link: Path, target: Path | str, user: int) -> None:
    link.symlink_to(target)
    os.lchown(link, user, user)


@growing
def test_mail_is_not_appended_through_the_link_of_another_user(
    kind: Kind, store: Path, tmp_path: Path, somebody: int
) -> None:
    victim = tmp_path / "victim"
    handler = made(kind, store)
    plant(store, victim, somebody)
    with pytest.raises(PermissionError, match="a link that another user made"):
        handler._store.add(ONE)
    assert not victim.exists()
    made(kind, victim)._store.add(ONE)
    before = victim.read_bytes()
    with pytest.raises(PermissionError, match="a link that another user made"):
        handler._store.add(ONE)
    with pytest.raises(ValueError, match="a link that another user made"):
        made(kind, store)
    with pytest.raises(PermissionError, match="a link that another user made"):
        handler.reset()
    assert victim.read_bytes() == before


@pytest.mark.posix
@growing
def test_mail_is_appended_through_a_link_of_our_own(
    kind: Kind, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    store.symlink_to("../first")
    (tmp_path / "first").symlink_to(tmp_path / "deep" / "second")
    for _ in range(2):  # where nothing is, and where something is
        made(kind, store)._store.add(ONE)
    assert store.is_symlink()
    assert len(Inbox(tmp_path / "deep" / "second")) == 2


@pytest.mark.posix
@growing
def test_where_a_link_leads_the_disk_has_the_name_before_the_reply(
    kind: Kind, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    store.symlink_to(deep / "file")
    fsync, synced = os.fsync, set()

    def note(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    made(kind, store)._store.add(ONE)
    assert deep.stat().st_ino in synced


@pytest.mark.posix
@growing
def test_a_message_that_is_refused_takes_its_file_away_and_no_link_to_it(
    kind: Kind, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.symlink_to(tmp_path / "file")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOSPC))):
            made(kind, store)._store.add(ONE)
    assert store.is_symlink()
    assert not store.exists()
    made(kind, store)._store.add(ONE)
    assert len(Inbox(tmp_path / "file")) == 1


@pytest.mark.posix
@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_at_the_path_of_the_latest_mail_is_what_is_replaced(
    tmp_path: Path, is_there: bool
) -> None:
    link, target = tmp_path / "latest.mail", tmp_path / "target"
    if is_there:
        MailFile(target)._store.add(ONE)
    before = tree(tmp_path)
    link.symlink_to(target)
    store = MailFile(link)._store
    store.check()
    store.prepare()
    assert link.is_symlink()
    if is_there:  # nothing is written to where it leads
        target.write_bytes(b"precious")
        before = before | {"target": b"precious"}
    store.add(ONE)
    assert not link.is_symlink()
    assert read_latest(link)["Subject"] == "hello"
    link.unlink()
    assert tree(tmp_path) == before


@growing
def test_a_file_with_a_second_name_is_refused(kind: Kind, store: Path, tmp_path: Path) -> None:
    handler = made(kind, store)
    handler._store.add(ONE)
    before = store.read_bytes()
    (tmp_path / "second").hardlink_to(store)
    with pytest.raises(OSError, match="a second name"):
        handler._store.add(ONE)
    with pytest.raises(ValueError, match="a second name"):
        made(kind, store)
    assert store.read_bytes() == before


@pytest.mark.posix
@growing
def test_a_link_to_itself_is_no_endless_way(kind: Kind, store: Path) -> None:
    handler = made(kind, store)
    store.symlink_to(store.name)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        handler._store.add(ONE)


@folders
@pytest.mark.parametrize("inner", [False, True], ids=["the store", "a folder in it"])
def test_mail_is_not_delivered_into_a_folder_linked_by_another_user(
    kind: Kind, store: Path, tmp_path: Path, somebody: int, inner: bool
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious.eml").touch()
    handler = made(kind, store)
    link = store
    if inner:
        store.mkdir()
        link = store / ("new" if kind.handler == "MaildirSink" else "bob@example.com")
    plant(link, theirs, somebody)
    with pytest.raises(PermissionError, match="a link that another user made"):
        handler._store.add(ONE)
    assert os.listdir(theirs) == ["precious.eml"]
    if inner:
        for empty in (handler.reset, lambda: Inbox(store).clear(where=bool)):
            with pytest.raises(PermissionError, match="a link that another user made"):
                empty()
        assert os.listdir(theirs) == ["precious.eml"]
        link.unlink()
        link.symlink_to(theirs)
        handler._store.add(ONE)
        assert len(os.listdir(theirs)) > 1


# latest.eml


def test_a_file_called_latest_is_kept_and_makes_way(tmp_path: Path) -> None:
    folder = tmp_path / "people" / "bob@example.com"
    folder.mkdir(parents=True)
    (folder / "latest.eml").write_bytes(b"Subject: precious\n\n")
    PerRecipientDir(tmp_path / "people")._store.add(ONE)
    assert read_latest(folder / "latest.eml").original_content == HELLO
    kept = [path for path in folder.iterdir() if path.name.startswith("latest.eml.")]
    assert [path.read_bytes() for path in kept] == [b"Subject: precious\n\n"]
    assert len(Inbox(folder)) == 1


@pytest.mark.posix
@pytest.mark.parametrize("target", ["zzz", "/etc/passwd", "9999999999.M1P1Q1.gone.eml"])
def test_a_link_that_is_not_ours_moves(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "people" / "bob@example.com"
    folder.mkdir(parents=True)
    (folder / "latest.eml").symlink_to(target)
    PerRecipientDir(tmp_path / "people")._store.add(ONE)
    assert read_latest(folder / "latest.eml").original_content == HELLO


@pytest.mark.posix  # Windows syncs no folder
def test_a_file_called_latest_is_back_where_the_message_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "people" / "bob@example.com"
    folder.mkdir(parents=True)
    (folder / "latest.eml").write_bytes(b"precious")

    def broken(fd: int) -> None:
        if os.path.isdir(f"/dev/fd/{fd}"):
            raise OSError(5, "the end")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="the end"):
        PerRecipientDir(tmp_path / "people")._store.add(ONE)
    assert os.listdir(folder) == ["latest.eml"]
    assert (folder / "latest.eml").read_bytes() == b"precious"


def test_a_reset_takes_messages_alone(tmp_path: Path) -> None:
    store = tmp_path / "people"
    handler = PerRecipientDir(store)
    handler._store.add(ONE)
    (store / "photos").mkdir()
    (store / "photos" / "precious.jpg").touch()
    handler.reset()
    assert not any(store.rglob("*.eml"))
    assert os.listdir(store / "photos") == ["precious.jpg"]


@pytest.mark.parametrize(
    "name", ["../../evil", "a/b", ".hidden", "", "a\0b", "latest", "x" * 300]
)
def test_what_a_message_claims_for_its_id_leads_nowhere(
    kind: Kind, store: Path, tmp_path: Path, name: str
) -> None:
    handler = made(kind, store)
    claims = ONE[0]._replace(envelope=replace(ONE[0].envelope, id=name))
    handler.store_all([claims])
    assert [m.original_content for m in Inbox(store)] == [HELLO]
    assert [path.name for path in tmp_path.iterdir()] == [store.parent.name]
    assert [path.name for path in store.parent.iterdir()] == [store.name]
