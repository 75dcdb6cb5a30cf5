"""Attachments: what they hold, and names that are safe to save under."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailhandlers import StoredMessage
from mailhandlers.reading.attachments import Attachment

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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
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


def test_a_message_within_the_message_is_its_source() -> None:
    inner = b"Subject: inner\n\nhello\n"
    (attachment,) = StoredMessage.parse(b"Content-Type: message/rfc822\n\n" + inner).attachments
    assert (attachment.content, attachment.content_type) == (inner, "message/rfc822")
