"""What the command line refuses, before the port opens and before anything is made."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.main import parseargs
from support import HELLO, KINDS, ON_DISK, Kind, Server, tree

import mailhandlers
from mailhandlers import Reply, options, read_messages

MISUSES = {
    "no path": ([], "PATH"),
    "an empty path": ([""], "PATH"),
    "an option for a path": (["sync=no"], "PATH"),
    "two paths": (["mail", "more"], "'more'"),
    "an unknown option": (["mail", "colour=red"], "'colour'.*sync.*mode"),
    "an option without a name": (["mail", "=no"], "sync.*mode"),
    "a bad sync": (["mail", "sync=maybe"], "'sync=maybe'.*yes or no"),
    "an empty sync": (["mail", "sync="], "yes or no"),
    "a mode of letters": (["mail", "mode=rw"], "'mode=rw'.*0600"),
    "a mode that is not octal": (["mail", "mode=0689"], "0600"),
    "a mode without reading": (["mail", "mode=0200"], "0600"),
    "a mode without writing": (["mail", "mode=0400"], "0600"),
    "a mode too large": (["mail", "mode=1777"], "0600"),
    "a negative mode": (["mail", "mode=-600"], "0600"),
    "a missing parent": (["missing/mail"], "missing"),
    "a file for a parent": (["file/mail"], "file"),
}
FOLDER_MISUSES = {"a file": (["file"], "folder"), "a device": (["device"], "folder")}
FILE_MISUSES = {
    "a folder": (["folder"], "is a folder"),
    "a folder with a slash": (["folder/"], "is a folder"),
    "a device": (["device"], "no regular file"),
}
COUNTING = """
import socket

def count(name="", ask=socket.getfqdn):
    print("asked", flush=True)
    return ask(name)

socket.getfqdn = count
"""
CASES = [
    pytest.param(kind, *misuse, id=f"{kind.handler}-{name}")
    for kind in KINDS
    for name, misuse in (MISUSES | (FOLDER_MISUSES if kind.is_folder else FILE_MISUSES)).items()
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with things that can be no store."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    os.mkfifo(tmp_path / "device")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_complaint(errors: str, handler: str, told: str) -> None:
    """Check that *errors* is the usage and one sentence that says what to do."""
    usage, _, complaint = errors.partition(": error: ")
    assert usage.startswith("usage: ")
    assert re.fullmatch(rf"{handler}: [^\n]*{told}[^\n]*\n", complaint)


@pytest.mark.parametrize(("kind", "arguments", "told"), CASES)
def test_a_misuse_ends_in_one_sentence(
    kind: Kind,
    arguments: list[str],
    told: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(os.listdir(place))
    with pytest.raises(SystemExit) as ended:
        parseargs(["-n", "-c", f"mailhandlers.{kind.handler}", "--", *arguments])
    assert ended.value.code == 2
    check_complaint(capsys.readouterr().err, kind.handler, told)
    assert sorted(os.listdir(place)) == before
    assert (place / "file").read_text() == "precious"


@pytest.mark.parametrize(
    ("keywords", "error", "told"),
    [
        ({"sync": "no"}, TypeError, "sync is True or False, not 'no'"),
        ({"sync": 1}, TypeError, "sync is True or False, not 1"),
        ({"sync": None}, TypeError, "sync is True or False"),
        ({"mode": "0644"}, TypeError, "mode is a number such as 0o600, not '0644'"),
        ({"mode": True}, TypeError, "0o600"),
        ({"mode": 0o200}, ValueError, "try mode=0600"),
        ({"auth": True}, TypeError, "auth is any, user:password"),
        ({"auth_required": "yes"}, TypeError, "auth_required is True or False"),
        ({"auth_required": True}, ValueError, "needs auth=any"),
        ({"web": 8026}, TypeError, "web is an address such as '8026', not 8026"),
        ({"web": "localhost"}, ValueError, "web: 'localhost' is no address: write HOST:PORT"),
        ({"web_path": "/mail"}, ValueError, "web_path= needs web=PORT"),
        ({"web_host_names": ["a.example"]}, ValueError, "web_host_name= needs web=PORT"),
        ({"web": "1", "web_host_names": "a.example"}, TypeError, "web_host_names is a list"),
        ({"web": "1", "web_host_names": [1]}, TypeError, "which is no text"),
        ({"web": "1", "web_host_names": ["a b"]}, ValueError, "is no name of a host"),
        ({"web": "1", "web_path": 1}, TypeError, "web_path is a text"),
        ({"web": "1", "web_path": "mail"}, ValueError, "web_path: 'mail' is no path"),
        ({"web": "1", "web_token": 1}, TypeError, "web_token is '@FILE' or"),
        ({"web": "1", "web_token": "secret"}, ValueError, "web_token is @FILE or"),
        ({"web": "1", "web_token": "@missing"}, ValueError, "the file of web_token=@FILE"),
        ({"replies": "RCPT: 550 No"}, TypeError, 'try replies=\\[Reply\\("RCPT"'),
        ({"replies": Reply("RCPT", "550 No")}, TypeError, "is a list of Reply"),
        ({"replies": ["RCPT: 550 No"]}, TypeError, "has 'RCPT: 550 No', which is no Reply"),
        ({"replies": None}, TypeError, "is a list of Reply"),
        ({"delay": "0.5"}, TypeError, "delay is a number of seconds such as 0.5"),
        ({"delay": True}, TypeError, "such as 0.5"),
        ({"delay": float("inf")}, ValueError, "try delay=0.5"),
        ({"rset": True}, TypeError, "rset is 'clear' or None"),
        ({"rset": "yes"}, ValueError, "rset=clear is the one choice"),
        ({"max_line": "10000"}, TypeError, "max_line is a number of octets"),
        ({"max_line": 1000}, ValueError, "1001"),
        ({"loop": 5}, TypeError, "loop is 'uvloop' or None"),
        ({"loop": "trio"}, ValueError, "loop=uvloop is the one choice"),
        ({"colour": "red"}, TypeError, "no option 'colour': choose from sync, mode, .*replies"),
        ({"reply": "x"}, TypeError, "choose from .*replies"),
    ],
)
def test_keywords_are_checked_as_strictly_as_text(
    place: Path, keywords: dict[str, Any], error: type[Exception], told: str
) -> None:
    before = sorted(os.listdir(place))
    with pytest.raises(error, match=told) as caught:
        mailhandlers.MboxSink("mail", **keywords)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(place)) == before


def test_help_shows_every_option(kind: Kind) -> None:
    shown = inspect.signature(getattr(mailhandlers, kind.handler)).parameters
    keywords = dict(options.OPTIONS.values())
    assert list(shown) == ["path", *keywords]
    defaults = options.check()
    for keyword, option in keywords.items():
        assert shown[keyword].kind is inspect.Parameter.KEYWORD_ONLY
        value = getattr(defaults, keyword)
        assert shown[keyword].default == value == option.check(keyword, value)


MISTYPED = """
from mailhandlers import JsonLines, MailFile, MboxSink, Reply

