"""Many senders and several servers, and kill -9 under load."""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from load import Senders, names_of_whole, numbered
from support import KEEP_ALL, Kind, Server, writer_of

from mailhandlers import read_latest

ROUNDS = 8


def test_kill_9_under_load_loses_nothing_acknowledged_and_tears_nothing(
    kind: Kind, store: Path
) -> None:
    acknowledged: set[str] = set()
    attempted: set[str] = set()
    for number in range(ROUNDS):
        with Server(kind.handler, store) as server:
            senders = Senders([server.port] * 6, str(number))
            enough = random.Random(number).randrange(5, 60)
            while len(senders.acknowledged) < enough:
                names_of_whole(store)
                assert not senders.finished
            assert writer_of(server)
            server.kill()
            senders.join()
        assert senders.refusals == []
        acknowledged.update(senders.acknowledged)
        attempted.update(senders.attempted)
        found = Counter(names_of_whole(store))
        assert set(found.values()) <= {1}
        assert set(found) <= attempted
        assert not kind.keeps_all or acknowledged <= set(found)
    with Server(kind.handler, store) as server:
        assert server.send(numbered("last")).startswith("250")
    assert names_of_whole(store)[-1] == "last"
    assert not kind.keeps_all or acknowledged <= set(names_of_whole(store))


@KEEP_ALL
def test_three_servers_share_a_store(kind: Kind, store: Path) -> None:
    with (
        Server(kind.handler, store) as one,
        Server(kind.handler, store) as two,
        Server(kind.handler, store) as three,
    ):
        senders = Senders([one.port, two.port, three.port] * 2, "x", most=25)
        while not senders.finished:
            names = names_of_whole(store)
            assert len(names) == len(set(names))
        senders.join()
        assert [writer_of(server) for server in (one, two, three)]
    assert len(senders.acknowledged) == 150
    assert sorted(names_of_whole(store)) == sorted(senders.acknowledged)
    if kind.handler == "PerRecipientDir":
        latest = read_latest(store, to="bob@example.com")
        pointed = (store / "bob@example.com" / "latest.eml").read_bytes()
        assert latest.envelope is not None
        assert latest.envelope.to_json().encode() in re.sub(rb"\n[ \t]", b" ", pointed)


OURS = "1763714880.M123456P4242Q000001.laptop"


@pytest.mark.parametrize(
    ("handler", "folder", "name"),
    [
        ("MailFile", ".", f".{OURS}.tmp"),
        ("MailFile", ".", f".{OURS}.tmp.previous"),
        ("MaildirSink", "store/tmp", OURS),
        ("PerRecipientDir", "store", f".{OURS}.tmp"),
    ],
)
def test_what_a_killed_server_left_long_ago_is_swept(
    handler: str, folder: str, name: str, tmp_path: Path
) -> None:
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    long_ago = time.time() - 40 * 60 * 60
    others = [".hidden", "1.foreign", ".vimrc.tmp", f"{OURS}x:2,S", f"new{name}"]
    for other in [name, *others]:
        (place / other).touch()
        os.utime(place / other, (long_ago, long_ago))
    fresh = name.replace("4242", "4243")
    (place / fresh).touch()
    with Server(handler, tmp_path / "store") as server:
        assert server.send() == "250 OK"
    assert not (place / name).exists()
    assert {fresh, *others} <= set(os.listdir(place))
