"""The page behind nginx and Caddy, by the files of the guide "The page behind a proxy"."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

pytest.importorskip("docutils", reason="docutils reads the pages")
pytest.importorskip("starlette")
import httpx
from chromium import Web, browser, store_directly
from markup import Block, sections
from support import HOST, PATIENCE, reserved_port, wait_until

__all__ = ["browser"]

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "docs/how-to/proxy.rst"
NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {recipe}
}}
"""
NAMES = {"name": ("mail.example.com", ""), "path": ("example.com", "/mail")}
OPTIONS = {
    "name": ["--host-name", "mail.example.com"],
    "path": ["--host-name", "example.com", "--path", "/mail"],
}


def recipe(name: str, page: int) -> str:
    blocks = [block for section in sections(GUIDE) for block in section.blocks]
    text = blocks[blocks.index(Block("comment", f"file: {name}")) + 1].text
    return text.replace(":8026", f":{page}")


def program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@contextmanager
def proxy(name: str, kind: str, page: int, folder: Path, edit: Any = str) -> Iterator[int]:
    """Run nginx or Caddy; yield its port."""
    path = program(name)
    reservation, port = reserved_port()
    if name == "nginx":
        text = recipe(f"nginx-{kind}.conf", page).replace(
            "listen 80;", f"listen {HOST}:{port};"
        )
        user = "" if os.getuid() else "user root;"
        text = NGINX.format(folder=folder, user=user, recipe=edit(text))
        config = folder / "nginx.conf"
        command = [path, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
    else:
        text = recipe(f"Caddyfile-{kind}", page)
        # By its own name it would ask for a certificate.
        text = re.sub(r"^(\S+) \{", rf"http://\1:{port} {{\n    bind {HOST}", text, count=1)
        text = "{\n    admin off\n}\n" + edit(text)
        config = folder / "Caddyfile"
        command = [path, "run", "--config", str(config), "--adapter", "caddyfile"]
    config.write_text(text)
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    environment |= {"XDG_DATA_HOME": str(folder)}
    with reservation, (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            wait_until(lambda: answers(process, port, folder))
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)


def answers(process: subprocess.Popen[bytes], port: int, folder: Path) -> bool:
    assert process.poll() is None, (folder / "output").read_text()
    try:
        httpx.get(f"http://{HOST}:{port}/", timeout=PATIENCE)
    except httpx.TransportError:
        return False
    return True


def addresses(page: str, url: str) -> set[str]:
    """Return the addresses on a page, as a browser resolves them."""
    found = re.search(r'<base href="([^"]*)">', page)
    assert found
    base = urljoin(url, found[1])
    links = re.findall(r'(?<!<base )(?:src|href)="([^"]*)"', page)
    return {urljoin(base, link.replace("&amp;", "&")) for link in links}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_all_is_there_behind_a_proxy(name: str, kind: str, tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    one, two = (store_directly(store, b"Subject: %d\r\n\r\nhi\r\n" % n) for n in (1, 2))
    host, path = NAMES[kind]
    with (
        Web(store, "127.0.0.1:0", *OPTIONS[kind]) as web,
        proxy(name, kind, web.port, tmp_path) as port,
        httpx.Client(headers={"Host": f"{host}:{port}"}, timeout=PATIENCE) as client,
    ):
        root = f"http://{HOST}:{port}{path}/"
        seen, todo = set(), {root}
        while todo:
            url = todo.pop()
            seen.add(url)
            answer = client.get(url)
            assert answer.status_code == 200, url
            if answer.headers["content-type"].startswith("text/html") and "/api/" not in url:
                todo |= {a for a in addresses(answer.text, url) if a.startswith("http:")} - seen
        assert {f"{root}messages/{one}", f"{root}messages/{two}?view=source"} <= seen
        assert f"{root}static/page.js" in seen
        assert all(url.startswith(root) for url in seen)

        last = {"Last-Event-ID": two}
        with client.stream("GET", f"{root}api/events", headers=last) as events:
            lines = events.iter_lines()
            store_directly(store, b"Subject: three\r\n\r\n")
            assert any("three" in line for line in lines if line.startswith("data: "))

        for origin, status in (
            ("https://evil.example", 403),
            (f"http://{host}:{port}", 303),
        ):
            answer = client.post(f"{root}clear", headers={"Origin": origin})
            assert answer.status_code == status
        assert urljoin(f"{root}clear", answer.headers["location"]) == root
        assert client.get(f"{root}api/messages").json() == []


TAKEN_AWAY = {
    "nginx": lambda text: re.sub(r"(proxy_pass \S+);", r"\1/;", text),
    "caddy": lambda text: re.sub(
        r"reverse_proxy /mail\* (\S+)", r"handle_path /mail/* {\n reverse_proxy \1\n }", text
    ),
}


@pytest.mark.parametrize("name", TAKEN_AWAY)
def test_a_proxy_takes_the_path_away(name: str, tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    store_directly(store, b"Subject: 1\r\n\r\nhi\r\n")
    with (
        Web(store, "127.0.0.1:0", "--host-name", "example.com") as web,
        proxy(name, "path", web.port, tmp_path, TAKEN_AWAY[name]) as port,
        httpx.Client(headers={"Host": f"example.com:{port}"}, timeout=PATIENCE) as client,
    ):
        root = f"http://{HOST}:{port}/mail/"
        page = client.get(root)
        for url in addresses(page.text, root):
            assert client.get(url).status_code == 200, url


def test_in_a_browser(browser: Any, tmp_path: Path) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    store = tmp_path / "inbox"
    token = tmp_path / "token"
    token.write_text("a-token-that-stays\n")
    name = store_directly(
        store, b"Content-Type: text/html\r\nSubject: 1\r\n\r\n<h1>hi</h1>\r\n"
    )
    more = [*OPTIONS["path"], "--token", f"@{token}"]
    for number in range(60):
        store_directly(store, b"Subject: Letter %d\r\n\r\n" % number)
    with (
        Web(store, "127.0.0.1:0", *more) as web,
        proxy(
            "nginx", "path", web.port, tmp_path, lambda text: text.replace("example.com;", "_;")
        ) as port,
    ):
        assert "a-token" not in web.line
        root = f"http://localhost:{port}/mail/"
        context = browser.new_context(
            http_credentials={"username": "eva", "password": "a-token-that-stays"}
        )
        page = context.new_page()
        page.goto(root)
        page.wait_for_selector("html.live")
        page.locator(".older a").scroll_into_view_if_needed()
        expect(page.locator(".row")).to_have_count(61)
        store_directly(store, b"Subject: Fresh\r\n\r\n")
        page.wait_for_selector("text=Fresh")
        page.goto(f"{root}messages/{name}")
        frame = page.frame_locator("iframe")
        frame.get_by_role("heading", name="hi").wait_for()
        page.locator("[data-view=source]").click()
        page.wait_for_url(f"{root}messages/{name}?view=source")
        page.locator(".back").click()
        page.wait_for_url(root)
        page.get_by_text("Delete all…").click()
        page.locator("button.danger").click()
        page.wait_for_selector("text=No mail yet")
        context.close()
