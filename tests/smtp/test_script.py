"""Scripted replies, the delay, an RSET that clears, long lines: each by the stock command."""

from __future__ import annotations

import select
import shutil
import smtplib
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiosmtpd.main import parseargs
from aiosmtpd.smtp import MISSING, SMTP
from conftest import Certificate, server_side
from locking import flock
from support import HELLO, HOST, PATIENCE, Client, Kind, Server, controlled, tree, wait_until

from mailhandlers import Envelope, MailCatcher, MailFile, Reply, read_latest, read_messages
from mailhandlers.handlers import Handler
from mailhandlers.smtp.replies import VERBS
from mailhandlers.smtp.script import Script

BOUNCE = "reply=RCPT *@bounce.test: 550 5.1.1 No such user"


def envelope_of(path: Path) -> Envelope:
    envelope = read_latest(path).envelope
    assert envelope is not None
    return envelope


def script_of(handler: Handler) -> Script:
    """What *handler* says in its sessions."""
    return handler._script


def hang_up_follows(client: Client) -> bool:
    """Whether the server closes the connection without another word."""
    client.socket.settimeout(PATIENCE)
    return client.socket.recv(1) == b""


# An option adds the hooks that it needs


def test_a_handler_without_options_has_the_hooks_that_all_have(kind: Kind, store: Path) -> None:
    import mailhandlers

    handler = getattr(mailhandlers, kind.handler)(store)
    hooks = [name for name in dir(handler) if name.startswith(("handle_", "auth_"))]
    assert hooks == ["handle_DATA", "handle_EHLO", "handle_HELO", "handle_exception"]
    assert handler.handle_DATA.__func__ is mailhandlers.handlers.Handler.handle_DATA
    assert handler.unused_replies == []


def test_an_option_adds_the_hooks_that_it_needs(tmp_path: Path) -> None:
    def hooks(**options: object) -> set[str]:
        handler = MailFile(tmp_path / "latest.mail", **options)  # type: ignore[arg-type]
        return {name[7:] for name in dir(handler) if name.startswith("handle_")}

    always = {"DATA", "exception", "EHLO", "HELO"}
    assert hooks(replies=[Reply("RCPT", "550 No")]) == {*always, "RCPT"}
    assert hooks(auth="any") == {*always, "AUTH"}
    assert hooks(strict=True) == {*always, "MAIL", "RCPT"}
    assert hooks(rset="clear") == {*always, "RSET"}


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ("delay=soon", "is a number"),
        ("delay=-1", "try delay=0.5"),
        ("delay=nan", "try delay=0.5"),
        ("delay=inf", "try delay=0.5"),
        ("rset=yes", "rset=clear"),
        ("max_line=x", "is a number"),
        ("max_line=1000", "1001"),
        ("auth=eva", "user:password"),
        ("auth=@missing", "first line is user:password"),
        ("auth=$MISSING", "export it as user:password"),
        ("auth_required=1", "yes or no"),
        ("auth_required=yes", "needs auth="),
        ("auth_tls=yes", "auth_tls=yes needs auth="),
        ("strict=1", "yes or no"),
    ],
)
def test_a_bad_value_is_told(
    option: str, advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parseargs(["-c", "mailhandlers.MailFile", str(tmp_path / "latest.mail"), option])
    assert caught.value.code == 2
    assert advice in capsys.readouterr().err


# Replies in a session


def reach(client: Client, verb: str) -> str:
    """Go as far as *verb* needs, say it, and return the reply."""
    lines = {
        "EHLO": ["EHLO laptop"],
        "HELO": ["HELO laptop"],
        "AUTH": ["EHLO laptop", "AUTH PLAIN AGV2YQBzZWNyZXQ="],
        "MAIL": ["EHLO laptop", "MAIL FROM:<eva@example.com>"],
        "RCPT": ["EHLO laptop", "MAIL FROM:<eva@example.com>", "RCPT TO:<bob@example.com>"],
    }.get(verb, ["EHLO laptop", "VRFY bob@example.com" if verb == "VRFY" else verb])
    if verb == "DATA":
        return client.send()
    for line in lines:
        reply = client.command(line)
    return reply


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "CONNECT"])
def test_every_verb_is_answered(verb: str, tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    with Server("MailFile", path, f"reply={verb} x1: 454 4.0.0 Not {verb}") as server:
        with server.client() as client:
            assert reach(client, verb) == f"454 4.0.0 Not {verb}"
            assert verb != "QUIT" or hang_up_follows(client)
        assert path.read_bytes() == b""
        # It was for once.
        assert server.send() == "250 OK"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "CONNECT"])
