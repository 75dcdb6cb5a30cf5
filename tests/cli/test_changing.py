"""The commands that change a store: copy, exactly and never twice, and clear."""

from __future__ import annotations

import errno
import mailbox
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shell import COMMAND, mail, put, raw_mail, shell
from strategies import mails
from support import KINDS, PATIENCE, Kind, Process, tree, wait_until

from mailhandlers import Inbox
from mailhandlers.cli.changing import Identities
from mailhandlers.cli.main import main
from mailhandlers.mail import Mail

MAILS = [
    mail("one", to=["bob@x.test", "Bob@x.test", "carol@x.test"]),
    raw_mail(b"\xff\0 no headers\r\n.\r\n\r\nFrom here\r\n", sender=""),
    raw_mail(b""),
    mail("four", "no end"),
]
LEADING = b"From eva@x.test Fri Nov 21 08:48:0%d 2025\n"


def held(store: Path) -> list[Mail]:
    """Return what *store* holds, in order."""
    return [Mail(message.envelope, message.original_content) for message in Inbox(store)]


@pytest.fixture(params=KINDS, ids=[f"to {kind.handler}" for kind in KINDS])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Kind, Path]:
    """Each of the five handlers, and where it keeps what is copied."""
    kind: Kind = request.param
    return kind, tmp_path / kind.store


def test_a_copy_is_exact(kind: Kind, store: Path, target: tuple[Kind, Path]) -> None:
    put(kind.handler, store, *MAILS)
    here = MAILS if kind.keeps_all else MAILS[-1:]
    to, path = target
    kept = here if to.keeps_all else here[-1:]
    assert main(["copy", str(store), to.handler, str(path), "sync=no"]) == 0
    assert held(path) == kept
    assert main(["copy", str(store), to.handler, str(path)]) == 0  # again
    assert held(path) == kept


def test_a_copy_tells_how_many(tmp_path: Path) -> None:
    put("MboxSink", tmp_path / "a", *MAILS[:2])
    copied = shell("copy", tmp_path / "a", "MaildirSink", tmp_path / "b")
    assert (copied.returncode, copied.stdout) == (0, "")
    assert copied.stderr == "2 messages copied; 0 were there already\n"
    put("MboxSink", tmp_path / "a", *MAILS[2:3])
    copied = shell("copy", tmp_path / "a", "MaildirSink", tmp_path / "b")
    assert copied.stderr == "1 message copied; 2 were there already\n"
    copied = shell("copy", tmp_path / "a", "MailFile", tmp_path / "c")
    assert copied.stderr == "1 message copied; 0 were there already\n"


def test_a_copy_to_standard_output(tmp_path: Path) -> None:
    put("MboxSink", tmp_path / "a", *MAILS)
    copied = shell("copy", tmp_path / "a", "JsonLines", "-")
    (tmp_path / "b").write_text(copied.stdout)
    assert copied.returncode == 0
    assert held(tmp_path / "b") == MAILS


def test_criteria_choose(tmp_path: Path) -> None:
    put("MboxSink", tmp_path / "a", *MAILS)
    arguments = ["copy", "--to", "carol@x.test", str(tmp_path / "a")]
    assert main([*arguments, "MaildirSink", str(tmp_path / "b"), "--subject", "one"]) == 0
    assert held(tmp_path / "b") == MAILS[:1]


def test_what_another_program_changed_stays_marked(
    target: tuple[Kind, Path], tmp_path: Path
) -> None:
    put("MboxSink", tmp_path / "a", MAILS[0])
    data = (tmp_path / "a").read_bytes().replace(b"How are you?", b"Who are you?")
    (tmp_path / "a").write_bytes(data)
    to, path = target
    for criteria in ([], ["--subject", "one"]):
        assert main(["copy", str(tmp_path / "a"), to.handler, str(path), *criteria]) == 0
        [copied] = Inbox(path)
        assert copied.is_altered
        assert copied.envelope == MAILS[0].envelope
        assert b"Who are you?" in copied.original_content


