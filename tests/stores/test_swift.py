"""A distributed object store, of which one node is killed and comes back under load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import object_stores
import pytest
from load import Senders, numbered
from support import PATIENCE, Process, Server, wait_until

from mailhandlers import Inbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # a minute or two

_PROGRAMS = ("swift-proxy-server", "swift-object-server", "memcached")
_SENDERS = 2  # for each server


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Three nodes of Swift; what is returned tells them to be killed, started or repaired."""
    for name in _PROGRAMS:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not here: Debian's packages swift-* and memcached have it")
    script = Path(__file__).parents[1] / "swift-nodes"

    def tell(what: str, *arguments: str) -> None:
        subprocess.run(["bash", script, what, tmp_path / "swift", *arguments], check=True)

    tell("start")
    try:
        # As the script has them, for nobody but who can reach this machine's loopback.
        environment = object_stores.aws("http://127.0.0.1:18080", "test:tester", "testing")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        object_stores.make_bucket(environment, "mail")
        yield tell
    finally:
        tell("stop")


class Reader:
    """A process that follows a store from its start, and what it was told."""

    def __init__(self, store: str, output: Path, *criteria: str) -> None:
        self._output = output
        command = [sys.executable, "-m", "mailhandlers", "follow", store, "--from-start"]
        with output.open("wb") as file:
            self.process = Process[bytes](
                [*command, "--json", *criteria],
                stdout=file,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def records(self) -> list[dict[str, str]]:
        lines = self._output.read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def names(self) -> Counter[str]:
        assert self.process.poll() is None, "the reader ended"
        return Counter(record["subject"] for record in self.records())


def test_a_node_is_killed_and_comes_back(nodes: Callable[..., None], tmp_path: Path) -> None:
    store = "s3://mail/staging"
    with ExitStack() as stack:
        servers = [stack.enter_context(Server("BucketSink", store)) for _ in range(3)]
        everybody = Reader(store, tmp_path / "everybody")
        one_person = Reader(store, tmp_path / "one", "--to", "user1@x")
        for reader in (everybody, one_person):
            stack.callback(reader.process.wait)
            stack.callback(reader.process.kill)
        acknowledged: list[str] = []
        attempted: list[str] = []
        refusals: list[str] = []
        for what in ("whole", "without", "back"):
            if what == "without":
                nodes("kill", "2")
            elif what == "back":
                nodes("node", "2")
            ports = [server.port for server in servers] * _SENDERS
            senders = Senders(ports, what, most=12)
            senders.join()
            acknowledged += senders.acknowledged
            attempted += senders.attempted
            refusals += senders.refusals
        listed_before = len(list(Inbox(store)))
        nodes("repair")
        started = time.monotonic()
        # Messages to three in turn: a name ends with its number.
        his = {name for name in acknowledged if int(name.rpartition("-")[2]) % 3 == 1}
        wait_until(lambda: everybody.names().keys() >= {*acknowledged}, PATIENCE * 2)
        wait_until(lambda: one_person.names().keys() >= his, PATIENCE * 2)
        late = time.monotonic() - started
        found = [message.original_content for message in Inbox(store)]
        seen = [everybody.names(), one_person.names()]
        records = everybody.records() + one_person.records()

    torn = [r for r in records if r["raw"].encode() != numbered(r["subject"])]
    twice = [name for names in seen for name, times in names.items() if times > 1]
    lost = [name for name in acknowledged if numbered(name) not in found]
    print(
        f"{len(attempted)} sent, {len(acknowledged)} acknowledged, {len(refusals)} refused; "
        f"{listed_before} listed before the repair; readers had all {late:.1f} s after it; "
        f"{len(lost)} lost, {len(twice)} twice, {len(torn)} torn, {len(found)} there"
    )
    assert (lost, twice, torn) == ([], [], [])
    assert len(found) == len(set(found))
    assert {*seen[0]} <= {*attempted}
    assert {*seen[1]} <= {name for name in attempted if int(name.rpartition("-")[2]) % 3 == 1}
    assert len(acknowledged) >= len(attempted) * 0.9