def test_421_hangs_up(verb: str, tmp_path: Path) -> None:
    with Server("MailFile", tmp_path / "latest.mail", f"reply={verb}: 421 4.3.2 Bye") as server:
        with server.client() as client:
            assert reach(client, verb) == "421 4.3.2 Bye"
            assert hang_up_follows(client)
        assert server.process.poll() is None
        assert server.errors() == ""
        assert (tmp_path / "latest.mail").read_bytes() == b""


def test_nothing_is_said_after_421(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    with (
        Server("MailFile", path, "reply=MAIL: 421 4.3.2 Bye") as server,
        server.client() as client,
    ):
        client.command("EHLO laptop")
        client.socket.sendall(b"MAIL FROM:<a@b>\r\nNOOP\r\nNOOP\r\n")  # RFC 2920
        assert client.reply() == "421 4.3.2 Bye"
        with pytest.raises(ConnectionError):
            client.reply()


@pytest.mark.parametrize("to", ["x@bounce.test", "X@BOUNCE.Test", "a.b+c@bounce.test"])
def test_a_glob_ignores_case(tmp_path: Path, to: str) -> None:
    path = tmp_path / "latest.mail"
    with Server("MailFile", path, "reply=RCPT *@Bounce.TEST: 550 5.1.1 No such user") as server:
        assert server.send(to=[to]) == "550 5.1.1 No such user"
        assert server.send(to=["x@bounce.test.example", "bounce.test@x"]) == "250 OK"


def test_globs_match_senders_and_names(tmp_path: Path) -> None:
    options = [
        "reply=MAIL *@spam.test: 554 5.7.1 Spam",
        "reply=MAIL <>: 554 5.7.1 No bounces",
        "reply=VRFY bob@*: 250 Bob",
        "reply=EHLO old*: 502 5.5.1 Not implemented",
        "reply=HELO bad*: 550 Go away",
        "reply=NOOP please: 250 You are welcome",
        "reply=AUTH login: 534 5.7.9 Too weak",
    ]
    with (
        Server("MailFile", tmp_path / "latest.mail", "auth=any", *options) as server,
        server.client() as client,
    ):
        assert client.command("EHLO old-laptop") == "502 5.5.1 Not implemented"
        assert client.command("HELO bad-laptop") == "550 Go away"
        assert client.command("MAIL FROM:<a@b>")[:3] == "503"  # a refusal greets nobody
        assert client.command("HELO old-laptop")[:3] == "250"
        assert client.command("EHLO laptop")[:3] == "250"
        assert client.command("VRFY Bob@example.com") == "250 Bob"
        assert client.command("VRFY carol@example.com")[:3] == "252"
        assert client.command("NOOP") == "250 OK"
        assert client.command("NOOP please") == "250 You are welcome"
        assert client.command("AUTH LOGIN ZXZh") == "534 5.7.9 Too weak"
        assert client.command("AUTH PLAIN AGV2YQBzZWNyZXQ=")[:3] == "235"
        assert client.command("MAIL FROM:<a@spam.test>") == "554 5.7.1 Spam"
        assert client.command("MAIL FROM:<>") == "554 5.7.1 No bounces"
        assert client.command("RCPT TO:<bob@example.com>")[:3] == "503"
        assert client.command("MAIL FROM:<a@b>") == "250 OK"


def test_the_first_match_wins_and_xn_ends(tmp_path: Path) -> None:
    options = [
        "reply=RCPT bob@* x2: 450 4.2.1 Busy",
        "reply=RCPT *@example.com x1: 451 4.7.1 Greylisted",
        "reply=RCPT bob@*: 550 5.1.1 Moved",
    ]
    with Server("MailFile", tmp_path / "latest.mail", *options) as server:
        replies = [server.send()[:3] for _ in range(5)]
        assert replies == ["450", "450", "451", "550", "550"]
        assert server.send(to=["carol@example.com"]) == "250 OK"


def test_an_allow_list_is_a_matter_of_order(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    options = ["reply=RCPT *@course.example: 250 OK", "reply=RCPT *: 550 5.1.1 No such user"]
    with Server("MailFile", path, *options) as server:
        assert server.send(to=["a@course.example", "b@Course.EXAMPLE"]) == "250 OK"
        assert server.send(to=["a@example.com"]) == "550 5.1.1 No such user"
        assert server.send(to=["a@course.example.com"]) == "550 5.1.1 No such user"
    assert envelope_of(path).rcpt_tos == ["a@course.example", "b@Course.EXAMPLE"]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "CONNECT"])