@pytest.mark.parametrize("there", KINDS, ids=[f"there {kind.handler}" for kind in KINDS])
def test_another_store_is_no_target(
    there: Kind, target: tuple[Kind, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    to, path = target
    if there == to:
        pytest.skip("it is the same kind of store")
    put(there.handler, path, MAILS[0])
    put("MboxSink", path.parent / "source", MAILS[3])
    before = tree(path.parent)
    with pytest.raises(SystemExit) as ended:
        main(["copy", str(path.parent / "source"), to.handler, str(path)])
    assert ended.value.code == 2
    assert "another" in capsys.readouterr().err
    assert tree(path.parent) == before


def test_a_message_in_two_entries_is_one(tmp_path: Path) -> None:
    put("MboxSink", tmp_path / "a", *MAILS)
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data + data)
    assert main(["copy", str(tmp_path / "a"), "JsonLines", str(tmp_path / "b")]) == 0
    assert held(tmp_path / "b") == MAILS


def foreign_mbox(path: Path) -> list[bytes]:
    """Write an mbox of another program's: equal messages, and dates out of order."""
    contents = [b"From: a@x.test\nTo: b@x.test\nSubject: %d\n\nText\n" % n for n in (1, 2, 1)]
    contents.append(b"Subject: for nobody\n\nText\n")
    entries = zip([7, 7, 3, 5], contents, strict=True)
    path.write_bytes(b"".join(LEADING % second + text + b"\n" for second, text in entries))
    return contents


def foreign_maildir(path: Path) -> list[bytes]:
    box = mailbox.Maildir(path)
    contents = [b"From: a@x.test\nTo: b@x.test\nSubject: %d\n\nText\n" % n for n in (1, 2)]
    for number, content in enumerate(contents):
        key = box.add(content)
        name = f"170000000{number}.V801I{number}.host,S=99"
        os.rename(path / "new" / key, path / "cur" / f"{name}:2,S")
    return contents


def eml_folder(path: Path) -> list[bytes]:
    path.mkdir()
    contents = [b"From: a@x.test\nTo: b@x.test\nSubject: %d\n\nText\n" % n for n in (1, 2)]
    for name, content in zip(["order.eml", "zebra.eml"], contents, strict=True):
        (path / name).write_bytes(content)
        os.utime(path / name, (1_700_000_000, 1_700_000_000))
    return contents


@pytest.mark.parametrize("write", [foreign_mbox, foreign_maildir, eml_folder])
def test_other_programs_mail_is_copied(
    write: Callable[[Path], list[bytes]], target: tuple[Kind, Path], tmp_path: Path
) -> None:
    contents = write(tmp_path / "theirs")
    theirs = held(tmp_path / "theirs")
    to, path = target
    for _ in range(2):
        assert main(["copy", str(tmp_path / "theirs"), to.handler, str(path)]) == 0
        copied = held(path)
        assert [made.content for made in copied] == contents[0 if to.keeps_all else -1 :]
    for made, before in zip(copied, theirs[-len(copied) :], strict=True):
        assert made.envelope.received == before.envelope.received
        assert made.envelope.rcpt_tos == before.envelope.rcpt_tos
    if to.keeps_all:  # a copy of a copy changes nothing
        assert main(["copy", str(path), "MboxSink", str(tmp_path / "third")]) == 0
        assert held(tmp_path / "third") == copied


def test_what_was_removed_from_the_source_makes_nothing_new(tmp_path: Path) -> None:
    foreign_mbox(tmp_path / "theirs")
    copy = ["copy", str(tmp_path / "theirs"), "MaildirSink", str(tmp_path / "b")]
    assert main(copy) == 0
    before = held(tmp_path / "b")
    _, *rest = (tmp_path / "theirs").read_bytes().split(b"From eva")
    (tmp_path / "theirs").write_bytes(b"".join(b"From eva" + entry for entry in rest[1:]))
    assert main(copy) == 0
    assert held(tmp_path / "b") == before


@pytest.mark.parametrize("name", ["../../evil", "a/b", "", "\0", ".hidden", "x" * 300, "-"])
def test_an_id_is_no_way_out_of_the_store(name: str, target: tuple[Kind, Path]) -> None:
    to, path = target
    evil = mail()
    evil = evil._replace(envelope=type(evil.envelope)(**{**vars(evil.envelope), "id": name}))
    source = path.parent / "source"
    put("MboxSink", source, evil)
    (path.parent / "stores").mkdir()
    before = {*path.parent.iterdir()}
    assert main(["copy", str(source), to.handler, str(path)]) == 0
    assert {*path.parent.iterdir()} == before | {path}
    assert [made.content for made in held(path)] == [evil.content]


@given(st.lists(mails(), max_size=5))
def test_ids_are_safe_unique_and_stable(made: list[Mail]) -> None:
    named = [*Identities([]).new(made)]
    ids = [one.envelope.id for one in named]
    assert len(set(ids)) == len(ids)
    assert all(name.isascii() and "/" not in name and len(name) < 200 for name in ids)
    assert [*Identities(ids).new(made)] == []
    again = Identities([])
    assert [*again.new(named)] == named  # an id that was made stays


def test_made_ids_sort_as_the_messages_came() -> None:
    made = [raw_mail(b"%d" % number) for number in range(5)]
    unnamed = [
        one._replace(envelope=type(one.envelope)(**{**vars(one.envelope), "id": "x"}))
        for one in (made[0], made[3], made[1])
    ]
    ids = [
        one.envelope.id for one in Identities([]).new([*unnamed, made[4], made[2]._replace()])
    ]
    assert all(first < second for first, second in pairwise(ids[:4]))


def test_what_cannot_be_read_is_told_and_hides_nothing(tmp_path: Path) -> None:
    put("JsonLines", tmp_path / "a", *MAILS)
    lines = (tmp_path / "a").read_bytes().splitlines(keepends=True)
    (tmp_path / "a").write_bytes(b"".join([lines[0], b'{"id": 7}\n', *lines[1:]]))
    copied = shell("copy", tmp_path / "a", "MboxSink", tmp_path / "b")
    assert copied.returncode == 1
    assert f"not all could be read: {tmp_path}/a, octet {len(lines[0])}: " in copied.stderr
    assert held(tmp_path / "b") == MAILS


@pytest.mark.parametrize("left_out", ["bob@x.test/{}.eml", "carol@x.test/latest.eml"])
def test_what_a_killed_copy_left_half_done_is_done(left_out: str, tmp_path: Path) -> None:
    source, people = tmp_path / "source", tmp_path / "people"
    put("MboxSink", source, *(mail(to=["bob@x.test", "carol@x.test"]) for _ in range(2)))
    copy = ["copy", str(source), "PerRecipientDir", str(people)]
    assert main(copy) == 0
    whole = tree(people)
    (people / left_out.format(held(source)[-1].envelope.id)).unlink()
    assert tree(people) != whole
    assert main(copy) == 0
    assert tree(people) == whole


def many(count: int) -> Sequence[Mail]:
    to = ["bob@x.test", "carol@x.test"]
    return [
        raw_mail(b"Subject: %d\r\n\r\n" % number + b"x" * 500, to) for number in range(count)
    ]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.keeps_all], indirect=True)
