"""What the server may not do: stores it can't write, and rights it must not keep."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty import Disk
from load import Senders
from support import (
    FAILED,
    HELLO,
    HOST,
    ON_DISK,
    PATIENCE,
    Kind,
    Server,
    children_of,
    contents,
    expected,
    reserved_port,
    tree,
)

# Root may write anywhere, but for this.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take away the permission to write from *folder* and all that is in it."""
    paths = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    yield
    for path, mode in modes.items():
        path.chmod(mode)


ROOT_ALONE = pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")


@pytest.fixture
def unprivileged() -> list[str]:
    """The beginning of a command that may not write everywhere, as root may."""
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere")
    return UNPRIVILEGED if os.getuid() == 0 else []


def test_no_permission_is_451_until_it_is_given(
    kind: Kind, store: Path, disk: Disk, unprivileged: list[str]
) -> None:
    with disk.serving(kind, store, prefix=unprivileged) as server:
        before = tree(store.parent)
        with read_only(store.parent):
            assert server.send().startswith(FAILED)
            assert tree(store.parent) == before
        assert server.send().startswith("250")
        before = tree(store.parent)
        with read_only(store.parent):
            assert server.send(to=["new@x", "bob@example.com"]).startswith(FAILED)
            assert tree(store.parent) == before
        assert server.send().startswith("250")
        assert server.errors().count("Permission denied") == 2
        assert "Traceback" not in server.errors()
    assert contents(store) == expected(kind, HELLO, HELLO)


def check_refusal(kind: Kind, store: Path, prefix: Sequence[str], *flags: str) -> None:
    """Check that the command ends in one sentence about *store*, and never listened."""
    before = tree(store.parent)
    with socket.create_server((HOST, 0)) as taken:
        # A command that came so far as to listen there would say that it can't.
        command = [*prefix, sys.executable, "-m", "aiosmtpd", *flags]
        command += ["-l", f"{HOST}:{taken.getsockname()[1]}"]
        ended = subprocess.run(
            [*command, "-c", f"mailhandlers.{kind.handler}", store],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    sentence = (
        rf"aiosmtpd: {store.parent}(/{store.name}\S*)?: Permission denied: name a path .*\n"
    )
    assert re.fullmatch(sentence, ended.stderr)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert tree(store.parent) == before


@ROOT_ALONE
@ON_DISK
def test_root_learns_at_the_start_what_nobody_may_not_write(
    kind: Kind, open_folder: Path
) -> None:
    open_folder.chmod(0o755)
    check_refusal(kind, open_folder / kind.store, [])


def test_the_command_ends_where_no_store_can_be_made(
    kind: Kind, store: Path, unprivileged: list[str]
) -> None:
    with read_only(store.parent):
        check_refusal(kind, store, unprivileged, "-n")


def test_the_command_ends_where_the_store_may_not_be_written(
    kind: Kind, store: Path, unprivileged: list[str]
) -> None:
    with Server(kind.handler, store) as server:
        assert server.send() == "250 OK"
    with read_only(store.parent):
        check_refusal(kind, store, unprivileged, "-n")


@ROOT_ALONE
@ON_DISK
def test_no_process_of_ours_stays_root(kind: Kind, open_folder: Path) -> None:
    with Server(kind.handler, open_folder / kind.store, flags=()) as server:
        assert children_of(server) == []
        Senders([server.port] * 6, "x", most=10).join()
        for status in Path(f"/proc/{server.process.pid}/task").glob("*/status"):
            [users] = re.findall(r"^Uid:\t(.*)$", status.read_text(), re.MULTILINE)
            assert {*users.split()} == {str(pwd.getpwnam("nobody").pw_uid)}


@ROOT_ALONE
def test_the_page_has_the_rights_of_the_server(open_folder: Path) -> None:
    pytest.importorskip("starlette")
    reservation, port = reserved_port()
    store = open_folder / "inbox"
    with reservation, Server("MaildirSink", store, f"web={port}", flags=()) as server:
        processes = [server.process.pid, *children_of(server)]
        tasks = [task for pid in processes for task in Path(f"/proc/{pid}/task").iterdir()]
        rights = {
            tuple(re.findall(r"^(?:Uid|Gid|Groups|Cap\w+):.*$", status, re.MULTILINE))
            for status in ((task / "status").read_text() for task in tasks)
        }
        assert len(rights) == 1
        nobody = pwd.getpwnam("nobody").pw_uid
        assert f"Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}" in rights.pop()


@ROOT_ALONE
@ON_DISK
def test_nobody_owns_what_arrived_under_load(kind: Kind, open_folder: Path) -> None:
    store = open_folder / kind.store
    with Server(kind.handler, store, flags=()) as server:
        senders = Senders([server.port] * 6, "x", most=10)
        senders.join()
    assert len(senders.acknowledged) == 60
    owners = {path.stat().st_uid for path in [store, *store.rglob("*")]}
    assert owners.isdisjoint({0})
