"""The page beside a mail server: it has the server's rights, and ends with the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from chromium import BUSY, EVIL, HOOK, busy, get, processor_time, store_directly
from support import (
    PATIENCE,
    Kind,
    Server,
    children_of,
    reserved_port,
    wait_until,
)

pytest.importorskip("fastapi")
import httpx

SERVER = """
import asyncio, os, sys
from mailhandlers.web.beside import Beside

beside = Beside(sys.argv[1], sys.argv[2])
if os.getuid() == 0 and len(sys.argv) > 3:
    os.chroot(sys.argv[3])
    os.setuid(65534)

async def serve():
    asyncio.get_running_loop().add_signal_handler(15, lambda: None)
    print(beside.address, beside.fork(), flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


@contextmanager
def server(
    *arguments: object, script: str = SERVER, stderr: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout
    try:
        address, pid = process.stdout.readline().split()
        yield process, address, int(pid)
    finally:
        process.kill()
        process.wait(PATIENCE)
        process.stdout.close()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A child whose parent died is somebody else's to bury.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("path", BUSY)
def test_it_ends_with_the_server_whatever_it_is_doing(
    tmp_path: Path, path: str, number: signal.Signals
) -> None:
    store_directly(tmp_path / "inbox", HOOK)
    endless = "from mailhandlers.web import parameters\nparameters._MATCHING_SECONDS = 1e9\n"
    listen = "127.0.0.1:0"
    with server(tmp_path / "inbox", listen, script=endless + SERVER) as running:
        process, address, pid = running
        with busy(address, path, pid):
            process.send_signal(number)
            process.wait(PATIENCE)
            wait_until(lambda: is_gone(pid))


def test_its_end_leaves_the_server_alone(tmp_path: Path) -> None:
    with server(tmp_path / "inbox", "127.0.0.1:0") as (process, _, pid):
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: is_gone(pid))
        assert process.poll() is None


def test_an_error_of_its_own_is_logged_and_leaves_the_server_alone(tmp_path: Path) -> None:
    broken = SERVER.replace("async def", "beside._site.run = lambda: 1 / 0\n\nasync def", 1)
    listen = "127.0.0.1:0"
    with server(tmp_path / "inbox", listen, script=broken, stderr=subprocess.PIPE) as running:
        process, _, pid = running
        wait_until(lambda: is_gone(pid))
        assert process.poll() is None
        process.kill()
        assert process.stderr
        with process.stderr as log:
            told = log.read()
    assert "the page ends" in told
    assert "ZeroDivisionError" in told


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_it_answers_where_it_may_read_nothing_but_the_store(open_folder: Path) -> None:
    # Python's own files are out of reach, as in a virtual environment below /root.
    listen = "127.0.0.1:0"
    mail = (
        b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nContent-Type: text/html\r\n\r\n<b>hi</b>\r\n"
    )
    with server("/inbox", listen, open_folder) as (_, address, pid):
        status = Path(f"/proc/{pid}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534\n" in status
        name = store_directly(open_folder / "inbox", mail)
        for path in open_folder.rglob("*"):
            path.chmod(0o777)
        paths = [
            *("", f"messages/{name}", f"messages/{name}?view=links", "static/style.css"),
            *("static/page.js", "api/messages", f"api/messages/{name}/html", "?q=hello"),
            *(
                "api/openapi.json",
                "api/messages/latest?timeout=1",
                "rows",
                f"rows?after={name}",
            ),
        ]
        answers = {path: get(address + path).status_code for path in paths}
        assert set(answers.values()) == {200}, answers
        assert get(f"{address}api/messages?limit=x").status_code == 422
        assert get(f"{address}messages/nobody").status_code == 404
        assert get(f"{address}api/messages/latest?to=a&timeout=0.1").status_code == 404
        with httpx.stream("GET", f"{address}arrivals", timeout=PATIENCE) as events:
            assert events.status_code == 200


def test_the_command_shows_its_store(kind: Kind, store: Path) -> None:
    reservation, port = reserved_port()
    with reservation, Server(kind.handler, store, f"web={port}") as running:
        assert running.send() == "250 OK"
        page = f"http://localhost:{port}"
        assert running.errors() == f"{store} is shown at {page}/\n"
        (record,) = get(f"{page}/api/messages").json()
        assert record["subject"] == "hello"
        children = children_of(running)
        running.kill()
        wait_until(lambda: all(map(is_gone, children)))
    assert len(children) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_page_ends_with_the_command(tmp_path: Path, number: signal.Signals) -> None:
    store = tmp_path / "inbox"
    reservation, port = reserved_port()
    with reservation, Server("MaildirSink", store, f"web={port}") as running:
        store_directly(store, HOOK)
        url = f"http://127.0.0.1:{port}"
        params = {"matching": EVIL}
        assert httpx.get(f"{url}/api/messages", params=params, timeout=300).status_code == 422
        children = children_of(running)
        page = max(children, key=processor_time)
        with ExitStack() as requests:
            for path in reversed(BUSY):  # the pattern, which has a second, at last
                requests.enter_context(busy(url, path, page))
            os.kill(running.process.pid, number)
            wait_until(lambda: all(map(is_gone, children)))


@pytest.mark.parametrize(
    ("web", "told"),
    [("web=a:b:c", "is no address"), ("web=nobody.invalid:1", "take another port")],
)
def test_an_address_that_can_not_be_is_one_sentence(
    web: str, told: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "aiosmtpd", "-n", "-c", "mailhandlers.MailFile"]
    ended = subprocess.run(
        [*command, str(tmp_path / "mail"), web], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert told in ended.stderr.splitlines()[-1]
