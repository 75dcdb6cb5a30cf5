"""What the kernel was asked for before the reply: strace tells."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support import HELLO, JSON_LINES, MBOX, Kind, Server, contents


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    """The beginning of a command that records system calls in ``trace``."""
    calls = "fsync,fdatasync,rename,renameat,renameat2,link,linkat,sendto,write,writev,mmap"
    command = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={calls}"]
    if shutil.which("strace") is None:
        pytest.skip("strace is not here")
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    return command


def last_reply(trace: str) -> list[str]:
    """Return the calls that ended between the last 354 and the reply after it, in order."""
    sent = trace[trace.rindex('"354 ') :].partition('"250 OK')[0]
    ended = re.findall(
        r"(?:\d+ +|<\.\.\. )(\w+)(?:\(| resumed)[^\n]*\) += \d+$", sent, re.MULTILINE
    )
    return ["show" if call.startswith(("link", "rename")) else call for call in ended]


def test_a_message_is_on_disk_before_the_reply(
    kind: Kind, store: Path, strace: list[str], tmp_path: Path
) -> None:
    with Server(kind.handler, store, prefix=strace) as server:
        for _ in range(2):
            assert server.send().startswith("250")
            steps = last_reply((tmp_path / "trace").read_text())
            remaining = iter(steps)
            # Written, on disk, under its final name, and that on disk as well.
            grows = kind in (MBOX, JSON_LINES)
            wanted = ["writev", "fsync"] if grows else ["writev", "fsync", "show", "fsync"]
            assert all(step in remaining for step in wanted), steps


def test_without_sync_no_disk_is_waited_for(
    kind: Kind, store: Path, strace: list[str], tmp_path: Path
) -> None:
    with Server(kind.handler, store, "sync=no", prefix=strace) as server:
        assert server.send().startswith("250")
        assert "fsync" not in last_reply((tmp_path / "trace").read_text())
    assert contents(store) == [HELLO]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is a habit of glibc")
@pytest.mark.parametrize("kind", [MBOX], ids=["MboxSink"])
def test_the_command_maps_no_memory_to_read(
    store: Path, strace: list[str], tmp_path: Path
) -> None:
    with Server("MboxSink", store, prefix=strace) as server:
        assert server.send() == "250 OK"
        before = len((tmp_path / "trace").read_text())
        assert server.send() == "250 OK"
        trace = (tmp_path / "trace").read_text()[before:]
    assert "sendto" in trace
    assert not re.search(r"mmap\(NULL, 26\d{4},", trace)  # 256 KiB, as asyncio asks for
