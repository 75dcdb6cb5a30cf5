"""A server in a thread: how it stops, and what is told of a handshake that fails."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import selectors
import signal
import smtplib
import socket
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from load import Senders, names_of_whole
from locking import flock
from smtp.test_logins import flags
from support import (
    HELLO,
    HOST,
    KEEP_ALL,
    PATIENCE,
    Client,
    Kind,
    Server,
    contents,
    reserved_port,
    wait_until,
)

from mailhandlers import Inbox, JsonLines, MailCatcher, MaildirSink, NoMessageError
from mailhandlers.mail import Mail
from mailhandlers.smtp import loops, servers, tls

ENDS = pytest.mark.parametrize(  # Ctrl-Break, on Windows
    "number", [signal.SIGINT, getattr(signal, "SIGBREAK", signal.SIGTERM)]
)


def ends(work: Callable[[], object]) -> bool:
    """Tell whether *work* ends, in a thread that hinders nobody if it doesn't."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return not thread.is_alive()


@pytest.fixture
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stop wait for ever for what it waits for."""
    monkeypatch.setattr(servers, "LONGEST_ANSWER", None)


@pytest.mark.parametrize(("runs", "options"), [(30, {}), (10, {"delay": 0.2})])
@pytest.mark.parametrize("tls", [None, "smtps"])
def test_who_is_seen_in_the_store_hears_so(
    runs: int, options: dict[str, Any], tls: str | None
) -> None:
    heard: Counter[str] = Counter()

    def send(mail: MailCatcher) -> None:
        client: smtplib.SMTP
        try:
            if tls:
                trusting = ssl.create_default_context(cafile=mail.ca_file)
                client = smtplib.SMTP_SSL(
                    mail.host, mail.port, timeout=PATIENCE, context=trusting
                )
            else:
                client = smtplib.SMTP(mail.host, mail.port, timeout=PATIENCE)
            with client:
                client.sendmail("eva@example.com", "bob@example.com", HELLO)
            heard["sent"] += 1
        except (OSError, smtplib.SMTPException) as error:
            heard[repr(error)] += 1

    for _ in range(runs):
        with MailCatcher(tls=tls, **options) as mail:
            sender = threading.Thread(target=send, args=[mail])
            sender.start()
            mail.latest(timeout=PATIENCE)
        sender.join()
    assert heard == {"sent": runs}


def test_a_message_that_waits_for_its_store_is_answered(tmp_path: Path, no_limit: None) -> None:
    path = tmp_path / "mail.jsonl"
    path.touch()
    mail = MailCatcher(JsonLines(path))
    mail.start()
    with ExitStack() as held, Client(mail.port) as client, Client(mail.port) as idle:
        held.enter_context(flock(path))
        client.submit(HELLO)
        client.socket.sendall(b"NOOP\r\n")  # is not carried out
        assert client.is_silent()
        stop = threading.Thread(target=mail.stop)
        stop.start()
        with pytest.raises(ConnectionError):  # nobody else is waited for
            idle.reply()
        assert stop.is_alive()
        held.close()
        assert client.reply() == "250 OK"
        with pytest.raises(ConnectionError):
            client.reply()
        stop.join()
    assert contents(path) == [HELLO]


def test_a_stop_waits_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "LONGEST_ANSWER", 0.1)
    mail = MailCatcher(delay=3600)
    mail.start()
    with Client(mail.port) as client:
        client.submit()
        mail.latest(timeout=PATIENCE)
        assert ends(mail.stop)
        with pytest.raises(ConnectionError):
            client.reply()


@pytest.mark.slow
def test_a_client_that_reads_nothing_is_not_waited_for(no_limit: None) -> None:
    mail = MailCatcher()
    mail.start()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((mail.host, mail.port))
        client.setblocking(False)
        echoed = b"VRFY <" + b"x" * 480 + b"\r\n"

        def is_clogged() -> bool:
            with suppress(BlockingIOError):
                client.send(echoed * 100)
            assert mail._server is not None
            transports = mail._server._connections._transports()
            return any(transport.get_write_buffer_size() for transport in transports)

        wait_until(is_clogged)
        assert ends(mail.stop)


@pytest.mark.parametrize("tls", ["starttls", "smtps"])
def test_a_client_amid_a_handshake_is_not_waited_for(no_limit: None, tls: str) -> None:
    mail = MailCatcher(tls=tls)
    mail.start()
    with Client(mail.port) if tls == "starttls" else _connected(mail) as client:
        if isinstance(client, Client):
            assert client.command("STARTTLS")[:3] == "220"
        assert ends(mail.stop)


@pytest.mark.parametrize("tls", ["starttls", "smtps"])
def test_a_client_with_tls_that_is_idle_is_not_waited_for(no_limit: None, tls: str) -> None:
    mail = MailCatcher(tls=tls)
    mail.start()
    trusting = ssl.create_default_context(cafile=mail.ca_file)
    trusting.check_hostname = False
    with Client(mail.port, trusting if tls == "smtps" else None) as client:
        if tls == "starttls":
            client.starttls(trusting)
        assert client.command("EHLO laptop")[:3] == "250"
        assert ends(mail.stop)


@pytest.mark.parametrize("tls", ["starttls", "smtps"])
def test_a_layer_of_tls_that_is_closed_hinders_no_stop(tls: str) -> None:
    # Up to Python 3.11.2, as Debian 12 has it, abort() of one that was closed twice raises.
    mail = MailCatcher(tls=tls)
    mail.start()
    trusting = ssl.create_default_context(cafile=mail.ca_file)
    trusting.check_hostname = False
    with Client(mail.port, trusting if tls == "smtps" else None) as client:
        if tls == "starttls":
            client.starttls(trusting)
        assert client.command("EHLO laptop")[:3] == "250"
        assert mail._server is not None
        [server] = mail._server._connections._all

        async def close_twice() -> None:
            layer: Any = server.transport
            assert layer.get_extra_info("ssl_object")
            layer.close()
            layer.close()
            if sys.version_info >= (3, 11, 3):
                layer.abort = None  # it isn't called

        mail._server._thread.run(close_twice())
        assert ends(mail.stop)
    assert mail._server is None


def _connected(mail: MailCatcher) -> Any:
    client = socket.create_connection((mail.host, mail.port), timeout=PATIENCE)
    server = mail._server
    assert server is not None
    wait_until(lambda: len(server._connections._tls_first) == 1)
    return client


@pytest.mark.slow
@KEEP_ALL
@ENDS
def test_the_command_answers_all_that_it_stored(
    kind: Kind, store: Path, number: signal.Signals
) -> None:
    for round_ in range(3):
        with Server(kind.handler, store) as server:
            senders = Senders([server.port] * 8, str(round_))
            wait_until(lambda: len(senders.acknowledged) >= 20 * (round_ + 1))  # noqa: B023
            server.signal(number)
            assert server.process.wait(PATIENCE) == 0
            senders.join()
        assert senders.refusals == []
        found = [name for name in names_of_whole(store) if name.startswith(f"{round_}-")]
        assert sorted(found) == sorted(senders.acknowledged)
        assert server.errors() == ""


@ENDS
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_command_waits_for_what_is_being_stored(
    tmp_path: Path, number: signal.Signals, loop: str
) -> None:
    pytest.importorskip(loop)
    path = tmp_path / "mail.jsonl"
    options = ["loop=uvloop"] if loop == "uvloop" else []
    with Server("JsonLines", path, *options) as server:
        with ExitStack() as held, server.client() as client, server.client() as idle:
            held.enter_context(flock(path))
            client.submit()
            assert client.is_silent()
            server.signal(number)
            with pytest.raises(ConnectionError):
                idle.reply()
            assert not server.listens()
            held.close()
            assert client.reply() == "250 OK"
        assert server.process.wait(PATIENCE) == 0
        assert server.errors() == ""
    assert contents(path) == [HELLO]


@pytest.mark.posix
@ENDS
def test_a_second_signal_ends_the_command_at_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", "delay=3600") as server,
        server.client() as client,
    ):
        client.submit()
        wait_until(lambda: len(Inbox(tmp_path / "latest.mail")))
        server.signal(signal.SIGTERM)
        wait_until(lambda: not server.listens())
        server.signal(number)
        assert server.process.wait(PATIENCE) == -number
        assert server.errors() == ""


def test_a_controller_of_aiosmtpd_cuts_off_who_waits(tmp_path: Path) -> None:
    """This is what the documentation says of it: look whether it still must."""
    reservation, port = reserved_port()
    controller = Controller(JsonLines(tmp_path / "m", delay=3600), hostname=HOST, port=port)
    with reservation:
        controller.start()
        with Client(port) as client:
            client.submit()
            wait_until(lambda: len(Inbox(tmp_path / "m")))
            controller.stop()
            with pytest.raises(ConnectionError):
                client.reply()


# A TLS handshake that fails: one line that names TLS and the peer, and it has five seconds


def distrust(client: socket.socket) -> None:
    with suppress(ssl.SSLError):
        ssl.create_default_context().wrap_socket(client, server_hostname="localhost")


def speak_plain(client: socket.socket) -> None:
    client.sendall(b"EHLO laptop\r\nMAIL FROM:<eva@example.com>\r\n")


def hang_up(client: socket.socket) -> None:
    client.close()


def hang_up_amid(client: socket.socket) -> None:
    client.sendall(bytes.fromhex("160301"))  # the beginning of a TLS record
    client.close()


def be_silent(client: socket.socket) -> None:
    with suppress(ConnectionResetError):
        assert client.recv(1) == b""


UNKNOWN_CA = "tlsv1 alert unknown ca"
KINDS = [
    (distrust, UNKNOWN_CA),
    (speak_plain, "wrong version number"),
    (hang_up, "the client hung up"),
    (hang_up_amid, "the client hung up"),
]
LAYERS = pytest.mark.parametrize("layer", ["starttls", "smtps", "starttls, before EHLO"])


def fail(port: int, layer: str, kind: Callable[[socket.socket], None]) -> str:
    """Fail the handshake as *kind* does, and return the name of the client."""
    if layer == "smtps":
        with socket.create_connection((HOST, port), timeout=PATIENCE) as client:
            name = "{}:{}".format(*client.getsockname())
            kind(client)
        return name
    with Client(port) as session:
        name = "{}:{}".format(*session.socket.getsockname())
        for command in ["STARTTLS"] if "before" in layer else ["EHLO laptop", "STARTTLS"]:
            assert session.command(command)[:1] == "2"
        session._replies.close()  # else the socket stays open beside it
        kind(session.socket)
    return name


@LAYERS
@pytest.mark.parametrize(("kind", "reason"), KINDS)
def test_a_catcher_tells_in_one_line(
    caplog: pytest.LogCaptureFixture,
    layer: str,
    kind: Callable[[socket.socket], None],
    reason: str,
) -> None:
    with MailCatcher(tls=layer[:8].rstrip(",")) as mail:
        name = fail(mail.port, layer, kind)
        wait_until(lambda: caplog.records)
    assert caplog.messages == [f"no TLS with {name}: {reason}"]
    [record] = caplog.records
    assert (record.name, record.levelno, record.exc_info) == (
        "mailhandlers",
        logging.WARNING,
        None,
    )


@LAYERS
def test_a_handshake_has_its_time(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    assert tls.LONGEST_HANDSHAKE == 5
    monkeypatch.setattr(tls, "LONGEST_HANDSHAKE", 0.1)
    with MailCatcher(tls=layer[:8].rstrip(",")) as mail:
        name = fail(mail.port, layer, be_silent)
        wait_until(lambda: caplog.records)
    assert caplog.messages == [f"no TLS with {name}: the handshake took longer than 0.1 s"]


@pytest.mark.parametrize("times", range(1, 8))
@pytest.mark.parametrize("tls", [None, "starttls"])
def test_a_client_that_closes_its_side_behind_starttls_ends_its_session(
    caplog: pytest.LogCaptureFixture, tls: str | None, times: int
) -> None:
    with MailCatcher(tls=tls) as mail:
        with socket.create_connection((HOST, mail.port), timeout=PATIENCE) as client:
            client.sendall(b"EHLO laptop\r\n" + b"STARTTLS\r\n" * times)
            client.shutdown(socket.SHUT_WR)
            said = b""
            while (piece := client.recv(4096)) and len(said) < 10_000:
                said += piece
        assert len(said) < 10_000
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["starttls", "smtps"])
def test_the_command_tells_in_one_line(tmp_path: Path, certificate: Any, layer: str) -> None:
    reasons = []
    with Server("MaildirSink", tmp_path / "inbox", flags=flags(certificate, layer)) as server:
        wait_until(lambda: layer == "starttls" or server.errors())  # of the probe of this
        before = server.errors()
        for kind, reason in [*KINDS, (be_silent, "the handshake took longer than 5 s")]:
            reasons.append((fail(server.port, layer, kind), reason))
            wait_until(lambda: server.errors()[len(before) :].count("\n") == len(reasons))
        lines = server.errors()[len(before) :].splitlines()
        assert [line[len("2026-11-21 08:48:00 ") :] for line in lines] == [
            f"WARNING:mailhandlers:no TLS with {name}: {reason}" for name, reason in reasons
        ]


def test_a_controller_tells_in_one_line(
    tmp_path: Path, certificate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    reservation, port = reserved_port()
    controller = Controller(
        MaildirSink(tmp_path / "inbox"), hostname=HOST, port=port, tls_context=context
    )
    with reservation:
        controller.start()
        try:
            name = fail(port, "starttls", distrust)
            wait_until(lambda: caplog.records)
        finally:
            controller.stop()
    assert caplog.messages == [f"no TLS with {name}: {UNKNOWN_CA}"]


def test_what_fails_in_a_session_is_no_error_of_storing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(MaildirSink):
        async def handle_NOOP(self, *_: object) -> str:
            raise ZeroDivisionError

    with (
        MailCatcher(Odd(tmp_path / "inbox")) as mail,
        socket.create_connection((mail.host, mail.port), timeout=PATIENCE) as client,
    ):
        client.recv(1000)
        client.sendall(b"NOOP\r\n")
        reply = client.recv(1000)
    assert reply == b"451 4.3.0 Local error in processing, try again later\r\n"
    [record] = caplog.records
    assert not re.search("stor", record.getMessage())


class ExitingSink(MaildirSink):
    """A handler of somebody's that ends what runs it."""

    async def store(self, mail: Mail) -> str:
        await super().store(mail)
        sys.exit("the disk is too slow")


