"""Many senders and several servers, and kill -9 under load."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from faulty import in_a_process
from load import Senders, names_of_whole, numbered
from support import KEEP_ALL, ON_DISK, Kind, Server, contents, made
from test_envelope import EXAMPLE

from mailhandlers import read_latest
from mailhandlers.mail import Mail

pytestmark = pytest.mark.slow  # real faults, real load: half a minute

ROUNDS = 8


@pytest.mark.slow
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
@pytest.mark.slow
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
    assert len(senders.acknowledged) == 150
    assert sorted(names_of_whole(store)) == sorted(senders.acknowledged)
    if kind.handler == "PerRecipientDir":
        latest = read_latest(store, to="bob@example.com")
        pointed = (store / "bob@example.com" / "latest.eml").read_bytes()
        assert latest.envelope is not None
        assert latest.envelope.to_json().encode() in re.sub(rb"\n[ \t]", b" ", pointed)


def mail(name: str) -> Mail:
    content = f"Subject: {name}\r\n\r\nHello\r\n".encode()
    rcpt_tos = ["bob@example.com", "carol@example.com"]
    return Mail(replace(EXAMPLE, size=len(content), rcpt_tos=rcpt_tos), content).renamed()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@ON_DISK
def test_a_kill_at_any_call_is_mended_at_the_next_start(kind: Kind, store: Path) -> None:
    first, second, third = map(mail, ["first", "second", "third"])

    def start_and_store(one: Mail) -> None:
        handler = made(kind, store)
        handler._store.prepare()
        handler._store.add([one])

    for number in itertools.count(1):
        in_a_process(lambda: start_and_store(first))
        if not in_a_process(lambda: start_and_store(second), killed_at=number):
            break
        found = contents(store)
        assert found in ([first.content], [second.content], [first.content, second.content])
        assert kind.keeps_all <= (first.content in found)
        in_a_process(lambda: start_and_store(third))
        left = found if kind.keeps_all else []
        assert contents(store) == [*left, third.content]
        assert not os.path.lexists(f"{store}.lock")
        shutil.rmtree(store.parent)
        store.parent.mkdir()
    assert number > 20


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
