"""What the tests share: the stock command as a process, and a client that sends any bytes."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, AnyStr, NamedTuple, TypeVar

import pytest
from aiosmtpd.controller import Controller

import mailhandlers
from mailhandlers import StoredMessage, read_messages
from mailhandlers.mail import Mail
from mailhandlers.stores import json_lines
from mailhandlers.stores.entries import backwards
from mailhandlers.stores.growing import GrowingStore

_T = TypeVar("_T")
WINDOWS = os.name == "nt"
IS_ROOT = not WINDOWS and os.geteuid() == 0
HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds after which something will never come, on a machine that is busy with much else."""
HELLO = b"Subject: hello\r\n\r\nHow are you?\r\n"
LARGE = b"Subject: large\r\n\r\n" + b"x" * 998 + b"\r\n" + (b"y" * 998 + b"\r\n") * 3000
FULL = "452 4.3.1 "
FAILED = "451 4.3.0 "


class Kind(NamedTuple):
    """One of the handlers, and how a user would call its store."""

    handler: str
    store: str
    is_folder: bool = False

    @property
    def keeps_all(self) -> bool:
        return self.handler != "MailFile"


KINDS = [
    Kind("MailFile", "latest.mail"),
    Kind("MaildirSink", "inbox", is_folder=True),
    Kind("MboxSink", "mail.mbox"),
    Kind("JsonLines", "mail.jsonl"),
    Kind("PerRecipientDir", "people", is_folder=True),
]
"""Those that keep mail on a disk."""
BUCKET = Kind("BucketSink", "s3://mail")
ALL_KINDS = [*KINDS, BUCKET]
KIND = {kind.handler: kind for kind in KINDS}
JSON_LINES, MBOX = KIND["JsonLines"], KIND["MboxSink"]
ON_DISK = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.handler)
KEEP_ALL = pytest.mark.parametrize(
    "kind", [k for k in KINDS if k.keeps_all], ids=lambda k: k.handler
)


def json_line(mail: Mail) -> bytes:
    """Return the line that JsonLines writes for *mail*."""
    return b"".join(json_lines.encode(mail, StoredMessage.parse(mail.content).summary()))


def entries(data: bytes, store: type[GrowingStore]) -> list[bytes]:
    """Return the entries of a file of this kind, first first."""
    found = backwards(lambda start, end: data[start:end], len(data), store.entry_start)
    return [data[start:end] for start, end in found][::-1]


def wait_until(condition: Callable[[], _T], timeout: float = PATIENCE) -> _T:
    """Return the first true value of *condition*; fail when none comes in time."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} was not true within {timeout} s"
        pause.wait(0.01)
    return value


def reserved_port() -> tuple[socket.socket, int]:
    """Return a port that a server may take, and a socket that keeps it from all others.

    It is bound and never listens, so nobody else is given the port. On Windows that would keep
    it from the server, too: there it is one that was free just now.
    """
    reservation = socket.socket()
    if not WINDOWS:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind((HOST, 0))
    port = reservation.getsockname()[1]
    if WINDOWS:
        reservation.close()
    return reservation, port


def stuffed(content: bytes) -> bytes:
    """Return *content* as it follows DATA: dots doubled, and the last line behind it."""
    assert not content or content.endswith(b"\r\n"), "SMTP sends whole lines"
    return re.sub(rb"(\A|\r\n)\.", rb"\1..", content) + b".\r\n"


class Client:
    """An SMTP client that sends what it is told, octet for octet."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)
        self._replies = self.socket.makefile("rb")
        self.greeting = self.reply()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._replies.close()
        self.socket.close()

    def reply(self) -> str:
        """Return the next reply, its lines joined; raises ConnectionError where none comes."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            line = self._replies.readline()
            if not line.endswith(b"\r\n"):
                raise ConnectionError("the server hung up")
            lines.append(line[:-2].decode("utf-8", "surrogateescape"))
        return "\n".join(lines)

    def command(self, line: str | bytes) -> str:
        """Send one line, its end added, and return the reply."""
        raw = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
        self.socket.sendall(raw + b"\r\n")
        return self.reply()

    def starttls(self, tls: ssl.SSLContext) -> None:
        assert self.command("STARTTLS").startswith("220")
        self._replies.close()
        self.socket = tls.wrap_socket(self.socket)
        self._replies = self.socket.makefile("rb")

    def begin(
        self,
        sender: str | bytes = "eva@example.com",
        to: Iterable[str | bytes] = ("bob@example.com",),
        helo: str | bytes = "laptop",
        options: str | bytes = b"",
    ) -> str:
        """Send EHLO, MAIL, RCPT and DATA; return the last reply, or the first refusal."""
        mail = b"MAIL FROM:<%s> %s" % (_raw(sender), _raw(options))
        recipients = [b"RCPT TO:<%s>" % _raw(recipient) for recipient in to]
        for line in [b"EHLO " + _raw(helo), mail.rstrip(b" "), *recipients, b"DATA"]:
            reply = self.command(line)
            if reply[0] in "45":
                break
        return reply

    def finish(self, content: bytes) -> str:
        """Send the message and return the reply."""
        self.socket.sendall(stuffed(content))
        return self.reply()

    def submit(self, content: bytes = HELLO, to: Iterable[str] = ("bob@example.com",)) -> None:
        """Send one message and don't wait for its reply."""
        assert self.begin(to=to).startswith("354")
        self.socket.sendall(stuffed(content))

    def is_silent(self, seconds: float = 0.2) -> bool:
        """Tell whether the server sends nothing for a while."""
        return select.select([self.socket], [], [], seconds)[0] == []

    def send(
        self,
        content: bytes = HELLO,
        sender: str | bytes = "eva@example.com",
        to: Iterable[str | bytes] = ("bob@example.com",),
        helo: str | bytes = "laptop",
        options: str | bytes = b"",
    ) -> str:
        """Send one message; return the reply that refused something, or the last."""
        reply = self.begin(sender, to, helo, options)
        return self.finish(content) if reply.startswith("354") else reply


