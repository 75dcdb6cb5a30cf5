"""``mailhandlers web`` called wrongly, or where it can't be done."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from chromium import BUSY, HOOK, EndlessWeb, Web, busy, get, store_directly

pytest.importorskip("starlette")

from mailhandlers.cli.main import main


@pytest.mark.parametrize(
    "listen",
    ["", "localhost", "localhost:", "localhost:99999", "a:b:1", "http://x:1", "a..b:1"],
)
def test_no_address(tmp_path: Path, listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["web", str(tmp_path / "inbox"), "--listen", listen])
    assert ended.value.code == 2
    assert f"{listen!r} is no address: write HOST:PORT" in capsys.readouterr().err


def test_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").write_text("these are my notes\n")
    assert main(["web", str(tmp_path / "notes")]) == 1
    assert "no mail file, mbox or JSON Lines" in capsys.readouterr().err


def test_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["web", str(tmp_path / "inbox"), "--listen", listen]) == 1
    assert "in use" in capsys.readouterr().err


def test_a_host_that_nobody_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["web", str(tmp_path / "inbox"), "--listen", "nobody.invalid:1"]) == 1
    assert capsys.readouterr().err.startswith("mailhandlers: nobody.invalid:1: ")


MISUSE = [
    (["--token", "a-token-in-clear"], "others see a command's arguments"),
    (["--token", "@missing"], "the file of --token=@FILE can't be read (No such file"),
    (["--token", "$NO_SUCH_NAME"], "export it as the token"),
    (["--token", "@short"], "--token: a token has 8 to 200"),
    (["--path", "mail"], "'mail' is no path of an address"),
    (["--path", "/mail?x=1"], "is no path of an address"),
    (["--path", "//evil.example"], "is no path of an address"),
    (["--host-name", "https://mail.example.com"], "is no name of a host"),
    (["--host-name", "mail.example.com:80"], "is no name of a host"),
    (["--via", "localhost:25"], "--via and --redirect-to go together"),
    (["--redirect-to", "a@x"], "--via and --redirect-to go together"),
    (["--user", "eva:1234567"], "--user and --tls are for the server of --via"),
    (["--tls", "starttls"], "--user and --tls are for the server of --via"),
    (["--via", "localhost", "--redirect-to", "a@x"], "'localhost' is no address"),
    (["--host-name", ""], "'' is no name of a host"),
]


@pytest.mark.parametrize(("arguments", "why"), MISUSE)
def test_misuse(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("1234567\n")
    with pytest.raises(SystemExit) as ended:
        main(["web", "inbox", "--listen", "127.0.0.1:0", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert why in said
    assert "1234567" not in said


def test_a_token_that_stays(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-that-stays\nof two lines\n")
    more = ["--token", f"@{tmp_path}/token", "--host-name", "[::1]", "--path", "/a/b/"]
    with Web(tmp_path / "inbox", "127.0.0.1:0", *more) as web:
        assert web.address == f"http://127.0.0.1:{web.port}/a/b/"
        for headers, status in [
            ({}, 401),
            ({"Authorization": "Bearer a-token-that-stay"}, 401),
            ({"Authorization": "Bearer a-token-that-stays"}, 200),
        ]:
            answer = get(f"{web.url}/api/messages", headers=headers)
            assert answer.status_code == status


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("path", BUSY)
def test_it_ends_whatever_it_is_doing(
    tmp_path: Path, path: str, number: signal.Signals
) -> None:
    store_directly(tmp_path / "inbox", HOOK)
    with EndlessWeb(tmp_path / "inbox") as web, busy(web.url, path, web.process.pid):
        assert web.stop(number) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", web.port), timeout=1)