@pytest.mark.slow
def test_a_copy_that_was_killed_is_completed(kind: Kind, store: Path, tmp_path: Path) -> None:
    sent = many(4000)
    put("MboxSink", tmp_path / "source", *sent)
    arguments = ["copy", str(tmp_path / "source"), kind.handler, str(store), "sync=no"]
    with Process([*COMMAND, *arguments], stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: store.exists() and next(iter(Inbox(store)), None))
        process.kill()
    assert shell(*arguments).returncode == 0
    assert held(store) == sent
    if kind.handler == "PerRecipientDir":
        assert [held(store / name) for name in ("bob@x.test", "carol@x.test")] == [sent, sent]


@pytest.mark.posix
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    sent = many(3000)
    put("MboxSink", tmp_path / "source", *sent)
    arguments = [*COMMAND, "copy", str(tmp_path / "source"), "MboxSink", str(tmp_path / "copy")]

    octets = (tmp_path / "source").stat().st_size * 4 // 5

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (octets, octets))

    failed = subprocess.run(
        arguments, capture_output=True, text=True, preexec_fn=limit, check=False
    )
    assert failed.returncode == 2
    assert failed.stderr.endswith("File too large\n")
    assert held(tmp_path / "copy") == sent[:2000]  # whole batches
    assert subprocess.run(arguments, capture_output=True, check=False).returncode == 0
    assert held(tmp_path / "copy") == sent


