"""Malformed MIME read as mail programs read it, and within bounds."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cases import case
from hypothesis import given
from hypothesis import strategies as st
from support import HELLO, Client, Server
from test_envelope import EXAMPLE

from mailhandlers import JsonLines, MailCatcher, StoredMessage, read_messages
from mailhandlers.message import addresses, headers, mime, record, transfer

HEAD = b"Content-Type: multipart/mixed; boundary=b\n\n"


def names(message: StoredMessage) -> list[str | None]:
    return [attachment.filename for attachment in message.attachments]


# Boundaries and types


@pytest.mark.parametrize(
    "boundary", ["----=_Part_1", "a/b", "a:b", "a?b", "a@b", "=_a_=", "a b"]
)
def test_a_boundary_without_quotes(boundary: str) -> None:
    message = StoredMessage.parse(
        f"Content-Type: multipart/alternative; boundary={boundary}\n\n"
        f"--{boundary}\nContent-Type: text/plain\n\nplain\n"
        f"--{boundary}\nContent-Type: text/html\n\n<b>html</b>\n--{boundary}--\n".encode()
    )
    assert (message.text, message.html) == ("plain", "<b>html</b>")
    assert message.get_boundary() == boundary


@pytest.mark.parametrize(
    "value",
    [
        "text/plain charset=iso-8859-5",
        "text/plain, charset=iso-8859-5",
        "Text/Plain;charset = iso-8859-5; format",
        'text/plain (c); charset="iso-8859-5',
        "text/plain; charset=iso-8859-5 (Cyrillic)",
        "text/plain;; =; charset=iso-8859-5; charset=koi8-r",
        "text/plain; charset*=us-ascii''iso-8859-5",
    ],
)
def test_a_type_that_is_not_as_it_should_be(value: str) -> None:
    head = f"Content-Type: {value}\n\n".encode()
    message = StoredMessage.parse(head + "Привет".encode("iso-8859-5"))
    assert message.text == message.get_content() == "Привет"
    assert message["Content-Type"].content_type == "text/plain"


@pytest.mark.parametrize(
    "value",
    [
        *(
            "base64 ",
            "base64;",
            "base64 (c)",
            "BASE64",
            '"base64"',
            "(x) base64",
            "base64, 8bit",
        ),
        *('(a) (b)"base64"', '"base64'),
    ],
)
def test_a_transfer_encoding_that_is_not_as_it_should_be(value: str) -> None:
    head = f"Content-Transfer-Encoding: {value}\n\n".encode()
    assert StoredMessage.parse(head + b"SGVsbG8=\n").text == "Hello"


@pytest.mark.parametrize(
    ("encoded", "octets"),
    [
        (b"SGVsbG8=", b"Hello"),
        (b"SGVsbG8", b"Hello"),
        (b"SGVsbG8=A", b"Hello"),
        (b"SGVsbG8hA", b"Hello!"),
        (b"SGVs\nbG8=\nSGVsbG8=\n", b"HelloHello"),
        (b"S-G*V\xffs bG8=", b"Hello"),
        (b"=", b""),
        # Behind padding a text is no base64, but padded pieces are.
        (b"SGVsbG8=\n_______\nList footer text", b"Hello"),
        (b"SGVsbG8=\nSent from my phone\n", b"Hello"),
        (b"SGVsbG8=\r\n--\r\nEva", b"Hello"),
        (b"SGVs\r\nbG8=\r\n\r\nSGVs\r\nbG8=\r\nYWJj", b"HelloHelloabc"),
        (b"YQ==YWI=YWJj", b"aababc"),
    ],
)
def test_base64_that_is_not_as_it_should_be(encoded: bytes, octets: bytes) -> None:
    assert transfer.from_base64(encoded) == octets


@pytest.mark.parametrize(
    ("encoded", "octets"),
    [
        (b"a==b =43==44", b"a==b C=D"),
        (b"===", b"=="),
        (b"a=\nb=\r\nc=", b"abc"),
        (b"a==\nb", b"a=b"),
        (b"1 =3D= 1 =zz =4", b"1 == 1 =zz =4"),
        (b"one\r\ntwo\n", b"one\r\ntwo\n"),
    ],
)
def test_quoted_printable_that_is_not_as_it_should_be(encoded: bytes, octets: bytes) -> None:
    assert transfer.from_quoted_printable(encoded) == octets


@given(st.binary())
def test_transfer_encodings_never_raise(data: bytes) -> None:
    assert transfer.from_base64(base64.b64encode(data)) == data
    for undo in transfer.ENCODINGS.values():
        undo(data)
        undo(b"begin 644 a\n" + data)


# Boundaries


def _mixed(boundary: str, *pieces: str) -> StoredMessage:
    head = f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'
    return StoredMessage.parse((head + "\r\n".join(pieces)).encode())


@pytest.mark.parametrize(
    ("written", "boundary"),
    [
        ("<<001>>", "<<001>>"),
        ("'a'", "'a'"),
        ('\\"a\\"', '"a"'),
        ("a\\\\b", "a\\b"),
        ("a.b ", "a.b"),
    ],
)
def test_a_boundary_in_marks_is_what_it_is(written: str, boundary: str) -> None:
    line = f"--{boundary}"
    message = _mixed(written, line, "", "one", line, "", "two", f"{line}--")
    assert message.text == "one\ntwo"


def test_parts_behind_the_last_are_parts() -> None:
    pieces = [
        "--b",
        "",
        "one",
        "--b--",
        "",
        "footer",
        "--b",
        "",
        "two",
        "--b--",
        "--b--",
        "end",
    ]
    message = _mixed("b", *pieces)
    assert message.text == "one\ntwo"
    assert message.epilogue == "--b--\nend"
    assert [type(defect) for defect in message.defects] == []


def test_a_child_with_the_boundary_of_its_parent() -> None:
    child = 'Content-Type: multipart/alternative; boundary="b"\r\n'
    html = "Content-Type: text/html\r\n\r\n<p>"
    pieces = [child, "--b", "", "one", "--b", html, "--b--"]
    file = "Content-Disposition: attachment; filename=a\r\n\r\nx"
    for behind in (["--b", file, "--b--"], ["--b", file], []):
        message = _mixed("b", "--b", *pieces, *behind)
        assert (message.text, message.html) == ("one", "<p>")
        assert names(message) == ["a"] * bool(behind)
        assert len([*message.iter_parts()]) == 1 + bool(behind)
    # Of a child that never ends all that follows is a part.
    unclosed = _mixed("b", "--b", *pieces[:-1], "--b", file, "--b--")
    assert (unclosed.text, unclosed.html, names(unclosed)) == ("one", "<p>", ["a"])


def test_headers_behind_blank_lines_are_headers_where_no_server_saw_the_message() -> None:
    content = b"\xef\xbb\xbf\r\n\r\nSubject: hello\r\n\r\nbody\r\n"
    assert StoredMessage.parse(content)["Subject"] == "hello"
    received = StoredMessage.parse(content, EXAMPLE)
    assert (received["Subject"], received.text) == (None, "\nSubject: hello\n\nbody\n")
    assert StoredMessage.parse(b"\nNote: milk\n\nbody").text == "Note: milk\n\nbody"


@pytest.mark.parametrize(
    ("name", "text", "html", "attached"),
    [
        ("boundary-angle", "first", "", ["a.pdf"]),
        ("parent-boundary", "plain", "<p>html</p>", ["a.zip"]),
        ("qp-equals", "a==b C=D\n", "", []),
        ("bom", "body\n", "", []),
    ],
)
def test_what_other_programs_read_wrongly(
    name: str, text: str, html: str, attached: list[str]
) -> None:
    message = case(name)
    assert (message.text, message.html, names(message)) == (text, html, attached)


# Headers


@pytest.mark.parametrize(
    "before",
    [
        b"X-Mailer : x\n",
        b"X: 1\na line without its colon\n",
        b"\xef\xbb\xbfX: 1\n",
        b"From eva Sat Nov 21 08:48:00 2026\n",
        b" a line that continues nothing\n",
        b"X:\n",
    ],
)
def test_headers_go_on_behind_an_odd_line(before: bytes) -> None:
    message = StoredMessage.parse(before + b"Subject: hello\n\nbody\n")
    assert (message["Subject"], message.text) == ("hello", "body\n")


def test_a_body_without_a_blank_line_before_it_is_whole() -> None:
    message = StoredMessage.parse(b"Subject: hello\nDear Bob\nhow are you?\n\nEva\n")
    assert (message["Subject"], message.text) == ("hello", "Dear Bob\nhow are you?\n\nEva\n")
    assert StoredMessage.parse(b"Dear Bob\nNote: 1\n\nEva\n").text.startswith("Dear Bob\nNote")


def test_a_part_with_odd_headers_is_read_as_the_message_is() -> None:
    part = b"Content-Type : text/html\nodd\nX-Y: z\n\n<b>x</b>"
    assert StoredMessage.parse(HEAD + b"--b\n" + part + b"\n--b--\n").html == "<b>x</b>"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a@b.test", ["a@b.test"]),
        ('"Smith, Bob" <b@x.test>, c@x.test (Carol)', ["b@x.test", "c@x.test"]),
        ("friends: a@x.test, <b@x.test>;, c@x.test", ["a@x.test", "b@x.test", "c@x.test"]),
        ("broken <<, d@x.test", ["broken", "d@x.test"]),
        ("<@relay.test,@b.test:eva@x.test>", ["eva@x.test"]),
        ('"eva m"@x.test', ['"eva m"@x.test']),
        ("eva@[IPv6:::1]", ["eva@[IPv6:::1]"]),
        ("a@x.test b@x.test", ["a@x.test", "b@x.test"]),
        ("undisclosed-recipients:;", []),
        ("", []),
    ],
)
def test_addresses(text: str, found: list[str]) -> None:
    assert list(addresses.addresses_in(text)) == found


def test_names_of_addresses_stay_one_name() -> None:
    message = StoredMessage.parse(b"From: =?utf-8?q?Smith=2C_B=C3=B6b?= <b@x.test>\n\n")
    (address,) = message["From"].addresses
    assert (address.display_name, address.addr_spec) == ("Smith, Böb", "b@x.test")
    assert message["From"] == message.summary()["from"] == '"Smith, Böb" <b@x.test>'


# Names of files, and what is an attachment


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("filename=My big file.pdf", "My big file.pdf"),
        ("filename==?utf-8?B?w6kucGRm?=", "é.pdf"),
        ('filename="=?utf-8?B?w6k=?=\n =?utf-8?B?LnBkZg==?="', "é.pdf"),
        ("filename=\"a.pdf\"; filename*=utf-8''%C3%A9.pdf", "é.pdf"),
        ("filename*=utf-8''%C3%A9.pdf; filename=a.pdf", "é.pdf"),
        ("filename*1*=%A9; filename*0*=utf-8''%C3; filename*2=.pdf", "é.pdf"),
        ('filename="a\\"b\\\\c.pdf"', 'a"b\\c.pdf'),
        ("filename=report (2).pdf; size=3", "report (2).pdf"),
        ("size=3 filename=a.pdf", "a.pdf"),
        ('filename="é.pdf"', "é.pdf"),
        ('filename="unclosed.pdf', "unclosed.pdf"),
        ("filename=", None),
        # Octets in an encoded word are in its charset; sections may hold encoded words.
        (b'filename="=?iso-8859-1?Q?Fr\xf6sche?= \xc3\xa9.pdf"', "Frösche é.pdf"),
        (b"filename==?koi8-r?Q?\xf0\xd2\xc9?=", "При"),
        ('filename*0="=?utf-8?B?w6k=?="; filename*1="=?utf-8?B?LnBkZg==?="', "é.pdf"),
        ('filename*0="=?utf-8?B?w6"; filename*1="kucGRm?="', "é.pdf"),
        ('filename*0*="=?utf-8?B?w6k=?="; filename*1=".pdf"', "é.pdf"),
        ('filename="<a>"', "<a>"),
        ('"attachment"; filename=a.pdf', "a.pdf"),
        ("(x) attachment; filename=a.pdf", "a.pdf"),
    ],
)
def test_names_of_files(disposition: str | bytes, name: str | None) -> None:
    raw = disposition.encode() if isinstance(disposition, str) else disposition
    kind = b"" if b"attachment" in raw else b"attachment; "
    part = b"--b\nContent-Disposition: %b%b\n\nx\n--b--\n" % (kind, raw)
    message = StoredMessage.parse(HEAD + part)
    assert names(message) == [name]
    assert [a["filename"] for a in message.summary()["attachments"]] == [name]


@given(st.text())
def test_parameters_never_raise(text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass").decode("ascii", "surrogateescape")
    for value in (raw, f"text/plain; {raw}", f'a/b; name="{raw}', f"a/b; name*=x''{raw}"):
        field = headers.parse_field(value)
        "".join([field.value, *field.parameters, *field.parameters.values()]).encode()


@given(st.text())
def test_addresses_never_raise(text: str) -> None:
    for group in addresses.groups_in(text.replace("\n", " ").replace("\r", " ")):
        str((group, [address.addr_spec for address in group.addresses]))


@pytest.mark.parametrize(
    ("part", "is_attached"),
    [
        (b"Content-Type: text/plain\n", False),
        (b"Content-Disposition: inline\n", False),
        (b"Content-Type: text/html; charset=utf-8\n", False),
        (b'Content-Disposition: inline; filename="log.txt"\n', True),
        (b"Content-Type: text/plain; name=log.txt\n", True),
        (b"Content-Disposition: attachment\n", True),
        (b"Content-Type: text/calendar; method=REQUEST\n", True),
        (b"Content-Type: text/csv\n", True),
        (b"Content-Type: message/rfc822\n", True),
        (b"Content-Type: font/woff2\n", True),
    ],
)
def test_what_is_text_and_what_is_an_attachment(part: bytes, is_attached: bool) -> None:
    message = StoredMessage.parse(HEAD + b"--b\n" + part + b"\nhello\n--b--\n")
    assert (message.text + message.html == "") is is_attached
    assert len(message.attachments) == len(message.summary()["attachments"]) == is_attached
    alone = StoredMessage.parse(part + b"\nhello")
    assert len(alone.attachments) == (is_attached and b"name=log.txt" not in part[:40])


def test_the_forms_of_a_message_are_text_whatever_they_are_called() -> None:
    message = StoredMessage.parse(
        HEAD.replace(b"mixed", b"alternative") + b"--b\nContent-Type: text/plain; name=a\n\n1\n"
        b"--b\nContent-Type: text/html; name=a.html\n\n2\n"
        b"--b\nContent-Type: text/calendar; name=a.ics\n\n3\n--b--\n"
    )
    assert (message.text, message.html, names(message)) == ("1", "2", ["a.ics"])


def test_flowed_text_is_shown_in_paragraphs() -> None:
    head = b"Content-Type: text/plain; format=flowed"
    text = b"\n\nSee https://a.test/ab \ncd\n> quoted \n> on\n>> deeper\n From home\n-- \nEva\n"
    assert StoredMessage.parse(head + text).text == (
        "See https://a.test/ab cd\n> quoted on\n>> deeper\nFrom home\n-- \nEva\n"
    )
    message = StoredMessage.parse(head + b"; delsp=yes" + text)
    assert message.links == ["https://a.test/abcd"]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: text/plain; charset=martian",
        b"Content-Type: font/woff2",
        b"Content-Type: model/stl",
        b"Content-Type: message/rfc822",
        b"Content-Type: message/external-body",
        b"Content-Type: multipart/mixed; boundary=c\n\n--c\n\n--c--",
        b'To: :;<"\nSubject: \xff\xfe',
    ],
)
def test_everything_can_be_written_and_printed(head: bytes) -> None:
    message = StoredMessage.parse(HEAD + b"--b\n" + head + b"\n\n\xe9\xff\n--b--\n")
    for part in (message, *message.iter_parts()):
        str(part).encode()
        part.as_bytes()
        assert part.get_content() is not None


# Bounds


def _nested(octets: int) -> bytes:
    parts = range(octets // 55)
    head = b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n"
    return b"".join(head % (n, n) for n in parts) + b"\nthe end"


def _page_of(text: bytes, octets: int) -> bytes:
    return b"Content-Type: text/html\n\n" + text * (octets // len(text))


BY_SIZE: dict[str, Callable[[int], bytes]] = {
    "encoded words in Subject": lambda n: b"Subject: a\n" + b" =?utf-8?q?=41?=\n" * (n // 17),
    "encoded words in To": lambda n: b"To: a\n" + b" =?utf-8?q?=41?=\n" * (n // 17),
    "addresses": lambda n: b"To: x@y" + b",\n a <a@b.test>" * (n // 15),
    "dots in To": lambda n: b"To: " + b"." * n,
    "parameters": lambda n: (
        b"Content-Type: text/plain" + b"".join(b"; a%06d=b" % i for i in range(n // 11))
    ),
    "parts in parts": _nested,
    "messages in messages": lambda n: b"Content-Type: message/rfc822\n\n" * (n // 30),
    "parts": lambda n: HEAD + b"--b\n\n" * (n // 5),
    "headers": lambda n: b"a: b\n" * (n // 5),
    "To headers": lambda n: b"To: =?q?q?a?=\n" * (n // 14),
    "links": lambda n: b"\n" + b"http://a." * (n // 9),
    "brackets": lambda n: b"\nhttp://a" + b")" * n,
    **{
        f"HTML {text}": partial(_page_of, text.encode())
        for text in ("<!-- <a ", "<a ", '<a href="', "<![", "</", "<style>", "&#9", "<p a=")
    },
}


@pytest.mark.parametrize("kind", BY_SIZE)
@pytest.mark.slow
def test_time_and_memory_grow_in_proportion(kind: str) -> None:
    def cost(octets: int) -> tuple[float, int]:
        content = BY_SIZE[kind](octets)
        start = time.process_time()
        read(content)
        seconds = time.process_time() - start
        tracemalloc.start()
        read(content)
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return seconds, memory

    def read(content: bytes) -> None:
        message = StoredMessage.parse(content)
        json.dumps(message.summary())
        message.page()

    small, large = cost(20_000), cost(160_000)
    # Eight times the octets: a quadratic parser takes 64 times as much.
    assert large[0] < 24 * small[0] + 0.1
    assert large[1] < 12 * small[1] + 1_000_000


def test_what_is_over_the_bounds_is_shown_as_its_text() -> None:
    assert StoredMessage.parse(_nested(55 * 200)).text.endswith("the end")
    many = HEAD + b"--b\nContent-Type: image/png\n\n\n" * (mime.MOST_PARTS + 5) + b"the end\n"
    message = StoredMessage.parse(many)
    assert len(message.attachments) == mime.MOST_PARTS - 1
    assert message.text.endswith("the end\n")


@pytest.mark.slow
def test_a_server_stores_what_would_have_taken_all_its_memory(tmp_path: Path) -> None:
    store = tmp_path / "mail.jsonl"
    content = b"Subject: a\r\n" + b" =?utf-8?q?=41?=\r\n" * 56_000 + b"\r\nhello\r\n"
    with Server("JsonLines", store) as server:
        assert server.send(content) == "250 OK"
        assert server.send() == "250 OK"
    first, second = read_messages(store)
    assert first["Subject"] == "a " + "A" * 56_000
    assert first.original_content == content
    assert second["Subject"] == "hello"


def test_a_message_that_the_parser_fails_on_is_stored_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def fail(content: bytes, **_: object) -> StoredMessage:
        raise ZeroDivisionError

    with MailCatcher(JsonLines(tmp_path / "mail.jsonl")) as mail, Client(mail.port) as client:
        with monkeypatch.context() as broken:
            broken.setattr(StoredMessage, "parse", fail)
            assert client.send() == "250 OK"
        assert mail.latest().original_content == HELLO
    (line,) = (tmp_path / "mail.jsonl").read_text().splitlines()
    assert json.loads(line)["subject"] is None
    assert set(record.KEYS) <= set(json.loads(line))
    assert "ZeroDivisionError" in caplog.text
