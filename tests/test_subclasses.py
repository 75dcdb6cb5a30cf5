"""What a subclass of a handler may do: refuse, store twice, show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import HELLO, Client, Kind

import mailhandlers
from mailhandlers import Inbox, JsonLines, Mail, MailCatcher, MaildirSink, MboxSink, Reply

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Session
    from aiosmtpd.smtp import Envelope as SMTPEnvelope


class Course(MaildirSink):
    """A Maildir for the addresses of one course."""

    async def handle_RCPT(
        self,
        server: SMTP,
        session: Session,
        envelope: SMTPEnvelope,
        address: str,
        options: list[str],
    ) -> str:
        if not address.endswith("@course.example"):
            return "550 5.1.1 No such user"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"


class Twice(MaildirSink):
    """A Maildir, and an mbox of the same mail beside it."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        self.archive = MboxSink(f"{path}.mbox", **options)

    async def store(self, mail: Mail) -> str:
        reply = await self.archive.store(mail)
        return await super().store(mail) if reply.startswith("250") else reply

    def close(self) -> None:
        super().close()
        self.archive.close()


def test_a_hook_refuses_a_recipient(tmp_path: Path) -> None:
    refusal = "550 5.1.1 No such user"
    with (
        MailCatcher(Course(tmp_path / "inbox", sync=False)) as mail,
        Client(mail.port) as client,
    ):
        assert client.send(to=["bob@course.example"]) == "250 OK"
        assert client.send(to=["eva@example.com"]) == refusal
        with mail.replying(Reply("RCPT", "450 4.2.1 Busy", "carol@*")):
            assert client.send(to=["carol@course.example"]) == "450 4.2.1 Busy"
            assert client.send(to=["eva@example.com"]) == refusal
        assert [m.envelope.rcpt_tos for m in mail] == [["bob@course.example"]]


@pytest.mark.parametrize("sync", [True, False])
def test_two_stores_have_one_identity(tmp_path: Path, sync: bool) -> None:
    with (
        MailCatcher(Twice(tmp_path / "inbox", sync=sync)) as mail,
        Client(mail.port) as client,
    ):
        for _ in range(2):
            assert client.send() == "250 OK"
    both = [Inbox(tmp_path / name).messages() for name in ("inbox", "inbox.mbox")]
    assert [m.envelope for m in both[0]] == [m.envelope for m in both[1]]
    assert [m.original_content for m in both[1]] == [HELLO, HELLO]


def test_what_one_store_refuses_the_client_is_told(tmp_path: Path) -> None:
    handler = Twice(tmp_path / "inbox", sync=False)
    (tmp_path / "inbox.mbox").mkdir()
    with MailCatcher(handler) as mail, Client(mail.port) as client:
        assert client.send().startswith("451 4.3.0")
        assert len(mail) == 0


def test_shown_on_the_console_and_stored(
    kind: Kind, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler: Any = _shown(getattr(mailhandlers, kind.handler))(store, sync=False)
    with MailCatcher(handler) as mail, Client(mail.port) as client:
        assert client.send() == "250 OK"
        assert mail.latest().original_content == HELLO
    assert capsys.readouterr().out == "eva@example.com sends 32 octets: 250 OK\n"


def _shown(base: Any) -> Callable[..., object]:
    class Shown(base):  # type: ignore[misc]
        """A store that tells of each message."""

        async def store(self, mail: Mail) -> str:
            reply: str = await super().store(mail)
            print(f"{mail.envelope.mail_from} sends {mail.envelope.size} octets: {reply}")
            return reply

    return Shown


def test_a_handler_is_given_mail_of_another_source(tmp_path: Path) -> None:
    async def copy() -> str:
        handler = JsonLines(tmp_path / "mail.jsonl", sync=False)
        try:
            return await handler.store(Mail(message.envelope, message.original_content))
        finally:
            handler.close()

    with MailCatcher() as mail, Client(mail.port) as client:
        assert client.send() == "250 OK"
        message = mail.latest()
    assert asyncio.run(copy()) == "250 OK"
    assert Inbox(tmp_path / "mail.jsonl").latest().envelope == message.envelope
