"""What the kernel was asked for before the reply: strace tells."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from faulty import Disk
from support import HELLO, JSON_LINES, MBOX, Kind, contents


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    """The beginning of a command that records system calls in ``trace``."""
    # -D: the process that the test starts is the server, not strace.
    calls = "fsync,fdatasync,rename,renameat,renameat2,link,linkat,sendto,write,writev"
    command = [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        str(tmp_path / "trace"),
        "-e",
        f"trace={calls}",
    ]
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    return command


class Call(NamedTuple):
    """A system call that ended well: whose it was (a thread's or a process's), and which."""

    caller: int
    name: str


def calls(trace: str) -> list[Call]:
    """Return the calls that ended in *trace*, in order."""
    ended = re.findall(
        r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed).*\) += \d+$", trace, re.MULTILINE
    )
    return [
        Call(int(caller), "show" if name.startswith(("link", "rename")) else name)
        for caller, name in ended
    ]


def replies(trace: str) -> list[str]:
    """Return what was done since the last 354 in parts: until each 250, and after all."""
    return re.split(r".*, \"250 OK.*\n", trace[trace.rindex('"354 ') :])


def contains(steps: Sequence[str], wanted: Sequence[str]) -> bool:
    """Tell whether *wanted* are among *steps*, in this order."""
    remaining = iter(steps)
    return all(step in remaining for step in wanted)


def test_a_message_is_on_disk_before_the_reply(
    kind: Kind, store: Path, disk: Disk, strace: list[str], tmp_path: Path
) -> None:
    with disk.serving(kind, store, prefix=strace) as server:
        for _ in range(2):
            assert server.send() == "250 OK"
            done = calls(replies((tmp_path / "trace").read_text())[0])
            # Written, on disk, under its final name, and that on disk as well.
            grows = kind in (MBOX, JSON_LINES)
            wanted = ["writev", "fsync"] if grows else ["writev", "fsync", "show", "fsync"]
            writers = {call.caller for call in done if call.name == "fsync"}
            assert server.process.pid not in writers  # the event loop waits for no disk
            steps = [call.name for call in done if call.caller in writers]
            assert contains(steps, wanted), steps


def test_a_batch_is_on_disk_before_its_first_reply(
    kind: Kind, store: Path, disk: Disk, strace: list[str], tmp_path: Path
) -> None:
    with disk.serving(kind, store, prefix=strace) as server:
        clients = [server.client() for _ in range(4)]
        with disk.stopped():
            for number, client in enumerate(clients, 1):
                client.submit(to=[f"user{number}@x"])
                disk.wait_for_messages(number)
                disk.wait_for_writer()
        assert [client.reply() for client in clients] == ["250 OK"] * 4
        _, batch, *others = map(calls, replies((tmp_path / "trace").read_text()))
    assert not {"fsync", "show"} & {call.name for call in itertools.chain(*others[:2])}
    flushing = {call.caller for call in batch if call.name == "fsync"}  # maybe in threads
    writing = {call.caller for call in batch if call.name == "writev"}
    assert server.process.pid not in flushing | writing
    steps = [call.name for call in batch if call.caller in flushing | writing]
    if kind in (MBOX, JSON_LINES):  # one flush for all
        assert [step for step in steps if step in ("writev", "fsync")] == ["writev", "fsync"]
    elif kind.keeps_all:
        each = [[step] * 3 for step in ("writev", "fsync", "show")]
        assert contains(steps, [*itertools.chain(*each), "fsync"]), steps
    else:  # nobody could look before the last
        assert contains(steps, ["writev", "fsync", "show", "fsync"]), steps


def test_without_sync_no_disk_is_waited_for(
    kind: Kind, store: Path, disk: Disk, strace: list[str], tmp_path: Path
) -> None:
    with disk.serving(kind, store, "sync=no", prefix=strace) as server:
        assert server.send() == "250 OK"
        done = {call.name for call in calls((tmp_path / "trace").read_text())}
    assert "writev" in done
    assert "fsync" not in done
    assert contents(store) == [HELLO]
