"""What is a problem of a mail, and what is none: each check speaks, and is silent."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest

from mailhandlers import StoredMessage
from mailhandlers.mail import UNKNOWN, Envelope
from mailhandlers.message.problems import CHECKS, Problem

GOOD = {
    "From": "Eva <eva@example.com>",
    "To": "bob@example.org",
    "Date": "Mon, 30 Nov 2026 08:48:00 +0000",
    "Message-ID": "<4711@example.com>",
    "Subject": "Welcome",
}
ENVELOPE = dataclasses.replace(
    UNKNOWN, protocol="ESMTP", mail_from="eva@example.com", rcpt_tos=["bob@example.org"]
)


def mail(
    body: str | bytes = "Hello Bob\r\n",
    envelope: Envelope = ENVELOPE,
    **headers: str | bytes | None,
) -> StoredMessage:
    """Return an ordinary message, but for these headers, where ``_`` stands for a dash."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [
        _octets(name) + b": " + _octets(value)
        for name, value in {**GOOD, **given}.items()
        if value is not None
    ]
    content = b"\r\n".join([*lines, b"", _octets(body)])
    return StoredMessage.parse(content, envelope)


def page(html: str, text: str = "Hello Bob\r\n") -> StoredMessage:
    """Return a message with HTML and plain text."""
    part = "--b\r\nContent-Type: text/{}; charset=utf-8\r\n\r\n{}\r\n"
    body = part.format("plain", text) + part.format("html", html) + "--b--\r\n"
    return mail(body, Content_Type="multipart/alternative; boundary=b")


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def names(message: StoredMessage) -> list[str]:
    return [problem.name for problem in message.problems()]


def text_of(message: StoredMessage, name: str) -> str:
    return next(problem.text for problem in message.problems() if problem.name == name)


def test_an_ordinary_mail_has_none() -> None:
    assert mail().problems() == []
    html = '<p>Hello <img src="cid:a" alt="Eva"> <a href="https://example.com/">here</a></p>'
    assert page(html).problems() == []