def test_replies_may_be_added_for_a_while(verb: str, tmp_path: Path) -> None:
    down = Reply(verb, "454 4.7.0 Later")
    handler = MailFile(tmp_path / "latest.mail", replies=[Reply(verb, "550 Never", times=1)])
    script = script_of(handler)
    with controlled(handler) as controller:
        with script.replying(down), Client(controller.port) as client:
            assert reach(client, verb) == down.text
            assert script.unused_replies == handler.unused_replies != []
        with Client(controller.port) as client:
            assert reach(client, verb) == "550 Never"
    assert script.unused_replies == []


def test_added_replies_are_heard_on_connections_that_are_open(tmp_path: Path) -> None:
    handler = MailFile(tmp_path / "latest.mail")
    script = script_of(handler)
    script.hook()
    with controlled(handler) as controller, Client(controller.port) as client:
        assert client.send() == "250 OK"
        with script.replying(Reply("NOOP", "450 First"), Reply("RCPT", "450 Busy", times=1)):
            with script.replying(Reply("NOOP", "450 Inner")):
                assert client.command("NOOP") == "450 Inner"
            assert client.command("NOOP") == "450 First"
            assert [reply.text for reply in script.unused_replies] == ["450 Busy"]
            assert client.send() == "450 Busy"
        assert client.command("NOOP") == "250 OK"
        assert client.command("RSET") == "250 OK"
        assert client.send() == "250 OK"
        client.command("QUIT")


def test_the_others_get_the_message(kind: Kind, store: Path) -> None:
    people = ["bob@example.com", "x@bounce.test", "carol@example.com"]
    with (
        Server(kind.handler, store, BOUNCE) as server,
        smtplib.SMTP(HOST, server.port) as client,
    ):
        refused = client.sendmail("eva@example.com", people, HELLO)
        assert refused == {"x@bounce.test": (550, b"5.1.1 No such user")}
    assert envelope_of(store).rcpt_tos == ["bob@example.com", "carol@example.com"]
    assert len(list(read_messages(store))) == 1
    assert not any("bounce" in name for name in tree(store.parent))


