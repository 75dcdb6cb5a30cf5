"""The commands that wait: expect for mail that a command sends, ready for a server."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from shell import COMMAND, Shell, mail, put, shell
from support import HOST, PATIENCE, Kind, Process, Server, reserved_port, wait_until

from mailhandlers.cli.waiting import ready

# Those of POSIX run commands such as true and sh.

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


@pytest.mark.posix
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


@pytest.mark.posix
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
    assert ran.stderr == f"sent\nsent\nmailhandlers: {told}\n"


@pytest.mark.posix
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


@pytest.mark.posix
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


@pytest.mark.posix
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
    with Process([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        # When it has begun nobody can tell: one message after the other, until it ends.
        def ends() -> bool:
            put(kind.handler, store, mail("new"))
            return process.poll() is not None

        wait_until(ends)
        assert "Subject: new\n" in process.stdout.read()
        assert process.returncode == 0


@pytest.mark.posix
def test_no_such_mail_may_arrive(tmp_path: Path) -> None:
    store = tmp_path / "inbox"
    put("MaildirSink", store, mail("old", to=["carol@x.test"]))
    with Server("MaildirSink", store) as server:
        none = ["expect", str(store), "--none", "--timeout", "0", "--to"]
        ran = shell(*none, "carol@x.test", "--", *sending(server))
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "sent\n")
        ran = shell(*none, "bob@example.com", "--", *sending(server))
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr == (
            "sent\nmailhandlers: a message came where none was expected: "
            "to bob@example.com: 'new'\n"
        )
        ran = shell(*none, "carol@x.test", "--", "false")  # which could send nothing
        assert ran.returncode == 1
        assert "false failed with exit status 1, and no message came" in ran.stderr


def test_arguments_of_the_command_are_its_own(tmp_path: Path) -> None:
    script = "import sys; print(sys.argv[1:])"
    arguments = ["--timeout", "x", "--", "--help"]
    command = [sys.executable, "-c", script, *arguments]
    ran = shell("expect", tmp_path / "inbox", "--timeout", "0", "--", *command)
    assert ran.stderr.startswith(f"{arguments}\n")


@pytest.mark.posix
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


SLEEPING = [sys.executable, "-c", "input()"]


@contextmanager
def saying(greeting: bytes | None) -> Iterator[int]:
    """A port where every client is told *greeting*; None is silence."""
    with socket.create_server((HOST, 0)) as server:
        held = []

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                if greeting is None:
                    held.append(client)
                else:
                    client.sendall(greeting)
                    client.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        with suppress(OSError):  # on Windows the close is enough, and this is none
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
        for client in held:
            client.close()


def test_a_server_that_answers(tmp_path: Path, shell_here: Shell) -> None:
    with Server("MaildirSink", tmp_path / "inbox") as server:
        for form in ("{}", ":{}", "127.0.0.1:{}", "localhost:{}"):
            ready = shell_here(
                "ready", form.format(server.port), "--pid", str(server.process.pid)
            )
            assert (ready.returncode, ready.stdout, ready.stderr) == (0, "", ""), form


def test_a_server_that_takes_its_time(tmp_path: Path) -> None:
    reservation, port = reserved_port()
    command = [*COMMAND, "ready", f"{HOST}:{port}", "--timeout", "60"]
    with reservation, Process(command) as waiting:
        arguments = [
            *("-m", "aiosmtpd", "-n", "-l", f"{HOST}:{port}"),
            *("-c", "mailhandlers.MaildirSink", str(tmp_path / "inbox")),
        ]
        with Process([sys.executable, *arguments]) as server:
            assert waiting.wait(PATIENCE) == 0
            server.kill()


@pytest.mark.parametrize(
    ("greeting", "told"),
    [
        (None, "the server at {} sends no greeting"),
        (b"", "the server at {} hangs up without a greeting"),
        (
            b"HTTP/1.1 400 \x1b[2J\r\n",
            r"the server at {} says 'HTTP/1.1 400 \\x1b[2J': "
            "a mail server would begin with 220",
        ),
        (b"554 no\r\n", "the server at {} says '554 no': a mail server would begin with 220"),
    ],
)
def test_a_server_that_is_none(greeting: bytes | None, told: str, shell_here: Shell) -> None:
    with saying(greeting) as port:
        address = f"{HOST}:{port}"
        ready = shell_here("ready", address, "--timeout", "0.2")
    assert (ready.returncode, ready.stdout) == (1, "")
    assert ready.stderr == f"mailhandlers: {told.format(address)} (waited 0.2 s)\n"


@pytest.mark.posix
def test_a_server_that_breaks_the_connection() -> None:
    with socket.create_server((HOST, 0)) as server:

        def reset() -> None:
            client, _ = server.accept()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

        thread = threading.Thread(target=reset)
        thread.start()
        address = f"{HOST}:{server.getsockname()[1]}"
        ready = shell("ready", address, "--timeout", "0")
        thread.join()
    assert ready.returncode == 1
    assert f"the server at {address} can't be reached: Connection reset by peer" in ready.stderr


@pytest.mark.parametrize(
    ("host", "told"),
    [
        (HOST, "no server listens at 127.0.0.1:{}"),
        ("nowhere.invalid", "nobody here knows an address of 'nowhere.invalid'"),
        ("[::1]", "no server listens at [::1]:{}|can't be reached"),
    ],
)
def test_no_server(host: str, told: str, shell_here: Shell) -> None:
    reservation, port = reserved_port()
    with reservation:
        ready = shell_here("ready", f"{host}:{port}", "--timeout", "0.1")
    assert ready.returncode == 1
    assert any(words in ready.stderr for words in told.format(port).split("|"))


class Clock:
    """A clock that the test sets, each time that it is looked at."""

    def __init__(self, *times: Callable[[], float]) -> None:
        self._times = iter(times)

    def __call__(self) -> float:
        return next(self._times)()


def test_a_server_that_took_a_connection_has_as_much_time_again() -> None:
    reservation, port = reserved_port()
    with reservation, socket.socket() as server:

        def begin() -> float:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((HOST, port))
            server.listen()  # the system takes the connection; nobody says anything
            return 9.9

        def greet() -> float:
            client, _ = server.accept()
            client.sendall(b"220 here I am\r\n")
            client.close()
            return 19.8

        clock = Clock(
            lambda: 0.0,  # it begins
            lambda: 0.0,  # and tries: nobody listens
            begin,  # just in time
            lambda: 9.9,  # so it tries again, and has a connection
            lambda: 9.9,
            lambda: 19.7,  # no greeting yet
            greet,
        )
        arguments = [f"{HOST}:{port}", "--timeout", "10"]
        assert ready(ArgumentParser(), arguments, clock) == 0


@pytest.mark.parametrize(("pid", "waited"), [([], 30), (["--pid", str(os.getpid())], 60)])
def test_a_process_that_lives_is_given_longer(
    pid: list[str], waited: int, capsys: pytest.CaptureFixture[str]
) -> None:
    reservation, port = reserved_port()
    with reservation:
        before, after = (lambda: waited - 0.1), (lambda: float(waited))
        clock = Clock(lambda: 0.0, lambda: 0.0, before, before, after)
        assert ready(ArgumentParser(), [f"{HOST}:{port}", *pid], clock) == 1
    assert capsys.readouterr().err == (
        f"mailhandlers: no server listens at {HOST}:{port} (waited {waited} s)\n"
    )


def test_a_server_that_died_is_not_waited_for() -> None:
    reservation, port = reserved_port()
    with reservation, Process(SLEEPING, stdin=subprocess.PIPE) as server:
        command = [*COMMAND, "ready", f"{HOST}:{port}", "--timeout", "300"]
        with Process(
            [*command, "--pid", str(server.pid)], stderr=subprocess.PIPE, text=True
        ) as waiting:
            started = time.monotonic()
            assert waiting.stderr is not None
            server.kill()  # and we, its parent, don't ask how it ended
            told = waiting.stderr.read()
            assert waiting.wait(PATIENCE) == 1
            assert time.monotonic() - started < PATIENCE
    assert told == (
        f"mailhandlers: process {server.pid} has ended; no server listens at {HOST}:{port}\n"
    )


def test_a_server_that_died_while_another_program_is_silent_there() -> None:
    with saying(None) as port, Process(SLEEPING, stdin=subprocess.PIPE) as server:
        wait = ["ready", f"{HOST}:{port}", "--timeout", str(2 * PATIENCE)]
        command = [*COMMAND, *wait, "--pid", str(server.pid)]
        with Process(command, stderr=subprocess.PIPE, text=True) as ready:
            server.kill()
            _, told = ready.communicate(timeout=PATIENCE)
    assert ready.returncode == 1
    assert told == (
        f"mailhandlers: process {server.pid} has ended; "
        f"the server at {HOST}:{port} sends no greeting\n"
    )


def test_a_process_that_is_gone(shell_here: Shell) -> None:
    with Process([sys.executable, "-c", ""]) as gone:
        pass
    ready = shell_here("ready", "1", "--pid", str(gone.pid))
    assert ready.returncode == 1
    assert f"process {gone.pid} has ended" in ready.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells who listens")
def test_the_server_of_an_earlier_run_is_not_ours(tmp_path: Path) -> None:
    with (
        Server("MaildirSink", tmp_path / "inbox") as earlier,
        Process(SLEEPING, stdin=subprocess.PIPE) as ours,
    ):
        address = f"{HOST}:{earlier.port}"
        ready = shell("ready", address, "--pid", str(ours.pid), "--timeout", "0.1")
        ours.kill()
        assert ready.returncode == 1
        assert ready.stderr == (
            f"mailhandlers: it is process {earlier.process.pid} that listens at port "
            f"{earlier.port} (waited 0.1 s)\n"
        )


@pytest.mark.posix
def test_a_server_behind_a_shell_is_its_shell_s(tmp_path: Path) -> None:
    prefix = ["sh", "-c", '"$@"; true', "sh"]
    with Server("MaildirSink", tmp_path / "inbox", prefix=prefix) as server:
        ready = shell("ready", f"{HOST}:{server.port}", "--pid", str(server.process.pid))
        assert (ready.returncode, ready.stderr) == (0, "")


def test_ready_says_goodbye(tmp_path: Path) -> None:
    heard: list[bytes] = []
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(b"220-hello\r\n220 there\r\n")
                heard.append(client.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        ready = shell("ready", f"{HOST}:{server.getsockname()[1]}")
        thread.join()
    assert ready.returncode == 0
    wait_until(lambda: heard == [b"QUIT\r\n"])