HTML = "text/html; charset=utf-8"
UNSUBSCRIBE = "<https://example.com/u?t=1>, <mailto:u@example.com>"
LARGE = "<p>Hello Bob\r\n" * 9_000
FAULTY = {
    "no Date": (mail(Date=None), ["no-date"]),
    "a Date that is none": (mail(Date="tomorrow"), ["unreadable-date"]),
    "no Message-ID": (mail(Message_ID=None), ["no-message-id"]),
    "an empty Message-ID": (mail(Message_ID=""), ["no-message-id"]),
    "no From": (mail(From=None), ["no-from"]),
    "From without an address": (mail(From="Eva"), ["no-from"]),
    "From of Django, as it is installed": (mail(From="webmaster@localhost"), ["from-nowhere"]),
    "From at a name that is nobody's": (mail(From="eva@shop.invalid"), ["from-nowhere"]),
    "two authors": (mail(From="eva@example.com, tom@example.com"), ["no-sender"]),
    "two Subjects": (mail(subject="Goodbye"), ["repeated-header"]),
    "a Subject in UTF-8": (mail(Subject="Grüße"), ["header-not-ascii"]),
    "a file's name in UTF-8": (
        mail(
            "--b\r\nContent-Disposition: attachment; filename=Grüße.txt\r\n\r\na\r\n--b--\r\n",
            Content_Type="multipart/mixed; boundary=b",
        ),
        ["header-not-ascii"],
    ),
    "unsubscribing by a click, but not one": (
        mail(List_Unsubscribe=UNSUBSCRIBE),
        ["no-one-click"],
    ),
    "one click without TLS": (
        mail(
            List_Unsubscribe="<http://example.com/u>",
            List_Unsubscribe_Post="List-Unsubscribe=One-Click",
        ),
        ["no-one-click"],
    ),
    "a long line": (mail("a" * 999 + "\r\n"), ["long-line"]),
    "a long header": (mail(X_Long="a" * 991), ["long-line"]),
    "Latin-1 that says it is UTF-8": (
        mail("Grüße".encode("latin-1"), Content_Type="text/plain; charset=utf-8"),
        ["wrong-charset"],
    ),
    "UTF-8 that says it is Latin-1": (
        mail("Grüße", Content_Type="text/plain; charset=iso-8859-1"),
        ["wrong-charset"],
    ),
    "UTF-8 that says it is ASCII": (
        mail("Grüße", Content_Type="text/plain; charset=us-ascii"),
        ["wrong-charset"],
    ),
    "a charset that nobody knows": (
        mail("Grüße", Content_Type="text/plain; charset=utf-88"),
        ["wrong-charset"],
    ),
    "no charset": (mail("Grüße"), ["wrong-charset"]),
    "a Subject in another charset": (mail(Subject="=?utf-8?q?Gr=FC=DFe?="), ["wrong-charset"]),
    "HTML alone": (mail("<p>Hi</p>", Content_Type=HTML), ["no-plain-text"]),
    "HTML beside nothing": (page("<p>Hi</p>", " \r\n"), ["no-plain-text"]),
    "much HTML": (page(LARGE), ["clipped"]),
    "a link that shows another": (
        page('<a href="https://click.example.net/1">https://www.example.com/</a>'),
        ["link-elsewhere"],
    ),
    "http: to a page of one's own": (mail("http://shop.example.com/confirm"), ["no-https"]),
    "http: to the domain of the host that sends": (
        mail("http://www.example.com/", From="noreply@mail.example.com"),
        ["no-https"],
    ),
    "http: to where https: is": (
        mail("https://example.net/a http://example.net/b"),
        ["no-https"],
    ),
    "an image by http:": (page('<img alt="" src="http://example.net/a.png">'), ["no-https"]),
    "an image without alt": (page('<img src="https://example.net/a.png">'), ["no-alt"]),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_problem(name: str) -> None:
    message, problems = FAULTY[name]
    assert names(message) == problems


UTF8 = dataclasses.replace(ENVELOPE, mail_options=["SMTPUTF8"], protocol="UTF8SMTP")
AT_HOME = dataclasses.replace(ENVELOPE, rcpt_tos=["root@laptop"])
FOREIGN = dataclasses.replace(ENVELOPE, protocol="")
JAPANESE = "こんにちは"
ORDINARY = {
    "a Date of old": mail(Date="Mon, 30 Nov 98 08:48 EST (winter)"),
    "cron's mail": mail(From="root@laptop (Cron Daemon)", envelope=AT_HOME),
    "From at an IP address": mail(From="eva@[192.0.2.1]"),
    "From at example.com": mail(From="noreply@shop.example"),
    "a Sender": mail(From="eva@example.com, tom@example.com", Sender="eva@example.com"),
    "a group, and names with commas": mail(From='"Example, Eva" <eva@example.com>'),
    "Received and DKIM again and again": mail(Received="a", received="b"),
    "SMTPUTF8": mail(Subject="Grüße", From="Eva <grüße@example.com>", envelope=UTF8),
    "UTF-8 that another program stored": mail(Subject="Grüße", envelope=FOREIGN),
    "an encoded word": mail(Subject="=?utf-8?q?Gr=C3=BC=C3=9Fe?="),
    "halves of a letter in two words": mail(Subject="=?utf-8?q?Gr=C3?= =?utf-8?q?=BCn?="),
    "one click": mail(
        List_Unsubscribe=UNSUBSCRIBE, List_Unsubscribe_Post="List-Unsubscribe=One-Click"
    ),
    "unsubscribing by mail": mail(List_Unsubscribe="<mailto:u@example.com>"),
    "a list of people": mail(
        List_Unsubscribe="<https://lists.example.com/u>", List_Post="<mailto:l@example.com>"
    ),
    "a line as long as it may be": mail("a" * 998 + "\r\n"),
    "Latin-1": mail("Grüße".encode("latin-1"), Content_Type="text/plain; charset=iso-8859-1"),
    "quotes of Windows in Latin-1": mail(
        "“Grüße”".encode("cp1252"), Content_Type="text/plain; charset=iso-8859-1"
    ),
    "Latin-1 that says which letter UTF-8 breaks into": mail(
        "Ã¼".encode("latin-1"), Content_Type="text/plain; charset=iso-8859-1"
    ),
    "GBK that says it is GB 2312": mail(
        "朱镕基".encode("gbk"), Content_Type="text/plain; charset=gb2312"
    ),
    "ISO-2022-JP": mail(
        JAPANESE.encode("iso2022_jp"), Content_Type="text/plain; charset=iso-2022-jp"
    ),
    "the letter for what is none, in UTF-8": mail(
        "What does \ufffd mean?", Content_Type="text/plain; charset=utf-8"
    ),
    "a charset that is said to be unknown": mail(
        b"\xa1\xa1", Content_Type="text/plain; charset=unknown-8bit"
    ),
    "HTML that says its charset by itself": mail(
        '--b\r\n\r\nHi\r\n--b\r\nContent-Type: text/html\r\n\r\n<meta charset="utf-8">'
        "Grüße\r\n--b--\r\n",
        Content_Type="multipart/alternative; boundary=b",
    ),
    "HTML that shows nothing, beside a file": page("<div><br></div>", ""),
    "HTML, and a footer of a list": mail(
        "--b\r\nContent-Type: text/html\r\n\r\n<p>Hi\r\n--b\r\n\r\nThe list\r\n--b--\r\n",
        Content_Type="multipart/mixed; boundary=b",
    ),
    "much text": mail("Hello Bob\r\n" * 20_000),
    "a link that shows its page": page(
        '<a href="https://example.com/?utm=1">https://www.example.com/</a>'
    ),
    "a link that shows another host of its domain": page(
        '<a href="https://click.example.com/1"> https://www.Example.com </a>'
    ),
    "a link that shows words": page('<a href="https://click.example.net/1">example.com</a>'),
    "a link that shows its address cut": page(
        '<a href="https://example.net/1">https://www.exam…</a>'
    ),
    "a link to Unicode and Punycode": page(
        '<a href="https://xn--mnchen-3ya.example">https://münchen.example</a>'
    ),
    "mailto:": page('<a href="mailto:eva@example.com">https://example.org/</a>'),
    "somebody else's page by http:": mail("see http://www.example.net/"),
    "a page in the same country": mail("http://b.co.uk/ http://a.b.co.uk/", From="e@a.co.uk"),
    "a computer of one's own": mail(
        "http://localhost:8000/ http://testserver/ http://127.0.0.1/ http://shop.test/ "
        "http://[::1]/ https://localhost:8000/ https://shop.test/"
    ),
    "a name of XML": page('<html xmlns="http://www.w3.org/1999/xhtml"><p>Hi'),
    "an image that is decoration": page('<img alt src="cid:a">'),
    "an image that counts readers": page(
        '<img src="https://example.com/1" width="1" height="1">'
        '<img src="https://example.com/2" width="0px">'
        '<img src="https://example.com/3" style="display: none">'
        '<img src="https://example.com/4" role="presentation">'
    ),
    "an image for Outlook alone": page('<!--[if mso]><img src="cid:a"><![endif]-->'),
    "a message within it that has problems": mail(
        "--b\r\n\r\nsee there\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        "Subject: a\r\nSubject: b\r\nContent-Type: text/html\r\n\r\n<img src=a>\r\n--b--\r\n",
        Content_Type="multipart/mixed; boundary=b",
    ),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_no_problem(name: str) -> None:
    assert ORDINARY[name].problems() == []


def test_each_check_is_tested_and_has_a_source() -> None:
    seen = {name for _, problems in FAULTY.values() for name in problems}
    table = [check.name for check in CHECKS]
    assert seen | {"repeated-message-id", "no-dkim"} == set(table)
    assert len(set(table)) == len(table)
    for check in CHECKS:
        assert re.fullmatch("[a-z-]+", check.name)
        assert check.text.endswith(".")
        assert check.text.count("{") == check.text.count("{found}")
        assert urlsplit(check.source.url).scheme == "https"


def test_a_text_says_where() -> None:
    images = "".join(f'<img src="https://example.com/{n}.png">' for n in range(5))
    assert "(0.png, 1.png, 2.png and 2 more)" in text_of(page(images), "no-alt")
    assert "(line 7 has 999)" in text_of(mail("a" * 999), "long-line")
    assert "(https://a.test leads to b.test)" in text_of(
        page('<a href="http://b.test">https://a.test</a>'), "link-elsewhere"
    )
    assert "(the text is in UTF-8, and not in iso-8859-1)" in text_of(
        mail("Grüße", Content_Type="text/plain; charset=iso-8859-1"), "wrong-charset"
    )


def test_what_a_client_sent_acts_in_no_text() -> None:
    hostile = "\x1b[2J\u202e{found}" + "x" * 5000
    message = page(f'<img src="{hostile}"><a href="http://a.test">http://b.test/{hostile}</a>')
    for problem in message.problems():
        assert problem.text.isprintable()
        assert len(problem.text) < 600
    assert "\\x1b[2J\\u202e{found}" in text_of(message, "no-alt")


def test_a_problem_is_a_record() -> None:
    (problem,) = mail(Date=None).problems()
    assert isinstance(problem, Problem)
    assert problem.to_dict() == {
        "name": "no-date",
        "text": problem.text,
        "source": "RFC 5322 section 3.6.1",
        "url": "https://www.rfc-editor.org/rfc/rfc5322#section-3.6.1",
    }


def repeated(messages: Sequence[StoredMessage]) -> list[bool]:
    seen: dict[str, str] = {}
    return [
        "repeated-message-id" in [problem.name for problem in message.problems(seen=seen)]
        for message in messages
    ]


def test_a_message_id_that_repeats() -> None:
    other = mail(Date="Mon, 30 Nov 2026 08:49:00 +0000")
    assert repeated([mail(), mail(Message_ID="<1@example.com>"), other]) == [False, False, True]
    # Each got a mail of their own.
    assert repeated([mail(), mail(To="carol@example.org")]) == [False, True]
    # The same mail by itself and from a list, which changes the subject.
    assert repeated([mail(), mail(Subject="[list] Welcome", List_Id="<list>")]) == [False] * 2
    assert repeated([mail(Message_ID=None), mail(Message_ID=None, Date=None)]) == [False] * 2
    assert other.problems() == []