@pytest.mark.posix
def test_ctrl_c_leaves_a_copy_to_be_completed(tmp_path: Path) -> None:
    sent = many(5000)
    put("MboxSink", tmp_path / "source", *sent)
    arguments = ["copy", str(tmp_path / "source"), "MboxSink", str(tmp_path / "copy")]
    with Process([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (tmp_path / "copy").exists() and held(tmp_path / "copy"))
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "messages copied; stopped; the same command copies the rest\n" in told
    assert "Traceback" not in told
    assert shell(*arguments).returncode == 0
    assert held(tmp_path / "copy") == sent


def test_a_long_copy_shows_its_progress_on_a_terminal(tmp_path: Path) -> None:
    put("MboxSink", tmp_path / "source", *many(4000))
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    arguments = ["copy", str(tmp_path / "source"), "MboxSink", str(tmp_path / "copy")]
    with Process([*COMMAND, *arguments], stderr=theirs) as process:
        os.close(theirs)
        told = b""
        try:
            while data := os.read(ours, 1000):
                told += data
        except OSError:
            pass
        os.close(ours)
        assert process.wait(PATIENCE) == 0
    assert b"\r1,000 messages copied ...\r2,000 messages copied ..." in told
    assert told.endswith(b"\r4,000 messages copied; 0 were there already\r\n")


@pytest.mark.parametrize(
    ("criteria", "left"),
    [
        (["--to", "BOB@example.com"], ["carol"]),
        (["--mail-from", "eva@example.com", "--subject", "carol"], ["bob", "both"]),
        (["--subject-matching", "^b"], ["carol"]),
        (["--matching", "^To: c"], ["bob", "both"]),
        (["--to", "nobody@example.com"], ["bob", "carol", "both"]),
    ],
)
def test_clear_removes_what_meets_the_criteria(
    kind: Kind, store: Path, criteria: list[str], left: list[str]
) -> None:
    bob, carol = "bob@example.com", "carol@example.com"
    put(kind.handler, store, mail("bob"), mail("carol", to=[carol]))
    put(kind.handler, store, mail("both", to=[bob, carol]))
    assert main(["clear", str(store), *criteria]) == 0
    subjects = [message["Subject"] for message in Inbox(store)]
    assert subjects == (left if kind.keeps_all else [s for s in left if s == "both"])


def test_clear_says_what_is_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "mail.mbox"
    put("MboxSink", store, mail(), mail("other"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(store))

    monkeypatch.setattr(os, "writev", full)
    assert main(["clear", str(store), "--subject", "hello"]) == 2
    assert capsys.readouterr().err == f"mailhandlers: {store}: No space left on device\n"
    assert len(Inbox(store)) == 2


def test_clear_empties(kind: Kind, store: Path) -> None:
    assert main(["clear", str(store)]) == 0
    put(kind.handler, store, mail(), mail())
    assert main(["clear", str(store)]) == 0
    assert len(Inbox(store)) == 0
    put(kind.handler, store, mail())
    assert len(Inbox(store)) == 1