MailFile("x", sync=False, auth="any", replies=[Reply("RCPT", "550 No")], delay=1)
MboxSink("x", sync="no")
JsonLines("x", colour=1)
MailFile("x", True)
"""


@pytest.mark.slow
def test_type_checkers_know_every_option(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "mistyped.py").write_text(MISTYPED)
    # mypy finds an installed package by itself, and refuses to be told of it.
    parent = Path(mailhandlers.__path__[0]).parent
    told = {} if parent.name == "site-packages" else {"MYPYPATH": str(parent)}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "mistyped.py"],
        cwd=tmp_path,
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = re.findall(r"^mistyped.py:(\d+): error", done.stdout, re.MULTILINE)
    assert lines == ["5", "6", "7"], done.stdout + done.stderr


@ON_DISK
def test_the_command_ends_before_the_port_opens(kind: Kind, place: Path) -> None:
    with Server(kind.handler, "mail", "sync=no") as server:
        # The port is taken: a command that came so far would say so.
        listen = ["-l", f"127.0.0.1:{server.port}"]
        command = [sys.executable, "-m", "aiosmtpd", "-n", *listen, "-c"]
        ended = subprocess.run(
            [*command, f"mailhandlers.{kind.handler}", "missing/mail"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert ended.stdout == ""
    check_complaint(ended.stderr, kind.handler, "missing")


@ON_DISK
def test_an_empty_store_is_made_before_the_port_opens(kind: Kind, tmp_path: Path) -> None:
    """Programs that follow a file or a folder can be started when the port is open."""
    store = tmp_path / kind.store
    with Server(kind.handler, store) as server:
        made = tree(tmp_path)
        assert server.stop() == 0
    assert tree(tmp_path) == made
    assert set(made.values()) == {b""}
    folders = ["", "cur/", "new/", "tmp/"] if kind.handler == "MaildirSink" else [""]
    assert [*made] == [
        f"{kind.store}/{name}" if kind.is_folder else kind.store for name in folders
    ]
    assert store.stat().st_mode & 0o777 == (0o700 if kind.is_folder else 0o600)
    assert [*read_messages(store)] == []


@ON_DISK
def test_a_store_that_is_there_is_left_as_it_is(kind: Kind, tmp_path: Path) -> None:
    for content in (HELLO, None):
        with Server(kind.handler, tmp_path / kind.store) as server:
            assert content is None or server.send(content) == "250 OK"
            after = tree(tmp_path)
            assert server.stop() == 0
        assert tree(tmp_path) == after
    assert [m.original_content for m in read_messages(tmp_path / kind.store)] == [HELLO]


@pytest.mark.parametrize("name", ["a=b", "with space", "-dash", "zoë", "%", "mode"])
def test_a_path_may_have_any_name(place: Path, name: str) -> None:
    # A path that begins with a dash needs a folder before it, as in any command.
    with Server("MaildirSink", f"./{name}", "sync=no") as server:
        assert server.send() == "250 OK"
    assert sorted(os.listdir(place)) == sorted(["device", "file", "folder", name])


@ON_DISK
def test_options_come_in_any_order(kind: Kind, tmp_path: Path) -> None:
    with Server(kind.handler, tmp_path / kind.store, "mode=0640", "sync=no") as server:
        assert server.send() == "250 OK"
    assert all(
        path.is_dir() or path.stat().st_mode & 0o777 == 0o640 for path in tmp_path.rglob("*")
    )


@ON_DISK
def test_the_name_of_the_host_is_asked_for_once(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(COUNTING)
    env = {"PYTHONPATH": str(tmp_path)}
    with Server(kind.handler, tmp_path / kind.store, env=env) as server:
        for _ in range(3):
            assert server.send() == "250 OK"
        assert server.output() == b"asked\n"
