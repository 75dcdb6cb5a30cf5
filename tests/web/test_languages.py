"""The API from other languages: JavaScript with Playwright, and a shell with curl and jq."""

from __future__ import annotations

import html
import os
import shutil
import smtplib
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from chromium import CHROMIUM, Web, catching, deliver
from support import PATIENCE, wait_until
from web.test_api import connections

pytestmark = pytest.mark.slow

pytest.importorskip("starlette")

SIGN_UP = """
const { chromium } = require("playwright-core");
const [app, mail, executablePath] = process.argv.slice(2);

(async () => {
  const browser = await chromium.launch({ executablePath, args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"] });
  const page = await browser.newPage();
  await page.goto(app);
  await page.fill("[name=email]", "bob@example.com");
  await page.click("button");
  const answer = await fetch(`${mail}/api/messages/latest?to=bob@example.com&timeout=30`);
  const message = await answer.json();
  await page.goto(message.links[0]);
  console.log(await page.textContent("h1"));
  await browser.close();
})();
"""

SCRIPT = r"""
set -eu
api=$1/api/messages
newest=$(curl -sf "$api?limit=1" | jq -r '.[0].id // ""')
[ "$(curl -s "$api/latest?after=$newest" | jq .status)" = 404 ]
curl -s "smtp://$2" --mail-from eva@example.com --mail-rcpt bob@example.com -T - <<END
Subject: Reset

Your code is 481516
END
curl -sfG "$api/latest" --data-urlencode "to=bob@example.com" -d "after=$newest" -d timeout=30 |
    jq -r '.codes[0]'
curl -sf -X DELETE "$api"
curl -sf "$api" | jq length
"""


class _App(BaseHTTPRequestHandler):
    """A page to sign up at, which sends a mail with a link to confirm."""

    mail_port = 0

    def do_GET(self) -> None:
        confirmed = self.path.startswith("/confirm?token=")
        self._answer(
            "<h1>Welcome, bob</h1>"
            if confirmed
            else "<form method=post><input name=email><button>Sign up</button></form>"
        )

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        link = f"http://{self.headers['Host']}/confirm?token=4711"
        with smtplib.SMTP("127.0.0.1", self.mail_port) as smtp:
            smtp.sendmail(
                "app@example.com", form["email"], f"Subject: Confirm\r\n\r\n{link}\r\n"
            )
        self._answer(f"<h1>Look into your inbox, {html.escape(form['email'][0])}</h1>")

    def _answer(self, page: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def app() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _App) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_playwright_in_javascript_signs_up(app: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    if not Path(os.environ.get("NODE_PATH", ""), "playwright-core").is_dir():
        pytest.skip("node finds no playwright-core: NODE_PATH says where it is")
    script = tmp_path / "sign_up.js"
    script.write_text(SIGN_UP)
    store = tmp_path / "inbox"
    with catching(store) as catcher, Web(store) as web:
        _App.mail_port = catcher.port
        done = subprocess.run(
            [node, script, app, web.url, CHROMIUM],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert (done.stdout, done.returncode) == ("Welcome, bob\n", 0), done.stderr


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("jq")), reason="curl or jq is missing"
)
def test_a_shell_with_curl_and_jq(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    with catching(store) as catcher, Web(store) as web:
        deliver(catcher, "Subject: old\r\n\r\nYour code is 1111\r\n")
        done = subprocess.run(
            ["sh", "-c", SCRIPT, "sh", web.url, f"{catcher.host}:{catcher.port}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert (done.stdout, done.returncode) == ("481516\n0\n", 0), done.stderr


def test_many_clients_wait_at_the_cost_of_none(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    count = 300
    with catching(store) as catcher, Web(store) as web:
        deliver(catcher, "Subject: warm\r\n\r\n")
        proc = Path(f"/proc/{web.process.pid}")
        if not proc.is_dir():
            pytest.skip("/proc tells what a process costs")
        clients = []
        for number in range(count):
            client = socket.create_connection(("127.0.0.1", web.port))
            request = f"GET /api/messages/latest?to=u{number}@example.com&timeout=60 HTTP/1.1"
            client.sendall(f"{request}\r\nHost: localhost\r\n\r\n".encode())
            clients.append(client)
        wait_until(lambda: connections(web) >= count)
        deliver(catcher, "Subject: yours\r\n\r\n", [f"u{count - 1}@example.com"])
        assert clients[-1].recv(15) == b"HTTP/1.1 200 OK"
        status = (proc / "status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["Threads"]) < 30
        assert int(fields["VmRSS"].split()[0]) < 100 * 1024
        for client in clients:
            client.close()
        wait_until(lambda: connections(web) == 0)