def test_success_in_other_words_keeps_the_books(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    options = [
        "reply=HELO: 250 Hello",
        "reply=MAIL: 250 2.1.0 Sender ok",
        "reply=RCPT b*: 251 2.1.5 Forwarded",
        "reply=DATA: 250 2.0.0 Queued as 1",
    ]
    with Server("MailFile", path, *options) as server:
        with server.client() as client:
            assert client.command("HELO laptop") == "250 Hello"
            assert client.command("MAIL FROM:<eva@example.com>") == "250 2.1.0 Sender ok"
            assert client.command("RCPT TO:<bob@example.com>") == "251 2.1.5 Forwarded"
            assert client.command("RCPT TO:<carol@example.com>") == "250 OK"
            client.command("DATA")
            assert client.finish(HELLO) == "250 2.0.0 Queued as 1"
        envelope = envelope_of(path)
        assert envelope.helo == "laptop"
        assert envelope.mail_from == "eva@example.com"
        assert envelope.rcpt_tos == ["bob@example.com", "carol@example.com"]
        assert server.send(options="BODY=8BITMIME SIZE=30") == "250 2.0.0 Queued as 1"
        assert envelope_of(path).mail_options == ["BODY=8BITMIME", "SIZE=30"]


def test_success_of_ehlo_is_the_whole_answer(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    options = ["auth=any", "reply=EHLO x1: 250 plain.example.com"]
    with Server("MailFile", path, *options) as server, server.client() as client:
        assert client.command("EHLO laptop") == "250 plain.example.com"
        assert client.command("AUTH PLAIN AGV2YQBzZWNyZXQ=")[:3] == "538"
        assert client.command("MAIL FROM:<a@b>") == "250 OK"
        assert "AUTH PLAIN LOGIN" in client.command("EHLO laptop")


def test_success_is_not_said_of_a_message_that_is_not_stored(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "latest.mail"
    with Server("MailFile", path, "reply=DATA: 250 2.0.0 Queued") as server:
        shutil.rmtree(folder)
        assert server.send()[:9] == "451 4.3.0"
        folder.mkdir()
        assert server.send() == "250 2.0.0 Queued"


def test_a_refused_message_is_not_stored(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store, "reply=DATA x1: 554 5.6.0 Spam") as server:
        with server.client() as client:
            assert client.begin()[:3] == "354"  # the reply is to the content
            assert client.finish(HELLO) == "554 5.6.0 Spam"
        assert list(read_messages(store)) == []
        assert server.send() == "250 OK"
    assert len(list(read_messages(store))) == 1


def test_a_reply_to_auth_offers_auth_and_lets_in_nobody(tmp_path: Path) -> None:
    later = "reply=AUTH x1: 454 4.7.0 Later"
    with (
        Server("MailFile", tmp_path / "latest.mail", later) as server,
        server.client() as client,
    ):
        assert "AUTH PLAIN LOGIN" in client.command("EHLO laptop")
        assert client.command("AUTH PLAIN AGV2YQBzZWNyZXQ=") == "454 4.7.0 Later"
        assert client.command("AUTH PLAIN AGV2YQBzZWNyZXQ=")[:3] == "535"


def test_a_reply_to_auth_leaves_the_servers_own_users(tmp_path: Path) -> None:
    handler = MailFile(tmp_path / "latest.mail", replies=[Reply("AUTH", "454 Later", times=1)])
    users = {"auth_callback": lambda *_: True, "auth_require_tls": False}
    with controlled(handler, **users) as controller, Client(controller.port) as client:
        client.command("EHLO laptop")
        assert client.command("AUTH PLAIN AGV2YQBzZWNyZXQ=") == "454 Later"
        assert client.command("AUTH PLAIN AGV2YQBzZWNyZXQ=")[:3] == "235"


def test_a_handlers_own_hooks_go_on(tmp_path: Path) -> None:
    class Own(MailFile):
        async def handle_RCPT(
            self, server: object, session: object, envelope: object, address: str, *_: object
        ) -> object:
            return "550 5.7.1 Own" if address.startswith("own") else MISSING

        async def handle_EHLO(
            self, server: object, session: object, envelope: object, name: str, lines: list[str]
        ) -> list[str]:
            session.host_name = f"own-{name}"  # type: ignore[attr-defined]
            return [*lines[:-1], "250-X-OWN", lines[-1]]

    path = tmp_path / "latest.mail"
    handler = Own(path, auth="any", replies=[Reply("RCPT", "250 Hi", match="*b@*")])
    with controlled(handler) as controller, Client(controller.port) as client:
        assert "X-OWN" in client.command("EHLO laptop")
        client.command("MAIL FROM:<a@b>")
        assert client.command("RCPT TO:<own-bob@b>") == "550 5.7.1 Own"
        assert client.command("RCPT TO:<bob@b>") == "250 Hi"
        client.command("DATA")
        assert client.finish(HELLO) == "250 OK"
    assert envelope_of(path).rcpt_tos == ["bob@b"]
    assert envelope_of(path).helo == "own-laptop"


@pytest.mark.mailcatcher(
    replies=[
        Reply("RCPT", "550 5.1.1 No such user", match="*@bounce.test", times=1),
        Reply("RCPT", "550 5.1.1 No such user", match="*@bounce.test", times=1),
        Reply("DATA", "451 4.7.1 Greylisted"),
    ]
)
def test_unused_replies_are_told(mailcatcher: MailCatcher) -> None:
    first, second, third = mailcatcher.handler.unused_replies
    with Client(mailcatcher.port) as client:
        assert client.send(to=["x@bounce.test"])[:3] == "550"
        assert mailcatcher.unused_replies == [second, third]
        client.command("RSET")
        assert client.send(to=["x@bounce.test"])[:3] == "550"
        client.command("RSET")
        assert client.send(to=["x@bounce.test"])[:3] == "451"
    assert mailcatcher.unused_replies == []
    assert first == second


@pytest.mark.parametrize("name", ["swaks", "curl", "msmtp"])
@pytest.mark.slow
def test_other_programs_see_the_refusal(tmp_path: Path, name: str) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed (Debian has it as {name})")
    with Server("MailFile", tmp_path / "latest.mail", BOUNCE) as server:
        at = f"{HOST}:{server.port}"
        command = {
            "swaks": ["--server", at, "--from", "a@b.test", "--to", "x@bounce.test"],
            "curl": [
                *("-sSv", f"smtp://{at}", "--mail-from", "a@b", "--mail-rcpt", "x@bounce.test"),
                *("--upload-file", "-"),
            ],
            "msmtp": [
                *("--file=/dev/null", f"--host={HOST}", f"--port={server.port}", "--auth=off"),
                *("--tls=off", "--from=a@b.test", "x@bounce.test"),
            ],
        }[name]
        done = subprocess.run(
            [program, *command], input=HELLO, capture_output=True, timeout=PATIENCE
        )
    assert done.returncode != 0
    assert b"550 5.1.1 No such user" in done.stdout + done.stderr
    assert (tmp_path / "latest.mail").read_bytes() == b""


# delay


@pytest.mark.parametrize("extra", [[], ["reply=DATA: 451 4.7.1 Greylisted"]])
def test_a_delay_keeps_one_waiting_and_no_other(tmp_path: Path, extra: list[str]) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", "delay=2", *extra) as server,
        server.client() as slow,
        server.client() as quick,
    ):
        assert slow.begin()[:3] == "354"
        started = time.monotonic()
        slow.socket.sendall(HELLO + b".\r\n")
        answered = 0
        while slow.is_silent(0):
            assert quick.command("NOOP") == "250 OK"
            answered += 1
        assert answered > 2  # of a server that stands still the first one, after the delay
        assert slow.reply()[:3] == ("451" if extra else "250")
        assert time.monotonic() - started >= 2


# rset=clear


def test_rset_empties_the_store(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store, "rset=clear") as server, server.client() as client:
        assert client.command("RSET") == "250 OK"  # nothing is there yet
        for _ in range(2):
            assert client.send() == "250 OK"
            assert len(list(read_messages(store))) == 1
            assert client.command("RSET") == "250 OK"
            assert list(read_messages(store)) == []


def test_rset_is_harmless_unless_asked_for(kind: Kind, store: Path) -> None:
    with Server(kind.handler, store) as server, server.client() as client:
        client.send()
        assert client.command("RSET") == "250 OK"
    assert len(list(read_messages(store))) == 1


@pytest.mark.parametrize(
    ("lines", "clears"),
    [
        (["MAIL FROM:<a@b>"], False),
        (["MAIL FROM:<a@b>", "RCPT TO:<c@d>"], False),
        (["MAIL FROM:<a@b>", "RCPT TO:<x@bounce.test>"], False),
        (["MAIL FROM:<refused@b>"], False),
        (["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "bad\r\n."], False),
        (["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "x" * 5000 + "\r\n."], False),
        (["MAIL FROM:<a@b>", "RSET"], True),
        (["MAIL FROM:<a@b>", "EHLO laptop"], True),
        (["MAIL FROM:<a@b>", "HELO laptop"], True),
        (["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "good\r\n."], True),
        (["NOOP", "VRFY bob@example.com"], True),
    ],
)
def test_rset_in_a_transaction_gives_up_only_that(
    tmp_path: Path, lines: list[str], clears: bool
) -> None:
    path = tmp_path / "mail.jsonl"
    options = ["rset=clear", BOUNCE, "reply=MAIL refused@*: 550 No", "reply=DATA x1: 250 OK"]
    bad = [] if "bad\r\n." not in lines else ["reply=DATA: 554 5.6.0 Spam"]
    with Server("JsonLines", path, *options, *bad) as server, server.client() as client:
        assert client.send() == "250 OK"
        for line in lines:
            client.command(line)
        assert client.command("RSET") == "250 OK"
        assert (list(read_messages(path)) == []) == clears


def test_smtplibs_own_rset_empties_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mail.jsonl"
    replies = ["MAIL refused@*: 550 No", "RCPT *@bounce.test: 550 No", "DATA x2: 250 2.0.0 OK"]
    options = [
        "rset=clear",
        *(f"reply={reply}" for reply in [*replies, "DATA: 554 5.6.0 Spam"]),
    ]
    with (
        Server("JsonLines", path, *options) as server,
        smtplib.SMTP(HOST, server.port) as client,
    ):
        client.sendmail("eva@example.com", "bob@example.com", HELLO)
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("refused@example.com", "bob@example.com", HELLO)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("eva@example.com", "x@bounce.test", HELLO)
        client.sendmail("eva@example.com", "bob@example.com", HELLO)
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("eva@example.com", "bob@example.com", HELLO)
        assert len(list(read_messages(path))) == 2
        client.rset()
        assert list(read_messages(path)) == []


def test_a_reset_that_fails_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mail.jsonl"
    with Server("JsonLines", path, "rset=clear") as server, server.client() as client:
        path.unlink()
        path.mkdir()
        assert client.command("RSET")[:9] == "451 4.3.0"
        path.rmdir()
        assert client.command("RSET") == "250 OK"
        line, *others = server.errors().splitlines()
    assert str(path) in line
    assert others == []


def test_a_reset_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    path = tmp_path / "mail.jsonl"
    path.touch()
    with (
        Server("JsonLines", path, "rset=clear") as server,
        server.client() as waiting,
        server.client() as quick,
        ExitStack() as locked,
    ):
        locked.enter_context(flock(path))
        waiting.socket.sendall(b"RSET\r\n")
        for _ in range(20):
            assert quick.command("NOOP") == "250 OK"
        assert select.select([waiting.socket], [], [], 0)[0] == []
        locked.close()
        assert waiting.reply() == "250 OK"


def test_a_refused_rset_empties_nothing(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    options = ["rset=clear", "reply=RSET x1: 450 Not now"]
    with Server("MailFile", path, *options) as server, server.client() as client:
        client.send()
        assert client.command("RSET") == "450 Not now"
        assert path.exists()
        assert client.command("RSET") == "250 OK"
        assert not path.exists()


# What aiosmtpd alone would refuse


def test_an_address_is_taken_as_it_is(kind: Kind, store: Path) -> None:
    odd = [
        "a@x..org",
        ".a@b",
        "a.@docomo.test",
        "a..b@c",
        "a@",
        "a@[",
        "\udcff@b",
        "zoë@ü.test",
    ]
    with Server(kind.handler, store) as server:
        for address in odd:
            assert server.send(sender=address, to=["bob@example.com", address]) == "250 OK"
            envelope = envelope_of(store)
            assert envelope.mail_from == address
            assert envelope.rcpt_tos == ["bob@example.com", address]
        with server.client() as client:
            assert "SMTPUTF8" not in client.command("EHLO laptop")
            assert "SMTPUTF8" not in client.command("EHLO again")
            for path in ["<a@[>x", "a@x..org", "<a@", "<"]:
                assert client.command(f"MAIL FROM:{path}") == (
                    "553 5.1.3 Error: malformed address"
                )
        with server.client() as client:
            client.command("HELO laptop")
            assert client.command("MAIL FROM:<zoë@x..org>") == "250 OK"
        assert server.errors() == ""


def test_utf8_is_offered_where_the_command_was_told(tmp_path: Path) -> None:
    with (
        Server("MailFile", tmp_path / "latest.mail", flags=["-n", "-u"]) as server,
        server.client() as client,
    ):
        assert "SMTPUTF8" in client.command("EHLO laptop")
        assert "SMTPUTF8" in client.command("EHLO again")


def test_parameters_of_dsn_and_auth_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    options = "SIZE=30 RET=HDRS ENVID=QQ314159 AUTH=<>"
    with Server("MailFile", path) as server, server.client() as client:
        for _ in range(2):
            client.command("EHLO laptop")
        assert client.command(f"MAIL FROM:<eva@example.com> {options}") == "250 OK"
        to = "RCPT TO:<bob@example.com>"
        assert client.command(f"{to} NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@c") == "250 OK"
        assert client.command(f"{to} SOMETHING=1")[:3] == "555"
        assert client.command(f"{to} NOTIFY=")[:3] == "501"
        client.command("DATA")
        assert client.finish(HELLO) == "250 OK"
        assert client.command("MAIL FROM:<eva@example.com> SOMETHING=1")[:3] == "555"
        assert client.command("MAIL FROM:<eva@example.com> BODY=9BIT")[:3] == "501"
    assert envelope_of(path).mail_options == options.split()


# max_line


def test_long_lines_are_let_in_on_request(tmp_path: Path) -> None:
    path = tmp_path / "latest.mail"
    content = b"Subject: long\r\n\r\n" + b"x" * 9_998 + b"\r\n"
    with Server("MailFile", path) as server:
        assert server.send(content)[:3] == "500"
    assert path.read_bytes() == b""
    with Server("MailFile", path, "max_line=10000") as server:
        assert server.send(content) == "250 OK"
        assert read_latest(path).original_content == content
        assert server.send(content.replace(b"\r\n\r\n", b"\r\n\r\nx"))[:3] == "500"


@pytest.mark.mailcatcher(max_line=100_000)
def test_long_lines_are_let_in_by_a_controller(mailcatcher: MailCatcher) -> None:
    content = b"Subject: long\r\n\r\n" + b"x" * 99_998 + b"\r\n"
    with Client(mailcatcher.port) as client:
        assert client.send(content) == "250 OK"
    assert mailcatcher.latest().original_content == content


def test_long_lines_are_let_in_after_starttls(tmp_path: Path, certificate: Certificate) -> None:
    path = tmp_path / "latest.mail"
    content = b"Subject: long\r\n\r\n" + b"x" * 99_998 + b"\r\n"
    handler = MailFile(path, max_line=100_000)
    with (
        controlled(handler, tls_context=server_side(certificate)) as controller,
        Client(controller.port) as client,
    ):
        client.command("EHLO laptop")
        client.starttls(certificate.client)
        assert client.send(content) == "250 OK"
        assert client.send(b"x" + content)[:3] == "250"
        assert client.send(content[:-2] + b"x\r\n")[:3] == "500"
    assert read_latest(path).original_content == b"x" + content


def test_two_handlers_have_each_its_limit(tmp_path: Path) -> None:
    content = b"x" * 2000 + b"\r\n"
    short = MailFile(tmp_path / "short.mail")
    long = MailFile(tmp_path / "long.mail", max_line=3000)
    with controlled(short) as one, controlled(long) as two:
        for controller, code in [(one, "500"), (two, "250"), (one, "500")]:
            with Client(controller.port) as client:
                assert client.send(content)[:3] == code
            with Client(controller.port) as client:
                client.command("HELO laptop")
                client.command("MAIL FROM:<a@b>")
                client.command("RCPT TO:<a@b>")
                client.command("DATA")
                assert client.finish(content)[:3] == code


def test_the_next_test_has_the_limit_of_aiosmtpd(mailcatcher: MailCatcher) -> None:
    assert SMTP.line_length_limit == 1001
    with Client(mailcatcher.port) as client:
        assert client.send(b"x" * 2000 + b"\r\n")[:3] == "500"
    wait_until(lambda: mailcatcher.sessions)
