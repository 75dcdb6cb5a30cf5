"""What the server may not do: stores it can't write, and rights it must not keep."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from load import Senders
from support import FAILED, HELLO, Kind, Server, contents, expected, tree

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


def test_no_permission_is_451_until_it_is_given(kind: Kind, store: Path) -> None:
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere")
    prefix = UNPRIVILEGED if os.getuid() == 0 else []
    with Server(kind.handler, store, prefix=prefix) as server:
        with read_only(store.parent):
            assert server.send().startswith(FAILED)
            assert tree(store.parent) == {}
        assert server.send().startswith("250")
        before = tree(store.parent)
        with read_only(store.parent):
            assert server.send(to=["new@x", "bob@example.com"]).startswith(FAILED)
            assert tree(store.parent) == before
        assert server.send().startswith("250")
        assert server.errors().count("Permission denied") == 2
        assert "Traceback" not in server.errors()
    assert contents(store) == expected(kind, HELLO, HELLO)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_nobody_owns_what_arrived_under_load(kind: Kind, open_folder: Path) -> None:
    store = open_folder / kind.store
    with Server(kind.handler, store, flags=()) as server:
        senders = Senders([server.port] * 6, "x", most=10)
        senders.join()
    assert len(senders.acknowledged) == 60
    owners = {path.stat().st_uid for path in [store, *store.rglob("*")]}
    assert owners.isdisjoint({0})
