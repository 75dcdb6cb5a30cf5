"""The page beside a mail server: it has the server's rights, and ends with the server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from chromium import BUSY, EVIL, HOOK, busy, get, processor_time, store_directly
from support import (
    IS_ROOT,
    PATIENCE,
    WINDOWS,
    Kind,
    Server,
    children_of,
    reserved_port,
    wait_until,
)

pytest.importorskip("starlette")
import httpx

from mailhandlers.disk import system
from mailhandlers.web.process import PageProcess
from mailhandlers.web.settings import WebSettings

MAIN = "import sys; from mailhandlers.web.process import main; main(*sys.argv[1:])"
ENDLESS = "from mailhandlers.web import query; query._MATCHING_SECONDS = 1e9\n"
LOCKED = """
import os
setuid = os.setuid
os.setuid = lambda user: (os.chroot({folder!r}), setuid(user))
"""
OWN = system.rights()
NOBODY = {"groups": [], "gid": 65534, "uid": 65534}


@contextmanager
def page_process(
    store: object, before: str = "", rights: object = OWN
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the process as the command would; its standard input is open as a server lives."""
    command = [sys.executable, "-c", before + MAIN, str(store)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            print(json.dumps({"listen": "127.0.0.1:0"}), file=process.stdin, flush=True)
            address = json.loads(process.stdout.readline())["address"]
            print(json.dumps(rights), file=process.stdin, flush=True)
            assert process.stdout.readline() == "{}\n"
            yield process, address
        finally:
            process.kill()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A child whose parent died is somebody else's to bury.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
@pytest.mark.parametrize("path", BUSY)
def test_it_ends_with_the_server_whatever_it_is_doing(tmp_path: Path, path: str) -> None:
    store_directly(tmp_path / "inbox", HOOK)
    with (
        page_process(tmp_path / "inbox", ENDLESS) as (process, address),
        busy(address, path, process.pid),
    ):
        assert process.stdin
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("told", ["", '{"listen": "127.0.0.1:0"}\n'])
def test_a_server_that_ends_before_it_gives_its_rights(tmp_path: Path, told: str) -> None:
    command = [sys.executable, "-c", MAIN, str(tmp_path / "inbox")]
    ended = subprocess.run(
        command, input=told, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert ended.returncode == 0
    assert ended.stderr == ""


@pytest.mark.skipif(not IS_ROOT, reason="only root can become nobody")
def test_it_answers_where_it_may_read_nothing_but_the_store(open_folder: Path) -> None:
    # Python's own files are out of reach, as in a virtual environment below /root.
    mail = (
        b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nContent-Type: text/html\r\n\r\n<b>hi</b>\r\n"
    )
    locked = LOCKED.format(folder=str(open_folder))
    with page_process("/inbox", locked, NOBODY) as (process, address):
        status = Path(f"/proc/{process.pid}/status").read_text()
        for name in ("Uid", "Gid"):
            assert f"{name}:\t65534\t65534\t65534\t65534\n" in status
        assert "Groups:\t \n" in status
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
        assert get(f"{address}api/messages?matching=hi").status_code == 200
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
        running.kill()
        wait_until(lambda: is_shut(port), 10)  # which takes less than one


def is_shut(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_its_end_leaves_the_command_alone(tmp_path: Path) -> None:
    reservation, port = reserved_port()
    with reservation, Server("MaildirSink", tmp_path / "inbox", f"web={port}") as running:
        [page] = children_of(running)
        os.kill(page, signal.SIGTERM)
        wait_until(lambda: is_gone(page))
        assert running.send() == "250 OK"


@pytest.mark.posix
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_the_page_ends_with_the_command(tmp_path: Path, name: str) -> None:
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
            os.kill(running.process.pid, signal.Signals[name])
            wait_until(lambda: all(map(is_gone, children)))


def refusal(store: Path, web: str, environment: dict[str, str] | None = None) -> str:
    """Return the sentence with which the command ends; it never comes to its own port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", listen]
        ended = subprocess.run(
            [*command, "-c", "mailhandlers.MailFile", str(store), f"web={web}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env=environment,
        )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


def test_an_address_that_can_not_be_is_one_sentence(tmp_path: Path) -> None:
    assert "'a:b:c' is no address: write HOST:PORT" in refusal(tmp_path / "mail", "a:b:c")
    assert "take another port" in refusal(tmp_path / "mail", "nobody.invalid:1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        web = f"127.0.0.1:{taken.getsockname()[1]}"
        told = refusal(tmp_path / "mail", web)
        assert WINDOWS or "Address already in use" in told
        assert told.endswith(": take another port")


def test_the_page_has_a_token_that_no_argument_shows(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-that-stays\n")
    reservation, port = reserved_port()
    options = [
        f"web={port}",
        "web_path=/mail",
        "web_host_name=a.example",
        "web_host_name=b.test",
    ]
    token = f"web_token=@{tmp_path}/token"
    with (
        reservation,
        Server("MaildirSink", tmp_path / "inbox", *options, token) as running,
    ):
        page = f"http://127.0.0.1:{port}/mail"
        [child] = children_of(running)
        for name in ("cmdline", "environ"):
            assert b"a-token-that" not in Path(f"/proc/{child}/{name}").read_bytes()
        assert get(f"{page}/").status_code == 401
        answer = get(f"{page}/api/messages", auth=("eva", "a-token-that-stays"))
        assert (answer.status_code, answer.json()) == (200, [])
        assert get(f"{page}/api/health").json() == {"status": "ok"}
        assert f"shown at http://localhost:{port}/mail/\n" in running.errors()


def test_a_page_without_a_token_answers_to_its_names(tmp_path: Path) -> None:
    reservation, port = reserved_port()
    options = [f"web={port}", "web_host_name=a.example", "web_host_name=b.test"]
    with reservation, Server("MaildirSink", tmp_path / "inbox", *options):
        for host, status in [("a.example", 200), ("b.test:80", 200), ("c.example", 421)]:
            answer = get(f"http://127.0.0.1:{port}/", headers={"Host": host})
            assert answer.status_code == status


def test_packages_that_are_missing_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('uvicorn')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    told = refusal(tmp_path / "mail", "0", environment)
    assert told.endswith("web= needs more packages: pip install 'mailhandlers[web]'")


def test_a_process_that_fails_is_one_sentence_behind_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "uvicorn.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="web=0: the process of the page has failed"):
        PageProcess(str(tmp_path / "inbox"), WebSettings("0"))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_the_command_ends_where_the_page_can_not_take_its_rights(tmp_path: Path) -> None:
    page = PageProcess(str(tmp_path / "inbox"), WebSettings("127.0.0.1:0"))
    with page._process as process:
        process.kill()
        process.wait(PATIENCE)
        with pytest.raises(SystemExit, match="the process of the page has failed"):
            page.take_rights()


def test_nothing_is_imported_from_the_working_folder(tmp_path: Path) -> None:
    # Others may write there, and the command may be root. "python -m" would look there, too.
    for name in ("json", "uvicorn", "starlette"):
        (tmp_path / f"{name}.py").write_text("open('imported', 'w')")
    script = "import sys; sys.path.remove(''); from aiosmtpd.main import main; main()"
    reservation, port = reserved_port()
    with reservation:
        command = [sys.executable, "-c", script, "-n", "-c", "mailhandlers.MailFile"]
        ended = subprocess.run(
            [*command, "mail", f"web={port}", "-l", "nobody.invalid:1"],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            timeout=PATIENCE,
        )
    assert b"can't listen at nobody.invalid:1" in ended.stderr
    assert not (tmp_path / "imported").exists()
