"""A message read back: the words, links and codes in it, whatever its octets."""

from __future__ import annotations

import base64
import copy
import json
import quopri
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import contents, envelopes
from test_envelope import EXAMPLE

from mailhandlers import Envelope, StoredMessage
from mailhandlers.block import header_block
from mailhandlers.mail import UNKNOWN


def part(text: str, kind: str = "plain", charset: str = "utf-8", cte: str = "base64") -> bytes:
    """Return a text part with its headers."""
    encoders: dict[str, Callable[[bytes], bytes]] = {
        "base64": base64.encodebytes,
        "quoted-printable": quopri.encodestring,
        "8bit": bytes,
    }
    encoded = encoders[cte](text.encode(charset))
    head = f"Content-Type: text/{kind}; charset={charset}\nContent-Transfer-Encoding: {cte}\n\n"
    return head.encode() + encoded


def page(source: str) -> StoredMessage:
    return StoredMessage.parse(part(source, "html"))


def mixed(*parts: bytes, kind: str = "alternative") -> StoredMessage:
    lines = [f"Content-Type: multipart/{kind}; boundary=edge\n".encode()]
    return StoredMessage.parse(b"\n--edge\n".join([*lines, *parts]) + b"\n--edge--\n")


@pytest.mark.parametrize("cte", ["base64", "quoted-printable", "8bit"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-15", "windows-1252", "utf-7"])
def test_text_in_any_encoding(charset: str, cte: str) -> None:
    text = "Überweisung: 20 €, siehe https://example.com/x?a=b&c=d\n" + "lang " * 40
    message = StoredMessage.parse(part(text, charset=charset, cte=cte))
    assert message.text.rstrip("\n") == text
    assert message.get_content().rstrip("\n") == text
    assert message.links == ["https://example.com/x?a=b&c=d"]
    assert message.html == ""


@pytest.mark.parametrize(
    ("charset", "text"),
    [("shift_jis", "確認コード"), ("gb18030", "验证码"), ("koi8-r", "Код"), ("utf-16", "Код")],
)
def test_text_in_charsets_of_the_world(charset: str, text: str) -> None:
    message = StoredMessage.parse(part(f"{text}123456", charset=charset))
    assert message.text == f"{text}123456"
    assert message.codes == ["123456"]


@pytest.mark.parametrize(
    "charset",
    [
        "martian",
        "hex",
        "base64",
        "idna",
        "undefined",
        "unicode_escape",
        "utf-8\0",
        '"',
        "x" * 900,
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_unknown_charset_is_read_as_utf_8(charset: str) -> None:
    head = (
        f"Subject: =?{charset}?q?caf=C3=A9?=\nContent-Type: text/plain; charset={charset}\n\n"
    )
    message = StoredMessage.parse(head.encode() + "Grüße: \\d \\N 4711 http://é.test/".encode())
    if charset != "idna":
        assert message.text == "Grüße: \\d \\N 4711 http://é.test/"
        assert message.get_content() == message.text
        assert message.codes == ["4711"]
    assert isinstance(message["Subject"], str)


def test_text_without_a_charset_is_utf_8_and_what_is_not_is_windows_1252() -> None:
    assert StoredMessage.parse("\nGrüße".encode()).text == "Grüße"
    assert StoredMessage.parse(b"\nGr\xfc\xdfe \x84\x93").text == "Grüße „“"
    assert StoredMessage.parse("Subject: Grüße\n\n".encode())["Subject"] == "Grüße"


def test_links_are_in_order_and_come_once() -> None:
    message = mixed(
        part("Go to https://a.test/1, or (https://a.test/2). Bye: https://a.test/1"),
        part('<a href="https://a.test/3">three</a> <a href="https://a.test/2">two</a>', "html"),
    )
    assert message.links == ["https://a.test/1", "https://a.test/2", "https://a.test/3"]


@pytest.mark.parametrize("cte", ["base64", "quoted-printable"])
def test_a_long_link_is_whole(cte: str) -> None:
    link = "https://example.com/confirm?token=" + "abc=%3D&amp;" * 40
    message = StoredMessage.parse(part(f'<a href="{link}">x</a>', "html", cte=cte))
    assert message.links == [link.replace("&amp;", "&")]


def test_attachments_are_not_the_text() -> None:
    attached = b"Content-Disposition: attachment; filename=a.txt\n" + part(
        "1234 http://a.test/"
    )
    message = mixed(part("hello"), attached, kind="mixed")
    assert (message.text, message.links, message.codes) == ("hello", [], [])
    assert [a.get_filename() for a in message.iter_attachments()] == ["a.txt"]
    assert message.summary()["attachments"] == [
        {"filename": "a.txt", "content_type": "text/plain", "size": 19}
    ]


def test_bcc_is_who_no_header_names() -> None:
    envelope = replace(
        EXAMPLE, rcpt_tos=["Bob@x.test", "carol@x.test", "dan@x.test", "e@x.test"]
    )
    content = (
        b'To: "Smith, Bob" <bob@X.test>, broken <<\nTo: e@x.test\n'
        b"Cc: friends: carol@x.test;\nBcc: dan@x.test\n\n"
    )
    assert StoredMessage.parse(content, envelope).bcc == ["dan@x.test"]
    assert StoredMessage.parse(b"\n", envelope).bcc == envelope.rcpt_tos
    assert StoredMessage.parse(content).bcc == []


def test_bcc_of_an_address_in_utf_8() -> None:
    envelope = replace(EXAMPLE, rcpt_tos=["jürgen@ü.test", "eva@x"])
    assert StoredMessage.parse("To: jürgen@ü.test\n\n".encode(), envelope).bcc == ["eva@x"]


def test_our_headers_are_first_and_as_they_are() -> None:
    forged = b"X-RcptTo: forged@x\nX-Envelope: {}\nReturn-Path: <forged@x>\nSubject: s\n\n"
    envelope = replace(EXAMPLE, rcpt_tos=["=?utf-8?q?bob=40x?="], helo="=?utf-8?q?=22?=")
    message = StoredMessage.parse(forged, envelope)
    assert message["X-RcptTo"] == "=?utf-8?q?bob=40x?="
    assert message["X-MailFrom"] == "eva@example.com"
    assert message["Return-Path"] == "<eva@example.com>"
    assert Envelope.from_json(message["X-Envelope"]) == envelope
    assert message.get_all("X-RcptTo", [])[1:] == ["forged@x"]
    assert [name for name, _ in message.own_items()] == [
        *("X-RcptTo", "X-Envelope", "Return-Path", "Subject")
    ]


def test_a_message_without_headers_is_a_message() -> None:
    assert StoredMessage.parse(b"")
    assert StoredMessage.parse(b"\r\nhello").text == "hello"


def test_it_is_an_email_message() -> None:
    message = mixed(part("plain"), part("<b>html</b>", "html"))
    body = message.get_body(("html",))
    assert isinstance(message, EmailMessage)
    assert isinstance(body, StoredMessage)
    assert body.get_content() == "<b>html</b>"
    assert message.get_content() == message.text == "plain"
    message["X-Mine"] = "set by a user"
    assert message["X-Mine"] == "set by a user"


def test_a_multipart_without_its_boundary_is_text() -> None:
    for subtype in ("mixed", "alternative", "related"):
        head = f"Content-Type: multipart/{subtype}; boundary=x\n\n".encode()
        message = StoredMessage.parse(head + b"Hello, 1234")
        assert message.text == "Hello, 1234"
        assert message.get_body() is message
        assert list(message.iter_attachments()) == []
        assert message["Content-Type"].startswith("multipart/")


def test_parts_within_parts_within_parts() -> None:
    for depth in (40, 60, 400, 3000):
        lines = [
            b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n)
            for n in range(depth)
        ]
        message = StoredMessage.parse(b"".join(lines) + b"\nhello 1234\n")
        read_all(message)
        assert message.codes == ["1234"]


def test_huge_runs_take_no_time() -> None:
    for text in ("a." * 200_000, "http://" + "." * 200_000, "http://a" + ")" * 200_000):
        message = StoredMessage.parse(part(text))
        assert len(message.links) <= 1
        assert message.codes == []


def read_all(message: StoredMessage) -> None:
    """Ask for all that a test may ask for."""
    json.dumps(message.summary()).encode()
    for text in (message.text, message.html, *message.links, *message.codes, *message.bcc):
        assert isinstance(text, str)
    for name, value in message.items():
        assert isinstance(str(value), str)
        assert message[name] is not None
        assert message.get_all(name)
    for inner in message.walk():
        inner.get_content_type()
        inner.get_content_charset()
        inner.get_content_disposition()
        inner.get_filename()
        inner.get_boundary()
        inner.is_attachment()
        inner.get_payload()
        inner.get_payload(decode=True)
        inner.get_params()
        inner.get_param("charset")
        inner.get_content()
        inner.as_bytes()
        str(inner).encode()
        list(inner.iter_parts())
        list(inner.iter_attachments())
        inner.get_body()
        if inner.get_content_maintype() == "text":
            assert isinstance(inner.get_content(), str)
        for attachment in inner.attachments if isinstance(inner, StoredMessage) else []:
            assert isinstance(attachment.content, bytes)
            str((attachment.filename, attachment.content_id, attachment.content_type)).encode()
    message.searched_text.encode()
    message.shown_text.encode()
    message.page().encode()
    message.page(remote=True).encode()
    copy.deepcopy(message)
    bytes(message)
    repr(message)


_NAMES = [
    *("Subject", "To", "Cc", "From", "Date", "Message-ID", "MIME-Version", "Sender", "X-Other"),
    *("Content-Type", "Content-Disposition", "Content-Transfer-Encoding", "Content-ID"),
    *("Reply-To", "Resent-Date", "Bcc", "References", "Content-Location", "X-RcptTo"),
]
_VALUES = [
    *(list("()<>@,;:\\\"./[]?= \t'*%0a\r\0\x7f²é\udce9")),
    *("=?utf-8?q?", "=?utf-8?b?", "?=", "=?foo?q?a?=", "=?utf-8?b?=====?=", "=?\0?q?a?="),
    *("=?utf-16?b?2AA=?=", "=?hex?q?ab?=", "=?unicode_escape?q?=5Cd?=", "=?idna?q?\xff?="),
    *("a@b", "<a@b>", "group:", "\n ", "(" * 20, '""', "[]", "::", "²", "(" * 3000),
    *("text/plain", "text/html", "text", "multipart/mixed", "multipart/related"),
    *("multipart/digest", "message/rfc822", "message/delivery-status", "message/external-body"),
    *("; boundary=b", "; charset=", "; charset*=utf-8''%e9", "; charset*=\0'a'b", "; start=1"),
    *("; name*0=", "; name*1*=", "; filename=", "; filename*=hex''%e9", "attachment", "inline"),
    *("utf-8", "hex", "unicode_escape", "base64", "quoted-printable", "x-uuencode", "8bit"),
    *("Mon, 21 Nov 2026 08:00:00 +0000", "99999999999999999", " +0000" + "9" * 11, "-2400"),
]
_BODIES = [
    *(
        "--b",
        "--b--",
        "\n--b\n",
        "\n--b--\n",
        "begin 644 a\n",
        "end\n",
        "=",
        "=3D",
        "====",
        "YQ==",
    ),
    *("<a href='http://x/&amp;'>", "<!", "<![", "<![CDATA[", "<!DOCTYPE [", "<?", "&#xD800;"),
    *("&#99999999999;", "<script>", "</", "http://x.y/z", "482913", "é", "\udcff", "\0", "\\d"),
    *(" ", "\n", "M" + "x" * 60 + "\n", "]]>", "<!-", "<![if]>", "<!ELEMENT [", "+AD"),
]


@st.composite
def maildrops(draw: st.DrawFn) -> bytes:
    """Something like mail: headers and parts, each a little wrong."""
    pieces = []
    for _ in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(0, 3))):
            value = "".join(draw(st.lists(st.sampled_from(_VALUES), max_size=6)))
            pieces.append(f"{draw(st.sampled_from(_NAMES))}: {value}\n")
        pieces.append("\n" + "".join(draw(st.lists(st.sampled_from(_BODIES), max_size=6))))
        pieces.append(draw(st.sampled_from(["", "\n--b\n", "\n\n"])))
    return "".join(pieces).encode("utf-8", "surrogateescape")


@pytest.mark.filterwarnings("error")
@given(
    st.one_of(st.binary(max_size=300), contents, maildrops()), st.just(UNKNOWN) | envelopes()
)
@example(b"To: " + b"(" * 5000 + b"\n\n", UNKNOWN)
@example(b"Content-Type: multipart/related; boundary=b\n\nno part", UNKNOWN)
@example(b"Content-Type: text/plain; charset=unicode_escape\n\n\\d", UNKNOWN)
@example(
    b"MIME-Version: \xc2\xb2\nDate: 21 Nov 2026 08:00:00 +000099999999999999999\n\n", UNKNOWN
)
@example(b"Content-Type: text/html\n\n", UNKNOWN)
@example(b"Sender: <\nTo: ::\nCc: .*[\n\n", UNKNOWN)
def test_no_octets_make_a_message_raise(content: bytes, envelope: Envelope) -> None:
    message = StoredMessage.parse(content, envelope)
    assert message.original_content == content
    assert message.envelope == envelope
    read_all(message)


def shape(message: Any) -> list[object]:
    """Return all that a parser finds out."""
    payload = message.get_payload()
    return [
        [*message.raw_items()],
        [type(defect) for defect in message.defects],
        (message.get_unixfrom(), message.preamble, message.epilogue),
        [shape(inner) for inner in payload] if isinstance(payload, list) else payload,
    ]


_TOKENS = st.text("abcXYZ019-", min_size=1, max_size=8)
_LINES = st.lists(st.text("aé-:= ", max_size=9), max_size=4).map("\n".join)


@st.composite
def whole_messages(draw: st.DrawFn, depth: int = 0) -> bytes:
    """A message, or a part of one, in which no parser finds a fault."""
    lines = [f"X-{draw(_TOKENS)}: {draw(_TOKENS)}\n {draw(_TOKENS)}"]
    kinds = ["text/plain", "text/html", "application/pdf", "message/rfc822", "multipart/mixed"]
    kind = draw(st.sampled_from(kinds if depth < 3 else kinds[:3]))
    if kind == "message/rfc822":
        body = draw(whole_messages(depth + 1))
    elif kind == "multipart/mixed":
        boundary = f"{draw(_TOKENS)}+{depth}"
        parts = draw(st.lists(whole_messages(depth + 1), min_size=1, max_size=3))
        kind += f'; boundary="{boundary}"'
        pieces = [b"", *parts, b""]
        body = f"\n--{boundary}\n".encode().join(pieces).removesuffix(b"\n") + b"--\n"
    else:
        body = draw(_LINES).encode()
    return f"{lines[0]}\nContent-Type: {kind}\n\n".encode() + body


@given(whole_messages())
@example(b"From x\n\nbody\n\n")
@example(b"Subject: x\nno header\n\nbody")
@example(b"\n\nbody\n\n")
@example(b"Subject: x\n\n\xff")
@example(b"Content-Type: message/rfc822\n\nSubject: x\n\n\nbody")
@example(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nbody\n--b--")
@example(b"Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\n--b--\npost\n")
@example(b"Content-Type: multipart/digest; boundary=b\n\n--b\n\nA: b\n\nc\n--b--\n")
@example(b"Content-Type: message/delivery-status\n\nA: b\n\nC: d\n")
@example(b"Content-Type: multipart/mixed\n\nbody")
def test_it_is_parsed_as_the_standard_library_parses_it(content: bytes) -> None:
    ours = StoredMessage.parse(content)
    parser: BytesParser[Any] = BytesParser(StoredMessage, policy=StoredMessage().policy)
    assert shape(ours) == shape(parser.parsebytes(content))


@given(whole_messages())
def test_as_bytes_gives_what_was_read(content: bytes) -> None:
    assert StoredMessage.parse(content).as_bytes() == content
    ours = StoredMessage.parse(content, EXAMPLE).as_bytes()
    assert ours == header_block(EXAMPLE) + content


def test_encoded_text_has_lf_as_all_text_has() -> None:
    head = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    content = head + base64.b64encode(b"one\r\ntwo\r\n") + b"\r\n"
    assert StoredMessage.parse(content).text == "one\ntwo\n"
