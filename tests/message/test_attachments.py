"""Attachments: what they hold, and names that are safe to save under."""

from __future__ import annotations

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cases import case
from hypothesis import given
from hypothesis import strategies as st

from mailhandlers import StoredMessage
from mailhandlers.message import charsets
from mailhandlers.message.attachments import Attachment

PDF = b"%PDF-1.7\r\n\0\xff\r\n"


def attached(name: str, kind: str = "application/pdf") -> Attachment:
    """Return an attachment, called *name* by its sender."""
    encoded = "".join(f"%{octet:02x}" for octet in name.encode("utf-8", "surrogatepass"))
    head = f"Content-Type: {kind}; name*=utf-8''{encoded}\nContent-ID: <a@b>\n"
    body = base64.encodebytes(PDF).decode()
    content = f"{head}Content-Transfer-Encoding: base64\n\n{body}"
    (attachment,) = StoredMessage.parse(content.encode()).attachments
    return attachment


def test_an_attachment_tells_what_it_is(tmp_path: Path) -> None:
    attachment = attached("report.pdf")
    assert attachment.filename == "report.pdf"
    assert attachment.content_type == "application/pdf"
    assert attachment.content_id == "a@b"
    assert attachment.content == PDF
    path = attachment.save_to(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.pdf"
    assert path.read_bytes() == PDF


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\Windows\\a.exe", "a.exe"),
        ("..", "attachment.pdf"),
        (".", "attachment.pdf"),
        ("", "attachment.pdf"),
        ("folder/", "attachment.pdf"),
        (".bashrc", "bashrc"),
        ("a\0b\n\x1b[2J.pdf", "a_b__[2J.pdf"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("CON.pdf", "_CON.pdf"),
        ("naïve 文書.pdf", "naïve 文書.pdf"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("文" * 100 + ".pdf", "文" * 65 + ".pdf"),
        ('a?b*c<d>|e:f"g.pdf ', "a_b_c_d__e_f_g.pdf"),
    ],
)
def test_a_name_is_made_safe(name: str, saved: str, tmp_path: Path) -> None:
    assert attached(name).save_to(tmp_path).name == saved
    assert os.listdir(tmp_path) == [saved]


@given(st.text(st.characters(), max_size=300), st.text(max_size=300))
def test_any_name_stays_in_the_folder(tmp_path: Path, name: str, extension: str) -> None:
    path = attached(f"{name}.{extension}").save_to(tmp_path)
    assert path.parent == tmp_path
    assert path.read_bytes() == PDF
    assert not path.name.startswith(".")
    path.unlink()


def test_nothing_is_replaced_and_no_link_followed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "a.pdf").symlink_to(elsewhere)
    saved = [attached("a.pdf").save_to(folder).name for _ in range(2)]
    assert saved == ["a-2.pdf", "a-3.pdf"]
    assert not elsewhere.exists()


def test_many_of_one_name_are_numbered_without_looking_at_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    lexists = os.path.lexists

    def counted(path: str) -> bool:
        nonlocal looked
        looked += 1
        return lexists(path)

    monkeypatch.setattr(os.path, "lexists", counted)
    (tmp_path / "a-3.pdf").touch()
    saved = {attached("a.pdf").save_to(tmp_path).name for _ in range(200)}
    assert len(saved) == 200
    assert saved <= {"a.pdf", *(f"a-{number}.pdf" for number in range(2, 202))} - {"a-3.pdf"}
    assert looked < 200 * 20  # 20,000 where one number is tried after the other


def test_two_that_save_at_once_never_overwrite(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: attached("a.pdf").save_to(tmp_path), range(200)))
    assert len({*paths}) == 200
    assert all(path.read_bytes() == PDF for path in paths)


def test_a_name_that_is_taken_after_the_look_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lexists = os.path.lexists

    def overtaken(path: Path) -> bool:
        is_there = lexists(path)
        if not is_there and path.name in ("a.pdf", "a-2.pdf"):
            path.write_bytes(b"another's")
        return is_there

    monkeypatch.setattr(os.path, "lexists", overtaken)
    assert attached("a.pdf").save_to(tmp_path).name == "a-3.pdf"
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "a-2.pdf").read_bytes()


def test_a_message_within_the_message_is_its_source() -> None:
    inner = b"Subject: inner\n\nhello\n"
    (attachment,) = StoredMessage.parse(b"Content-Type: message/rfc822\n\n" + inner).attachments
    assert (attachment.content, attachment.content_type) == (inner, "message/rfc822")


def sent(body: bytes, kind: str = "text/csv", cte: str = "7bit") -> StoredMessage:
    """Return a message with one attachment, whose line ends are those of SMTP."""
    head = f"Content-Type: {kind}\nContent-Disposition: attachment; filename=a\n"
    part = f"--b\n{head}Content-Transfer-Encoding: {cte}\n\n".replace("\n", "\r\n").encode()
    multipart = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    return StoredMessage.parse(multipart + part + body + b"\r\n--b--\r\n")


@pytest.mark.parametrize(
    ("body", "cte", "content"),
    [
        (b"1,2\r\n3,4\r\n", "7bit", b"1,2\r\n3,4\r\n"),
        (b"\x80one\r\ntwo\x81", "8bit", b"\x80one\r\ntwo\x81"),
        (b"\r\r\n\n\r\0", "binary", b"\r\r\n\n\r\0"),
        (b"a\nb\r\nc\r", "binary", b"a\nb\r\nc\r"),
        (b"1,=\r\n2=0D=0A3,4\r\n", "quoted-printable", b"1,2\r\n3,4\r\n"),
        (base64.b64encode(b"a\r\nb\n") + b"\r\n", "base64", b"a\r\nb\n"),
        (b"", "7bit", b""),
    ],
)
def test_an_attachment_is_as_it_was_sent(body: bytes, cte: str, content: bytes) -> None:
    for kind in ("text/csv", "text/plain", "application/pdf"):
        (attachment,) = sent(body, kind, cte).attachments
        assert attachment.content == content
    # All texts have LF.
    (part,) = sent(body, "text/plain", cte).iter_attachments()
    assert part.get_content() == charsets.decode(content).replace("\r\n", "\n")


def test_attachments_of_the_cases_are_as_they_were_sent() -> None:
    csv, binary = case("attachment-crlf").attachments
    assert (csv.content, binary.content) == (b"1,2\r\n3,4\r\n", b"\x80one\r\ntwo\x81")
    (hello,) = case("base64-trailer").attachments
    assert hello.content == b"Hello"


def test_a_message_within_the_message_is_as_it_was_sent() -> None:
    inner = b"Subject:  inner\r\n\tfolded\r\n\r\nhello\r\n"
    (attachment,) = sent(inner, "message/rfc822").attachments
    assert attachment.content == inner
    status = b"Reporting-MTA: dns; a\r\n\r\nFinal-Recipient: b\r\n"
    (attachment,) = sent(status, "message/delivery-status").attachments
    assert attachment.content == status


def test_what_a_user_changed_is_what_the_attachment_holds() -> None:
    message = sent(b"1,2\r\n")
    (part,) = message.iter_attachments()
    part.set_payload("3,4\n")
    assert [each.content for each in message.attachments] == [b"3,4\n"]


@pytest.mark.parametrize("value", ["<x>", "< x >", " <x>\n", "x", "<\n x>"])
def test_blanks_in_an_id_are_none_of_it(value: str) -> None:
    content = f"Content-Type: image/png\nContent-ID: {value}\n\n\n"
    (attachment,) = StoredMessage.parse(content.encode()).attachments
    assert attachment.content_id == "x"
