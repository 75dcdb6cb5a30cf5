"""What a terminal gets: columns, colour, and nothing that a client sent may act on it."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import COMMAND, mail, put, raw_mail
from strategies import mails
from support import PATIENCE, Process

from mailhandlers.cli import printing
from mailhandlers.cli.printing import Count, Output, fitted
from mailhandlers.mail import Mail
from mailhandlers.message.attachments import human_size
from mailhandlers.message.message import StoredMessage
from mailhandlers.message.visible import visible, visible_line

EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202etxt.exe\u2028\x7f\u2066"
STYLE = re.compile(r"\x1b\[[0-9;]+m")
HARMLESS = "\n\t\u00ad\u200b\u200c\u200d\u2060\ufeff"


class Terminal(io.StringIO):
    """A terminal that keeps what it is shown."""

    def isatty(self) -> bool:
        return True


def acting(shown: str) -> list[str]:
    """Return what acts in *shown*, our own styles aside."""
    return [
        char
        for char in STYLE.sub("", shown)
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char not in HARMLESS
    ]


def on_terminal(
    *arguments: str | os.PathLike[str], env: Mapping[str, str] | None = None
) -> str:
    """Run ``mailhandlers`` in a terminal of 80 columns; return what that got."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with Process[bytes](
        [*COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "TZ": "UTC", **(env or {})},
    ) as process:
        os.close(theirs)
        got = b""
        try:
            while data := os.read(ours, 1 << 16):
                got += data
        except OSError:  # Linux: nobody has the other end any more
            pass
        finally:
            os.close(ours)
        _, errors = process.communicate(timeout=PATIENCE)
    assert errors == b""
    return got.decode().replace("\r\n", "\n")


@given(st.text() | st.text(st.characters(categories=["C", "Z"])))
def test_nothing_visible_acts(text: str) -> None:
    assert acting(visible(text)) == []
    assert acting(visible_line(text)) == []
    assert not set("\n\t") & set(visible_line(text))


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from("\n\t ")))
def test_what_is_visible_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (EVIL, r"\x1b]0;pwned\x07\x1b[2J\x9b31m\u202etxt.exe\u2028\x7f\u2066"),
        ("a\u00a0b", "a b"),
        ("\udc80\udfff\U000e0041", r"\x80\udfff\U000e0041"),
        ("👩\u200d💻 ש\u200cל", "👩\u200d💻 ש\u200cל"),
        ("\ue000", "\ue000"),
    ],
)
def test_what_acts_is_shown_as_a_code(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(mails())
def test_no_message_acts_on_a_terminal(made: Mail) -> None:
    screen = Terminal()
    output = Output(screen)
    message = StoredMessage.parse(made.content, made.envelope)
    printing.print_for_people(message, output)
    before = screen.getvalue().count("\n")
    printing.print_line(message, output)
    assert screen.getvalue().count("\n") == before + 1
    for view in printing.VIEWS:
        printing.print_view(message, view, output)
    assert acting(screen.getvalue()) == []


@pytest.mark.parametrize("view", [None, *printing.VIEWS])
def test_a_hostile_message_in_a_terminal(view: str | None, tmp_path: Path) -> None:
    text = f"{EVIL} 1234 http://x.test/{EVIL}\n"
    evil = mail("x", text, html=text, files={"evil\u202efdp.exe": b""}, to=["a@x.test"])
    content = evil.content.replace(b"Subject: x", f"Subject: {EVIL}".encode())
    put("MaildirSink", tmp_path / "inbox", raw_mail(content, to=[f"{EVIL}@x.test"]))
    arguments = ["--print", view] if view else []
    for command in ("show", "list"):
        shown = on_terminal(command, tmp_path / "inbox", *arguments)
        assert shown
        assert acting(shown) == []


def test_a_subject_makes_up_no_header(tmp_path: Path) -> None:
    spaces = b" " * 150
    content = b"Subject: hi" + spaces + b"Envelope:  boss@x.test -> you\r\n\r\n"
    put("MaildirSink", tmp_path / "inbox", raw_mail(content))
    shown = STYLE.sub("", on_terminal("show", tmp_path / "inbox"))
    assert "Subject:   hi Envelope: boss@x.test -> you\n" in shown


@pytest.mark.parametrize(
    ("env", "has_colour"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    env: dict[str, str], has_colour: bool, tmp_path: Path
) -> None:
    put("MaildirSink", tmp_path / "inbox", mail())
    for command in ("show", "list", "follow"):
        extra = ["--from-start", "--timeout", "0"] if command == "follow" else []
        shown = on_terminal(command, tmp_path / "inbox", *extra, env=env)
        assert "hello" in shown
        assert bool(STYLE.search(shown)) == has_colour


def test_a_list_in_a_terminal_has_columns(tmp_path: Path) -> None:
    mails = [
        mail("short"),
        mail("会議の議事録" * 9, to=["a-very-long-name@example.com", "bob@example.com"]),
        mail("e\u0301" * 70, "x" * 3000, sender="a-long-sender@subdomain.example.com"),
    ]
    put("MaildirSink", tmp_path / "inbox", *mails)
    lines = on_terminal("list", tmp_path / "inbox", env={"NO_COLOR": "1"}).splitlines()
    cells = [[fitted(part, 1) for part in re.split("  +", line)] for line in lines]
    assert [len(row) for row in cells] == [5, 5, 5]
    assert [line.endswith("…") for line in lines] == [False, True, True]
    sizes = [re.search(r"\d+(\.\d)? k?B", line) for line in lines]
    assert len({size.end() for size in sizes if size}) == 1


@given(st.text(st.sampled_from("aé会e\u0301\u200d👩 "), max_size=30), st.integers(1, 20))
def test_what_is_fitted_has_the_width(text: str, width: int) -> None:
    made = fitted(text, width)
    columns = sum(
        0
        if unicodedata.combining(char) or char == "\u200d"
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in made
    )
    assert columns == width


@pytest.mark.parametrize(
    ("octets", "told"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (31_460_000, "31.5 MB"), (2e9, "2.0 GB")],
)
def test_sizes_as_people_read_them(octets: int, told: str) -> None:
    assert human_size(octets) == told


SHOW = """
import sys
from mailhandlers.cli.main import main
for view in ([], ["--print", "text"], ["--print", "headers"]):
    assert main(["show", sys.argv[1], *view]) == 0
"""


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_what_a_code_page_has_no_sign_for_is_escaped(encoding: str, tmp_path: Path) -> None:
    put("MaildirSink", tmp_path / "inbox", mail("Ωmega é", "text: Ωmega é\n"))
    done = subprocess.run(
        [sys.executable, "-c", SHOW, tmp_path / "inbox"],
        capture_output=True,
        check=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    shown = "Ωmega é".encode(encoding, "backslashreplace")
    lines = done.stdout.splitlines()
    assert [line for line in lines if shown in line] == [
        b"Subject:   " + shown,
        b"text: " + shown,
        b"text: " + shown,
        b"Subject: " + shown,
    ]
    assert done.stderr == b""


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EINVAL])  # the second is Windows'
def test_a_pipe_that_nobody_reads_is_told_by_its_name(number: int) -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise OSError(number, os.strerror(number))

    for write in (Output(Closed()).lines, Output(Closed()).text):
        with pytest.raises(BrokenPipeError):
            write("hello")
    with pytest.raises(BrokenPipeError):
        Output(Closed()).octets(b"hello")


def test_one_is_no_plural(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    sent = Count("sent")
    sent.add(1)
    sent.add(1)
    assert terminal.getvalue() == "\r1 message sent ...\r2 messages sent ..."
