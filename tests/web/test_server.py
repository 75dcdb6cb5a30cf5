"""The server of the page: a request that never ends is closed, an answer is not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chromium import HOOK, store_directly
from support import PATIENCE

pytest.importorskip("starlette")
import httpx

from mailhandlers.web import server
from mailhandlers.web.settings import WebSettings


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store_directly(tmp_path / "inbox", HOOK)
    return tmp_path / "inbox"


@contextmanager
def serving_here(store: Path) -> Iterator[int]:
    """Serve in a thread; yield the port."""
    site = server.Site(store, WebSettings("127.0.0.1:0"))
    running = threading.Thread(target=site.run)
    running.start()
    try:
        yield site.sockets[0].getsockname()[1]
    finally:
        site.server.should_exit = True
        running.join(PATIENCE)


NEVER_ENDING = {
    "nothing": b"",
    "part of a line": b"GET /",
    "headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    "body": b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
    "second": b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n",
}


@pytest.mark.parametrize("drips", [False, True])
@pytest.mark.parametrize("begun", NEVER_ENDING)
def test_a_request_that_never_ends_is_closed(
    store: Path, monkeypatch: pytest.MonkeyPatch, begun: str, drips: bool
) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.3)
    with serving_here(store) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(NEVER_ENDING[begun])
        client.settimeout(0.02 if drips else PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if not client.recv(1 << 16):
                    return
                continue
            except TimeoutError:
                assert drips, "it stayed open"
            except ConnectionResetError:
                return
            try:
                client.sendall(b"x")
            except OSError:
                return
        pytest.fail("it stayed open")


def test_what_is_being_answered_stays_open(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.3)
    with serving_here(store) as port:
        url = f"http://127.0.0.1:{port}"
        with httpx.stream("GET", f"{url}/api/events", timeout=PATIENCE) as events:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as later:
                assert later.recv(1) == b""
            store_directly(store, b"Subject: new\r\n\r\n")
            assert any("new" in line for line in events.iter_lines() if line[:5] == "data:")