def _raw(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


class Process(subprocess.Popen[AnyStr]):
    """A process that ends with its block, also where the block failed and nobody ended it."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, traceback)


# Windows has no signals from one process to another, and Ctrl-C only for all of a console. This
# is what Python does with those: its handler runs in another thread.
_WITH_SIGNALS = """
import os, runpy, signal, threading
def obey():
    while number := os.read(0, 9):
        signal.raise_signal(int(number))
threading.Thread(target=obey, daemon=True).start()
runpy.run_module("aiosmtpd", run_name="__main__", alter_sys=True)
"""


class Server:
    """The stock command: ``aiosmtpd -n -l ... -c mailhandlers.<handler> <arguments>``."""

    def __init__(
        self,
        handler: str,
        *arguments: str | os.PathLike[str],
        flags: Sequence[str | os.PathLike[str]] = ("-n",),
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        # There as long as this object, whose user reads what is in it after the server's end.
        self._said = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._output, self._errors = (Path(self._said.name, name) for name in ("out", "err"))
        self._reservation, self.port = reserved_port()
        start = ["-c", _WITH_SIGNALS] if WINDOWS else ["-m", "aiosmtpd"]
        command = [*prefix, sys.executable, *start, *flags]
        command += ["-l", f"{HOST}:{self.port}"]
        command += ["-c", handler if "." in handler else f"mailhandlers.{handler}", *arguments]
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE if WINDOWS else subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, **(env or {})},
                start_new_session=bool(prefix),
            )
        self._has_prefix = bool(prefix)

    def __enter__(self) -> Server:
        try:
            wait_until(self._answers)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the server ended: {self.errors()}"
        return self.listens()

    def listens(self) -> bool:
        """Tell whether the port is open."""
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def client(self) -> Client:
        return Client(self.port, self._tls)

    def send(
        self,
        content: bytes = HELLO,
        sender: str | bytes = "eva@example.com",
        to: Iterable[str | bytes] = ("bob@example.com",),
        helo: str | bytes = "laptop",
        options: str | bytes = b"",
    ) -> str:
        """Send one message through a connection of its own; return the reply."""
        with self.client() as client:
            return client.send(content, sender, to, helo, options)

    def output(self) -> bytes:
        """Return what the server wrote to standard output so far."""
        return self._output.read_bytes()

    def errors(self) -> str:
        """Return what the server wrote to standard error so far."""
        return self._errors.read_text("utf-8", "replace")

    def kill(self) -> None:
        """End the server at once, as ``kill -9`` does."""
        if self._has_prefix:  # the server itself is a child of strace, and would live on
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self._gone()

    def stop(self) -> int:
        """End the server as Ctrl-C does; return its exit code."""
        self.interrupt()
        return self._gone()

    def interrupt(self) -> None:
        """Tell the server to end, as Ctrl-C does."""
        # The port is open before the signal is minded; a greeting comes after both.
        self.client().close()
        self.signal(signal.SIGINT)

    def signal(self, number: signal.Signals) -> None:
        """Send the signal *number*."""
        if self.process.stdin is not None:
            self.process.stdin.write(b"%d" % number)
        else:
            self.process.send_signal(number)

    def _gone(self) -> int:
        self._reservation.close()
        if self.process.stdin is not None:
            self.process.stdin.close()
        return self.process.wait(PATIENCE)


def run_pytest(folder: Path, *args: str, without: Iterable[str] = ("asyncio",)) -> str:
    """Run the tests in *folder*, warnings as errors; return what pytest says.

    *without* are plugins to leave out: pytest-asyncio warns where it isn't set up.
    """
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [
            *command,
            *(f"-pno:{name}" for name in without),
            *("--basetemp", folder / "basetemp"),
            *args,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    return done.stdout + done.stderr


@contextmanager
def controlled(handler: object, **settings: Any) -> Iterator[Controller]:
    """Serve *handler* in a thread of this process, on a port of its own."""
    reservation, port = reserved_port()
    controller = Controller(handler, hostname=HOST, port=port, **settings)
    with reservation:
        controller.start()
        try:
            yield controller
        finally:
            controller.stop(no_assert=True)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below *folder* with what is in it; a link shows its target."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = b"-> " + os.fsencode(os.readlink(path))
        elif path.is_file():
            found[name] = path.read_bytes()
        else:
            found[f"{name}/"] = b""
    return found


def made(kind: Kind, store: Path) -> Any:
    return getattr(mailhandlers, kind.handler)(store)


def contents(store: Path) -> list[bytes]:
    return [message.original_content for message in read_messages(store)]


def expected(kind: Kind, *sent: bytes) -> list[bytes]:
    return [*sent] if kind.keeps_all else [*sent[-1:]]


def children_of(server: Server) -> list[int]:
    """Return the processes that *server* has started."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("only Linux tells which")
    return [int(child) for child in children.read_text().split()]


def state_of(pid: int) -> str | None:
    """Return the state of the process *pid*, as ps(1) has it: Z is dead; None is reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return None
