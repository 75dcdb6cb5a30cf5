"""``mailhandlers check``: what it prints, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from shell import mail, put, raw_mail, shell

from mailhandlers.cli.main import main

HEADERS = (
    b"From: eva@example.com\r\nDate: Mon, 30 Nov 2026 08:48:00 +0000\r\n"
    b"Message-ID: <%b@example.com>\r\nSubject: %b\r\n\r\nHello\r\n"
)
GOOD = raw_mail(HEADERS % (b"1", b"Welcome"))
FAULTY = raw_mail(b"From: eva@example.com\r\nSubject: Reset\r\n\r\nHello\r\n")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    put("MaildirSink", tmp_path / "inbox", GOOD, FAULTY)
    return tmp_path / "inbox"


def test_the_problems_of_each_message(store: Path) -> None:
    checked = shell("check", store)
    assert checked.returncode == 1
    title, *problems = checked.stdout.splitlines()
    assert title == "to bob@example.com: 'Reset'"
    assert [line.partition(":")[0] for line in problems] == ["  no-date", "  no-message-id"]
    assert problems[0].endswith(" (RFC 5322 section 3.6.1)")
    assert checked.stderr == "2 messages checked, 1 with problems\n"


def test_no_problem(store: Path) -> None:
    checked = shell("check", store, "--subject", "Welcome")
    assert (checked.returncode, checked.stdout) == (0, "")
    assert checked.stderr == "1 message checked, 0 with problems\n"


def test_where_nothing_was_checked_nothing_is_well(store: Path, tmp_path: Path) -> None:
    checked = shell("check", store, "--to", "carol@example.com")
    assert (checked.returncode, checked.stdout) == (1, "")
    assert "no message in" in checked.stderr
    assert "to bob@example.com: 'Reset'" in checked.stderr
    checked = shell("check", tmp_path / "none")
    assert checked.returncode == 1
    assert "nothing is there yet" in checked.stderr


def test_problems_that_are_none_to_somebody(store: Path) -> None:
    checked = shell("check", store, "--ignore", "no-date", "--ignore", "no-message-id")
    assert (checked.returncode, checked.stdout) == (0, "")
    misspelt = shell("check", store, "--ignore", "no-dates")
    assert misspelt.returncode == 2
    assert "invalid choice: 'no-dates' (choose from" in misspelt.stderr


def test_json(store: Path) -> None:
    checked = shell("check", store, "--json")
    assert (checked.returncode, checked.stderr) == (1, "")
    first, second = map(json.loads, checked.stdout.splitlines())
    assert list(first) == ["id", "received", "mail_from", "rcpt_tos", "subject", "problems"]
    assert (first["subject"], first["problems"]) == ("Welcome", [])
    assert [problem["name"] for problem in second["problems"]] == ["no-date", "no-message-id"]
    assert list(second["problems"][0]) == ["name", "text", "source", "url"]


def test_a_message_id_that_repeats(tmp_path: Path) -> None:
    again = raw_mail(GOOD.content.replace(b"08:48", b"09:48"))
    put("MboxSink", tmp_path / "mail.mbox", GOOD, again)
    checked = shell("check", tmp_path / "mail.mbox")
    assert checked.returncode == 1
    assert (
        "  repeated-message-id: Another mail has the same Message-ID (<1@exa" in checked.stdout
    )


def test_a_key(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("dkim", reason="dkimpy is not installed")
    key = tmp_path / "key"
    key.write_text("hello")
    wrong = shell("check", store, "--dkim-key", key)
    assert wrong.returncode == 2
    assert "holds no key for DKIM" in wrong.stderr
    missing = shell("check", store, "--dkim-key", tmp_path / "none")
    assert (missing.returncode, "No such file" in missing.stderr) == (2, True)


def test_a_terminal(store: Path, monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    put("MaildirSink", store, mail("\x1b[2J", html='<img src="\x1b[2J">'))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["check", str(store)]) == 1
    lines = capsys.readouterr().out.splitlines()  # type: ignore[attr-defined]
    assert all(line.isprintable() and len(line) <= 60 for line in lines)
    assert any(line.startswith("    ") for line in lines)
