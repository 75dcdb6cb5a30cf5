"""The fixture, in pytest runs of their own."""

from __future__ import annotations

import re
import smtplib
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import KINDS, PATIENCE, run_pytest, wait_until

from mailhandlers import Inbox, MailCatcher, MaildirSink

SEND = """
import gc, os, smtplib, socket, threading, time, warnings
import pytest
from mailhandlers import Inbox

def send(mailcatcher, subject="hello", to="bob@example.com"):
    with smtplib.SMTP(mailcatcher.host, mailcatcher.port) as client:
        client.sendmail("eva@example.com", [to], f"Subject: {subject}\\r\\n\\r\\nHi\\r\\n")
"""


def run(folder: Path, code: str, *args: str) -> str:
    """Run a test module with warnings as errors; return what pytest says."""
    (folder / "test_it.py").write_text(SEND + code)
    return run_pytest(folder, *args, "test_it.py")


def test_the_fixture_is_an_inbox_with_a_server(mailcatcher: MailCatcher) -> None:
    assert isinstance(mailcatcher, Inbox)
    assert isinstance(mailcatcher.handler, MaildirSink)
    assert mailcatcher.host == "127.0.0.1"
    assert mailcatcher.port > 0
    assert list(mailcatcher) == []
    with smtplib.SMTP(mailcatcher.host, mailcatcher.port) as client:
        for to in ("bob@example.com", "carol@example.com"):
            with mailcatcher.expect(to=to, timeout=PATIENCE) as expected:
                client.sendmail("eva@example.com", [to], "Subject: s\r\n\r\nHi\r\n")
            assert expected.message.envelope
    assert len(mailcatcher) == 2
    mailcatcher.handler.reset()
    assert len(mailcatcher) == 0


def test_the_store_is_in_tmp_path(mailcatcher: MailCatcher, tmp_path: Path) -> None:
    assert Path(mailcatcher.path).parent == tmp_path


def test_every_handler_can_be_chosen(tmp_path: Path) -> None:
    code = ""
    for kind in KINDS:
        code += f"""
@pytest.mark.mailcatcher({kind.handler!r})
def test_{kind.handler}(mailcatcher):
    assert type(mailcatcher.handler).__name__ == {kind.handler!r}
    send(mailcatcher)
    assert mailcatcher.latest()["Subject"] == "hello"
"""
    assert " 5 passed" in run(tmp_path, code)


@pytest.mark.posix
def test_options_of_the_ini_file_and_of_markers(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmailcatcher = JsonLines mode=0640\n")
    code = """
def mode(mailcatcher):
    send(mailcatcher)
    return os.stat(mailcatcher.path).st_mode & 0o777, type(mailcatcher.handler).__name__

def test_ini(mailcatcher):
    assert mode(mailcatcher) == (0o640, "JsonLines")

@pytest.mark.mailcatcher("mode=0644")
def test_option(mailcatcher):
    assert mode(mailcatcher) == (0o644, "JsonLines")

@pytest.mark.mailcatcher(mode=0o604)
def test_keyword(mailcatcher):
    assert mode(mailcatcher) == (0o604, "JsonLines")

@pytest.mark.mailcatcher("MboxSink")
def test_handler(mailcatcher):
    assert mode(mailcatcher) == (0o600, "MboxSink")
"""
    assert " 4 passed" in run(tmp_path, code, "--strict-markers")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ("NoSink", "mailcatcher: there is no handler 'NoSink': choose from MailFile, Maildir"),
        (
            "JsonLines speed=1",
            "mailcatcher: there is no option 'speed': choose from sync, mode",
        ),
    ],
)
def test_misuse_is_told_in_a_sentence(tmp_path: Path, choice: str, text: str) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmailcatcher = {choice}\n")
    told = run(tmp_path, "def test_x(mailcatcher): pass")
    assert text in told
    assert "Traceback" not in told
    assert "pytest_plugin.py" not in told


LEAVES_NOTHING = """
def state():
    gc.collect()
    return threading.active_count(), len(os.listdir("/dev/fd"))

before = []
left = []
KINDS = ["MailFile", "MaildirSink", "MboxSink", "JsonLines", "PerRecipientDir"]
DATA = b"EHLO x\\r\\nMAIL FROM:<a@b>\\r\\nRCPT TO:<a@b>\\r\\nDATA\\r\\n"

def test_first(mailcatcher):
    send(mailcatcher)  # the thread of all servers stays until the session ends

def test_before():
    before.append(state())

@pytest.mark.parametrize("times", range(3))
@pytest.mark.parametrize("handler", KINDS)
def test_nothing(request, handler, times):
    request.applymarker(pytest.mark.mailcatcher(handler))
    mailcatcher = request.getfixturevalue("mailcatcher")
    for _ in range(times):
        send(mailcatcher)

def test_lazy(mailcatcher):
    client = socket.create_connection((mailcatcher.host, mailcatcher.port))
    client.recv(1000)
    client.sendall(DATA + b"Subject: half")
    client.recv(1000)
    left.append(client)

def test_hung_up(mailcatcher):
    left.pop().close()
    with socket.create_connection((mailcatcher.host, mailcatcher.port)) as client:
        client.recv(1000)
        client.sendall(DATA)
        client.sendall(b"Subject: unread\\r\\n\\r\\n.\\r\\n")

def test_failing_expectation(mailcatcher):
    with pytest.raises(LookupError), mailcatcher.expect(timeout=0.01):
        pass

def test_after():
    deadline = time.monotonic() + 60
    while [state()] != before and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread that ends
    assert [state()] == before
"""


@pytest.mark.posix
def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    told = run(tmp_path, LEAVES_NOTHING)
    assert " 21 passed" in told, told
    assert "Warning" not in told
    assert "Task was destroyed" not in told


@pytest.mark.slow
def test_each_worker_of_xdist_has_its_own(tmp_path: Path) -> None:
    code = """
@pytest.mark.parametrize("number", range(16))
def test_own(mailcatcher, number):
    send(mailcatcher, f"mail {number}")
    assert [m["Subject"] for m in mailcatcher] == [f"mail {number}"]
"""
    pytest.importorskip("xdist")
    assert " 16 passed" in run(tmp_path, code, "-n", "2")


def test_two_servers_in_one_test(tmp_path: Path) -> None:
    catchers = [MailCatcher(MaildirSink(tmp_path / name, sync=False)) for name in "ab"]
    threads = threading.active_count()
    for catcher in catchers:
        catcher.start()
    assert catchers[0].port != catchers[1].port
    for catcher in catchers:
        catcher.stop()
    wait_until(lambda: threading.active_count() == threads)


def test_the_package_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import mailhandlers; print('fine')"
    command = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.check_output(command, text=True) == "fine\n"


def test_the_fixture_is_in_the_list(tmp_path: Path) -> None:
    told = run(tmp_path, "", "--fixtures", "--markers")
    assert re.search(r"@pytest\.mark\.mailcatcher\(\*args", told)
    told = run(tmp_path, "", "--fixtures")
    assert re.search(r"^mailcatcher\b", told, re.MULTILINE)
