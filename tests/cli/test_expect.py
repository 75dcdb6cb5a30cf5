"""``mailhandlers expect``: mail that a command sends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from shell import COMMAND, mail, put, shell
from support import PATIENCE, Kind, Process, Server, wait_until

SENDING = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", {port}) as client:
    client.sendmail("eva@example.com", ["{to}"], "Subject: {subject}\\n\\nCode 4711.\\n")
print("sent")
"""


def sending(server: Server, to: str = "bob@example.com", subject: str = "new") -> Sequence[str]:
    """Return a command that sends a message."""
    script = SENDING.format(port=server.port, to=to, subject=subject)
    return [sys.executable, "-c", script]


def test_mail_that_the_command_sends_is_shown(kind: Kind, store: Path, server: Server) -> None:
    assert server.send(b"Subject: old\r\n\r\nCode 1234.\r\n") == "250 OK"
    to = ["--to", "bob@example.com"]
    ran = shell("expect", store, *to, "--print", "codes", "--", *sending(server))
    # What the command prints would stand between the codes.
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "4711\n", "sent\n")


def test_mail_from_before_does_not_count(kind: Kind, store: Path) -> None:
    put(kind.handler, store, mail("old"))
    ran = shell("expect", store, "--timeout", "0.05", "--", "true")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"no new message in {store}, in 0.05 s; no other came\n"


def test_what_came_instead_is_told(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    with Server("MaildirSink", store) as server:
        arguments = ["--to", "carol@x.test", "--timeout", "0.05"]
        ran = shell("expect", store, *arguments, "--", *sending(server))
    assert ran.returncode == 1
    assert ran.stderr == (
        f"sent\nno new message in {store} with to='carol@x.test', in 0.05 s; "
        "the nearest misses:\n  to bob@example.com: 'new'\n"
    )


def test_exactly_so_many_are_expected(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    with Server("MaildirSink", store) as server:
        one, two = (shlex.join(sending(server, subject=text)) for text in ("one", "two"))
        both = ["--print", "headers", "--", "sh", "-c", f"{one}; {two}"]
        ran = shell("expect", store, "--exactly", "2", *both)
        assert ran.returncode == 0
        assert re.findall("Subject: (.*)", ran.stdout) == ["one", "two"]
        ran = shell("expect", store, "--exactly", "1", *both)
    assert (ran.returncode, ran.stdout) == (1, "")
    told = "another message came where exactly one was expected: to bob@example.com: 'two'"
    assert ran.stderr == f"sent\nsent\n{told}\n"


def test_a_store_of_one_message_and_a_number_that_is_none_are_misuse(tmp_path: Path) -> None:
    store = tmp_path / "latest.mail"
    with Server("MailFile", store) as server:
        ran = shell("expect", store, "--exactly", "1", "--", *sending(server))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "latest.mail keeps the latest message alone" in ran.stderr
    for text in ("0", "-1", "two", "²"):
        ran = shell("expect", store, "--exactly", text, "--", "true")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "is no number of messages" in ran.stderr


@pytest.mark.parametrize("arrives", [False, True])
def test_a_command_that_fails_gives_its_status(arrives: bool, tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    with Server("MaildirSink", store) as server:
        send = shlex.join(sending(server)) if arrives else "true"
        command = ["sh", "-c", f"{send}; exit 7"]
        ran = shell("expect", store, "--", *command)
    assert (ran.returncode, ran.stdout) == (7, "")
    *_, told = ran.stderr.splitlines()
    came = "a message came to bob@example.com: 'new'" if arrives else "no message came"
    assert told == f"mailhandlers: sh failed with exit status 7, and {came}"


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        (["./missing"], 127, "./missing was not found (127)"),
        (["./data"], 126, "./data could not be run (126)"),
        (["sh", "-c", "kill -9 $$"], 137, "was ended by SIGKILL (137)"),
        (["sh", "-c", "exit 200"], 200, "failed with exit status 200"),
    ],
)
def test_a_command_that_can_do_nothing(
    command: list[str],
    status: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").write_text("no program")
    ran = shell("expect", "inbox", "--", *command)
    assert ran.returncode == status
    assert f"{told}, and no message came" in ran.stderr


def test_without_a_command_mail_counts_from_now_on(kind: Kind, store: Path) -> None:
    put(kind.handler, store, mail("old"))
    arguments = ["expect", str(store), "--print", "headers"]
    with Process[bytes]([*COMMAND, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None

        # When it has begun nobody can tell: one message after the other, until it ends.
        def ends() -> bool:
            put(kind.handler, store, mail("new"))
            return process.poll() is not None

        wait_until(ends)
        assert b"Subject: new\n" in process.stdout.read()
        assert process.returncode == 0


def test_arguments_of_the_command_are_its_own(tmp_path: Path) -> None:
    script = "import sys; print(sys.argv[1:])"
    arguments = ["--timeout", "x", "--", "--help"]
    command = [sys.executable, "-c", script, *arguments]
    ran = shell("expect", tmp_path / "inbox", "--timeout", "0", "--", *command)
    assert ran.stderr.startswith(f"{arguments}\n")


def test_ctrl_c_waits_for_the_command(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    # No shell: what one is starting when the signal comes may miss it.
    command = """
import pathlib, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
pathlib.Path("on").touch()
signal.sigwait({signal.SIGINT})
pathlib.Path("go").read_text()
pathlib.Path("tidy").write_text("tidy\\n")
"""
    with Process[bytes](
        [*COMMAND, "expect", "inbox", "--", sys.executable, "-c", command],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        wait_until((tmp_path / "on").exists)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        with (tmp_path / "go").open("w") as go:  # the command tidies up
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            go.write("go\n")
        assert process.wait(PATIENCE) == 130
        assert (tmp_path / "tidy").read_text() == "tidy\n"
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
