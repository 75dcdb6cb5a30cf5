"""The commands that read: list, show, follow, open and attachments."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from shell import COMMAND, Shell, mail, put, raw_mail, shell
from support import IS_ROOT, ON_DISK, PATIENCE, Kind, Process, json_line

from mailhandlers import Inbox
from mailhandlers.cli.main import main

WELCOME = mail(
    "Welcome",
    "Your code is 123 456: https://example.com/confirm?x=1\n",
    html="<p>Your <b>code</b> is 123456: <a href='https://e.test/1'>confirm</a></p>",
)
FILES = {"report.pdf": b"\0\1", "../../etc/passwd": b"root"}


def test_list_tells_who_when_and_what(
    kind: Kind, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mails = [mail("one", to=["bob@x.test", "carol@x.test"]), mail("two", sender="")]
    put(kind.handler, store, *mails)
    assert main(["list", str(store)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    expected = [
        [
            made.envelope.to_dict()["received"],
            made.envelope.mail_from or "<>",
            ", ".join(made.envelope.rcpt_tos),
            str(made.envelope.size),
            subject,
        ]
        for made, subject in zip(mails, ["one", "two"], strict=True)
    ]
    assert lines == expected[0 if kind.keeps_all else 1 :]


def test_no_such_mail_may_be_there(
    kind: Kind, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(kind.handler, store, mail("one"))
    assert main(["list", str(store), "--none", "--to", "carol@x.test"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["list", str(store), "--none", "--to", "bob@example.com"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "mailhandlers: a message is there where none may be: to bob@example.com: 'one'\n"
    )


def test_messages_are_counted(
    kind: Kind, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(kind.handler, store, mail("one"), mail("two", to=["carol@x.test"]))
    all_count, to_bob = ("2", "1") if kind.keeps_all else ("1", "0")
    for asked, count in (([], all_count), (["--to", "bob@example.com"], to_bob)):
        assert main(["list", str(store), "--count", *asked]) == 0
        assert capsys.readouterr() == (f"{count}\n", "")
    with pytest.raises(SystemExit):
        main(["list", str(store), "--count", "--json"])
    assert "--count prints a number" in capsys.readouterr().err


def test_json_is_short_for_print_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put("MaildirSink", tmp_path / "inbox", mail("one"), mail("two"))
    assert main(["list", str(tmp_path / "inbox"), "--print", "json"]) == 0
    lines = capsys.readouterr().out
    assert [json.loads(line)["subject"] for line in lines.splitlines()] == ["one", "two"]
    assert main(["list", str(tmp_path / "inbox"), "--json"]) == 0
    assert capsys.readouterr().out == lines


def test_a_field_of_a_list_is_one_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = raw_mail(b"Subject: a\tb\x85c\x1b[2J\r\n \xe2\x80\xa8d\r\n\r\n", to=["a\rb\tc@d"])
    put("MaildirSink", tmp_path / "inbox", odd)
    assert main(["list", str(tmp_path / "inbox")]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.count("\t") == 4
    assert line.replace("\t", "").isprintable()


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ([], ["hello", "Welcome", "hello"]),
        (["--to", "CAROL@x.test"], ["Welcome"]),
        (["--mail-from", ""], ["hello"]),
        (["--subject", "hello"], ["hello", "hello"]),
        (["--subject", "ell"], []),
        (["--subject-matching", "ell"], ["hello", "hello"]),
        (["--subject-matching", "^W.*e$"], ["Welcome"]),
        (["--matching", "^Subject: W.*e$|nonsense"], ["Welcome"]),
        (["--matching", r"\ASubject: W.*e\Z"], []),
        (["--subject", "hello", "--to", "bob@example.com"], ["hello"]),
    ],
)
def test_all_criteria_must_be_met(
    criteria: list[str], found: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "mail.mbox"
    mails = [mail(), mail("Welcome", to=["carol@x.test"]), mail(to=["dan@x.test"], sender="")]
    put("MboxSink", store, *mails)
    assert main(["list", str(store), *criteria]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[-1] for line in lines] == found


@pytest.mark.parametrize(
    ("view", "printed"),
    [
        ("text", "Your code is 123 456: https://example.com/confirm?x=1\n"),
        ("html", "<p>Your <b>code</b> is 123456: <a href='https://e.test/1'>confirm</a></p>\n"),
        ("links", "https://example.com/confirm?x=1\nhttps://e.test/1\n"),
        ("codes", "123456\n"),
        ("source", WELCOME.content),
        ("json", json_line(WELCOME)),
    ],
)
def test_what_is_printed_is_what_python_reads(
    kind: Kind,
    store: Path,
    view: str,
    printed: str | bytes,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    put(kind.handler, store, WELCOME)
    shown = printed if isinstance(printed, bytes) else printed.encode()
    assert main(["show", str(store), "--print", view]) == 0
    assert capfdbinary.readouterr().out == shown
    assert main(["list", str(store), "--print", view]) == 0
    assert capfdbinary.readouterr().out == shown


def test_headers_are_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = raw_mail(b"Subject: =?utf-8?q?a=0Ab=E2=80=A9c?=\r\n d\r\nX-Odd: e\x0bf\r\n\r\n")
    put("MaildirSink", tmp_path / "inbox", odd)
    assert main(["show", str(tmp_path / "inbox"), "--print", "headers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Subject", "X-Odd"]


def test_show_is_for_people(kind: Kind, store: Path, shell_here: Shell) -> None:
    put(kind.handler, store, mail("Über", "Text.\n", to=["bob@x.test"], files=FILES))
    shown = shell_here("show", store)
    lines = shown.stdout.splitlines()
    when = lines.pop(4)
    assert when.startswith("Received:  20")
    assert when.endswith(", ESMTP from 127.0.0.1:54321")
    assert lines == [
        "From:      Eva <eva@example.com>",
        "To:        bob@x.test",
        "Subject:   Über",
        "Envelope:  eva@example.com -> bob@x.test",
        "Attached:  report.pdf (application/octet-stream, 2 B)",
        "Attached:  ../../etc/passwd (application/octet-stream, 4 B)",
        "",
        "Text.",
    ]
    assert (shown.returncode, shown.stderr) == (0, "")


def test_show_has_the_text_of_the_html(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = b"<style>x</style><h1>Hi</h1>\r\n\r\n\r\n<p>Your\r\n   code <b>1234</b>\r\n<p>Bye"
    put("MaildirSink", tmp_path / "inbox", raw_mail(b"Content-Type: text/html\r\n\r\n" + page))
    assert main(["show", str(tmp_path / "inbox")]) == 0
    shown = capsys.readouterr().out.partition("\n\n")[2]
    assert [line for line in shown.split("\n") if line] == ["Hi", "Your code 1234", "Bye"]
    assert "\n\n\n" not in shown


def test_show_tells_why_there_is_nothing(kind: Kind, store: Path, shell_here: Shell) -> None:
    put(kind.handler, store, mail())
    shown = shell_here("show", store, "--to", "carol@x.test", "--timeout", "0.01")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == (
        f"no message in {store} with to='carol@x.test', in 0.01 s; the nearest misses:\n"
        "  to bob@example.com: 'hello'\n"
    )


def test_show_waits_for_mail(kind: Kind, store: Path) -> None:
    command = [*COMMAND, "show", str(store), "--timeout", "30", "--print", "text"]
    with Process(command, stdout=subprocess.PIPE, text=True) as showing:
        put(kind.handler, store, mail())
        out, _ = showing.communicate(timeout=PATIENCE)
    assert (showing.returncode, out) == (0, "How are you?\n")


@pytest.mark.parametrize("view", ["html", "links", "codes"])
def test_what_a_message_has_not_is_told(view: str, tmp_path: Path, shell_here: Shell) -> None:
    put("MaildirSink", tmp_path / "inbox", mail())
    shown = shell_here("show", tmp_path / "inbox", "--print", view)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr == (
        f"mailhandlers: the message has no {view}: to bob@example.com: 'hello'\n"
    )


def test_other_programs_mail_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.eml").write_bytes(b"From: a@x.test\nTo: b@x.test\nSubject: Hi\n\nText\n")
    assert main(["list", str(tmp_path / "one.eml")]) == 0
    assert capsys.readouterr().out.split("\t")[1:3] == ["a@x.test", "b@x.test"]
    assert main(["show", str(tmp_path / "one.eml")]) == 0
    assert "Subject:   Hi\n" in capsys.readouterr().out


def test_what_another_program_changed_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "mail.mbox"
    put("MboxSink", store, mail("one"), mail("two"))
    store.write_bytes(store.read_bytes().replace(b"How are you?", b"Who are you?", 1))
    assert main(["list", str(store)]) == 0
    ends = [line.split("\t")[4:] for line in capsys.readouterr().out.splitlines()]
    assert ends == [["one", "altered"], ["two"]]
    for subject, told in (("one", True), ("two", False)):
        assert main(["show", str(store), "--subject", subject]) == 0
        assert ("\nAltered:   " in capsys.readouterr().out) == told


@pytest.mark.posix
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "inbox").symlink_to(tmp_path / "inbox")
    listed = shell("list", tmp_path / "inbox")
    assert listed.returncode == 2
    assert listed.stderr == (
        f"mailhandlers: {tmp_path}/inbox: Too many levels of symbolic links\n"
    )


@ON_DISK
def test_a_store_that_is_not_there_is_told(kind: Kind, store: Path, shell_here: Shell) -> None:
    listed = shell_here("list", store)
    assert (listed.returncode, listed.stdout) == (0, "")
    assert listed.stderr == f"{store}: nothing is there yet\n"


def test_attachments_are_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, folder = tmp_path / "inbox", tmp_path / "deep" / "folder"
    put("MaildirSink", store, mail("with", files=FILES), mail("without"))
    for names in (["report.pdf", "passwd"], ["report-2.pdf", "passwd-2"]):
        assert main(["attachments", str(store), str(folder), "--subject", "with"]) == 0
        paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
        assert paths == [folder / name for name in names]
        assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert main(["attachments", str(store), str(folder)]) == 1
    assert "the message has no attachments: to bob" in capsys.readouterr().err


@pytest.mark.posix
def test_open_shows_a_page_of_its_own(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    put("MaildirSink", tmp_path / "inbox", mail("Über", html="<p>Über"), mail())
    env = {"BROWSER": str(browser), "TMPDIR": str(tmp_path)}
    opened = shell("open", tmp_path / "inbox", "--subject", "Über", env=env)
    assert (opened.returncode, opened.stderr) == (0, "")
    page = Path(opened.stdout.rstrip("\n"))
    assert (tmp_path / "opened").read_text() == f"{page.as_uri()}\n"
    assert page.parent.stat().st_mode & 0o077 == 0
    assert page.parent.parent == tmp_path
    message = Inbox(tmp_path / "inbox").latest(subject="Über")
    assert page.read_text(encoding="utf-8") == message.page()


def page_opened(folder: Path) -> Path:
    opened = shell("open", folder / "inbox", env={"BROWSER": "true", "TMPDIR": str(folder)})
    assert (opened.returncode, opened.stderr) == (0, "")
    return Path(opened.stdout.rstrip("\n"))


@pytest.mark.posix
def test_open_removes_pages_of_the_day_before(tmp_path: Path) -> None:
    put("MaildirSink", tmp_path / "inbox", mail())
    old, new = page_opened(tmp_path), page_opened(tmp_path)
    assert old != new
    # As if two first calls had come together.
    second = tmp_path / "mailhandlers-pages-~"
    second.mkdir(mode=0o700)
    (second / "message-old.html").touch()
    os.utime(second / "message-old.html", (1, 1))
    notes = old.with_name("notes")
    notes.touch()
    for path, hours in ((old, 25), (notes, 25), (new, 23)):
        then = time.time() - hours * 3600
        os.utime(path, (then, then))
    newest = page_opened(tmp_path)
    assert {*new.parent.iterdir()} == {notes, new, newest}
    assert {*tmp_path.glob("mailhandlers-*")} == {new.parent, second}
    assert [*second.iterdir()] == []


@pytest.mark.posix
@pytest.mark.parametrize("trap", ["link", "readable", "file"])
def test_open_takes_only_a_private_folder(tmp_path: Path, trap: str) -> None:
    put("MaildirSink", tmp_path / "inbox", mail())
    found = tmp_path / "mailhandlers-pages-trap"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if trap == "link":
        found.symlink_to(elsewhere)
    elif trap == "readable":
        found.mkdir()
        found.chmod(0o755)
    else:
        found.touch()
    page = page_opened(tmp_path)
    assert page.parent not in (found, elsewhere)
    assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
    assert [*elsewhere.iterdir()] == []
    assert page_opened(tmp_path).parent == page.parent


@pytest.mark.skipif(not IS_ROOT, reason="only root can be two users")
def test_open_leaves_what_other_users_have(tmp_path: Path) -> None:
    put("MaildirSink", tmp_path / "inbox", mail())
    folder = tmp_path / "mailhandlers-pages-theirs"
    folder.mkdir(mode=0o700)
    theirs = folder / "message-theirs.html"
    theirs.touch()
    os.utime(theirs, (1, 1))
    os.chown(folder, 1, 1)
    page = page_opened(tmp_path)
    assert page.parent != folder
    assert [*folder.iterdir()] == [theirs]


@pytest.mark.posix
def test_open_says_when_there_is_no_browser(tmp_path: Path) -> None:
    put("MaildirSink", tmp_path / "inbox", mail())
    env = {"BROWSER": "/bin/false", "PATH": "", "TMPDIR": str(tmp_path), "DISPLAY": ""}
    opened = shell("open", tmp_path / "inbox", env=env)
    assert opened.returncode == 1
    assert "set BROWSER" in opened.stderr
    assert Path(opened.stdout.rstrip("\n")).exists()


def test_open_may_only_write(tmp_path: Path) -> None:
    put("MaildirSink", tmp_path / "inbox", mail())
    env = {"BROWSER": f"touch {tmp_path}/opened %s"}
    opened = shell("open", tmp_path / "inbox", "--output", tmp_path / "page.html", env=env)
    assert (opened.returncode, opened.stdout, opened.stderr) == (0, "", "")
    assert "How are you?" in (tmp_path / "page.html").read_text()
    assert not (tmp_path / "opened").exists()


@contextmanager
def following(store: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``follow``, which has begun: it has printed the subject of what is there."""
    with Process(
        [*COMMAND, "follow", store, "--from-start", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().endswith("\tfirst\n")
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """Return the subject of the next line."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n").rpartition("\t")[2]


def test_follow_shows_what_arrives(kind: Kind, store: Path) -> None:
    put(kind.handler, store, mail("first"))
    with following(store) as process:
        delays = []
        for number in range(10):
            put(kind.handler, store, mail(f"next {number}"))
            stored = time.monotonic()
            assert line(process) == f"next {number}"
            delays.append(time.monotonic() - stored)
    assert min(delays) < 1  # as long as tail -F sleeps


@ON_DISK
@pytest.mark.posix
def test_follow_survives_rotation_and_removal(kind: Kind, store: Path) -> None:
    put(kind.handler, store, mail("first"))
    with following(store) as process:
        os.rename(store, f"{store}.1")
        put(kind.handler, store, mail("rotated"))
        assert line(process) == "rotated"
        shutil.rmtree(store) if kind.is_folder else store.unlink()
        put(kind.handler, store, mail("made anew"))
        assert line(process) == "made anew"


@pytest.mark.posix
def test_follow_ends_with_its_pipe(tmp_path: Path) -> None:
    put("MaildirSink", tmp_path / "inbox", mail("first"))
    with following(tmp_path / "inbox") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # and nothing more arrives
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == ""


@pytest.mark.posix
def test_follow_ends_with_ctrl_c(tmp_path: Path) -> None:
    put("MaildirSink", tmp_path / "inbox", mail("first"))
    with following(tmp_path / "inbox") as process:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 130


def test_follow_ends_when_nothing_comes(tmp_path: Path) -> None:
    put("JsonLines", tmp_path / "mail.jsonl", mail("first"), mail("second"))
    arguments = ["--from-start", "--timeout", "0.1", "--print", "json"]
    followed = shell("follow", tmp_path / "mail.jsonl", *arguments)
    assert (followed.returncode, followed.stderr) == (0, "")
    records = [json.loads(line) for line in followed.stdout.splitlines()]
    assert [record["subject"] for record in records] == ["first", "second"]


def test_a_list_ends_with_its_pipe(tmp_path: Path) -> None:
    # More than a pipe holds, so that the writer finds it closed.
    put("JsonLines", tmp_path / "mail.jsonl", *(mail("x" * 2000) for _ in range(100)))
    with Process[bytes](
        [*COMMAND, "list", tmp_path / "mail.jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == b""


def test_what_arrived_since_an_id(tmp_path: Path, shell_here: Shell) -> None:
    mails = [mail("one"), mail("two"), mail("three")]
    put("JsonLines", tmp_path / "m", *mails)
    done = shell_here(
        "list", tmp_path / "m", "--since", mails[0].envelope.id, "--print", "headers"
    )
    assert "two" in done.stdout
    assert "three" in done.stdout
    assert "one" not in done.stdout
    assert (
        shell_here("list", tmp_path / "m", "--none", "--since", mails[2].envelope.id).returncode
        == 0
    )
    done = shell("list", tmp_path / "m", "--since", "")
    assert (done.returncode, "'' is no id of a message" in done.stderr) == (2, True)