DYING = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "mailhandlers-server"]


@pytest.fixture
def own_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no other test hold the loop; tell whether nothing stays of a server that failed."""
    loop, before = loops.SharedLoop(), threads()
    with monkeypatch.context() as patch:
        patch.setattr(servers, "LOOP", loop)
        yield
    assert loop._holders == 0
    assert threads() == before


def loop_class(**methods: Callable[..., object]) -> type[asyncio.SelectorEventLoop]:
    return type("LackingLoop", (asyncio.SelectorEventLoop,), methods)


def refuse(*_: object) -> None:
    raise NotImplementedError("not under this system")


def exhaust(*_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def exhaust_while_somebody_waits(loop: Any) -> None:
    wait_until(lambda: loop._ready)
    exhaust()


@DYING
@pytest.mark.parametrize(
    ("method", "fails", "error", "told"),
    [
        ("add_reader", refuse, NotImplementedError, "not under this system"),
        ("__new__", exhaust, OSError, os.strerror(errno.EMFILE)),
        ("run_forever", exhaust, RuntimeError, "thread has ended: OSError.*many open files"),
        (
            "run_forever",
            exhaust_while_somebody_waits,
            RuntimeError,
            "ended: OSError.*open files",
        ),
        ("run_forever", lambda loop: None, RuntimeError, "has ended: its loop was stopped"),
        ("create_future", exhaust, OSError, os.strerror(errno.EMFILE)),
    ],
)
@pytest.mark.usefixtures("own_loop")
def test_a_loop_that_lacks_something_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    fails: Callable[..., object],
    error: type[Exception],
    told: str,
) -> None:
    mail = MailCatcher()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "SelectorEventLoop", loop_class(**{method: fails}))
        for _ in range(2):
            with pytest.raises(error, match=told):
                mail.start()
            with socket.socket() as probe:
                assert probe.connect_ex((mail.host, mail.port)) != 0
            mail.stop()
    with mail, Client(mail.port) as client:  # it starts when there is what it needs
        assert client.send() == "250 OK"


@pytest.mark.usefixtures("own_loop")
def test_a_system_without_threads_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            MailCatcher().start()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # policies, from Python 3.14 on
def test_the_users_policy_for_loops_is_not_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            raise NotImplementedError

    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    try:
        with MailCatcher() as mail, Client(mail.port) as client:
            assert client.send() == "250 OK"
    finally:
        asyncio.set_event_loop_policy(before)


@DYING
@pytest.mark.parametrize("tls", [None, "starttls", "smtps"])
@pytest.mark.usefixtures("own_loop")
def test_a_thread_that_ends_lets_all_go_and_says_why(tmp_path: Path, tls: str | None) -> None:
    why = "the server's thread has ended: SystemExit.*the disk is too slow"
    mail = MailCatcher(ExitingSink(tmp_path / "inbox"), tls=tls)
    mail.start()
    trusting = None
    if tls:
        trusting = ssl.create_default_context(cafile=mail.ca_file)
        trusting.check_hostname = False
    at_once = trusting if tls == "smtps" else None
    with Client(mail.port, at_once) as idle, Client(mail.port, at_once) as client:
        if tls == "starttls" and trusting:
            idle.starttls(trusting)
        client.submit()
        for waiting in (client, idle):
            with pytest.raises(ConnectionError):  # and no wait
                waiting.reply()
        with socket.socket() as probe:
            assert probe.connect_ex((mail.host, mail.port)) != 0
    with pytest.raises(NoMessageError, match=f"nobody serves .*{why}"):
        mail.latest(to="nobody@example.com")
    with MailCatcher() as other, Client(other.port) as client:  # a new thread is there
        assert client.send() == "250 OK"
    with pytest.raises(RuntimeError, match=why):
        mail.stop()
    mail.stop()
    mail.start()  # and its port is free
    mail.stop()


@pytest.mark.usefixtures("own_loop")
def test_an_error_of_the_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    mail = MailCatcher()
    mail.start()
    with monkeypatch.context() as patch:
        patch.setattr(servers.Connections, "end", fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            mail.stop()
    with socket.socket() as probe:
        assert probe.connect_ex((mail.host, mail.port)) != 0


def test_a_server_that_is_stopped_in_its_own_thread_says_so(tmp_path: Path) -> None:
    told: list[str] = []

    class StoppingSink(MaildirSink):
        async def store(self, mail: Mail) -> str:
            with pytest.raises(RuntimeError) as raised:
                catcher.stop()
            told.append(str(raised.value))
            return await super().store(mail)

    with MailCatcher(StoppingSink(tmp_path / "inbox")) as catcher, Client(catcher.port) as c:
        assert c.send() == "250 OK"
    assert told == ["the server's own thread can't wait for it: start and stop it in another"]


@pytest.mark.usefixtures("own_loop")
def test_more_clients_than_a_system_can_watch_wait_for_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "DefaultSelector", selectors.SelectSelector)
    monkeypatch.setattr(loops, "MOST_TO_SELECT", 4)  # with the port, and the loop's own
    with MailCatcher() as mail, Client(mail.port) as first, Client(mail.port) as second:
        with socket.create_connection((mail.host, mail.port)) as third:
            third.settimeout(0.2)
            with pytest.raises(TimeoutError):
                third.recv(1)
            first.close()
            third.settimeout(PATIENCE)
            assert third.recv(3) == b"220"
        assert second.send() == "250 OK"
