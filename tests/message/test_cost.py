"""What reading a message costs: processor time that grows as its length does, and no faster.

Nobody picked these messages. Each context in which mail is interpreted is filled with one to
three of the marks that mean something there, again and again, up to a length and up to four
times that length. Through every door the longer message may take six times as long as the
shorter, and two seconds a megabyte.

``COST_SEED`` chooses other combinations of marks, and ``COST_CASES`` how many for a context;
to the file ``COST_REPORT`` each case adds a line for each door: its name, the growth, and the
seconds as a part of those allowed.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import itertools
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailhandlers import StoredMessage, block
from mailhandlers.block import FormatError
from mailhandlers.mail import Envelope, Mail
from mailhandlers.stores import foreign, json_lines, mbox
from mailhandlers.stores.store import Entry

try:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from mailhandlers.web import api, pages, responses, screen, sending, settings
except ImportError:  # the extra "web" is not installed
    api = pages = responses = screen = sending = settings = None  # type: ignore[assignment]

pytestmark = pytest.mark.slow

SEED = os.environ.get("COST_SEED", "mail")
CASES = int(os.environ.get("COST_CASES", "16"))
"""How many for each context."""
LENGTH = 4_000
STEP = 4
MOST_GROWTH = 6.0
SECONDS_PER_OCTET = 2.0 / 1_000_000
SECONDS_PER_PART = 0.0005
"""A message has 2000 parts at most, and each costs something: objects, and a file to save."""
FLOOR = 0.005
"""Seconds under which growth isn't asked for, since one tick of another program doubles them.

It hides no growth that matters: at 16,000 octets it is 0.3 s a megabyte, a sixth of what
is allowed there.
"""
HOPELESS = 20
"""How many times too much is measured no second time."""
NUMBER = b"{#}"
"""Stands for another number each time."""

# Contexts: what stands before, the marks, what stands behind


class Context(NamedTuple):
    before: bytes
    marks: tuple[bytes, ...]
    after: bytes = b""
    doors: str = "message"


def marks(*groups: str) -> tuple[bytes, ...]:
    r"""Return marks from words; ``\s \t \n`` and the like are written as in Python."""
    words = " ".join(groups).split()
    return tuple(
        word.encode("latin-1").decode("unicode_escape").encode("latin-1") for word in words
    )


BLANKS = r"\x20 \t \n\x20 \r"
LETTERS = r"a \xe9 \xc3\xa9 {#}"
WORDS = (
    r"=? ?= ? ?q? ?b? utf-8 _ =41 = * =?utf-8?q?a?= =?utf-8?b?YQ==?= =?x{#}?q?a?= =?{#}?b?a?="
)
ADDRESSES = r', ; : < > @ . " \\ ( ) [ ] a@b <a@b> (a) "a" a@b, a@, g:'
PARAMETERS = (
    r'; , = " \\ ( ) / * \' % a=b ;a=b ;a{#}=b ;a="b" a*0=b ;a*{#}=b ;a*{#}*=%41 '
    r";a*=utf-8''%41 ;name= ;filename=a ;charset= ;boundary= (a)"
)
DATES = r"1 12 2024 Mon Jan , : - + ( ) 10:00 +0000 GMT 99999"
URLS = (
    r"http:// :// : / a.test . , ; ! ? ' * _ ~ | ( ) [ ] ]( { } < > <http://a mailto: "
    r"\u2019".replace(r"\u2019", r"\xe2\x80\x99")
)
CODES = r"1 1234 123 123\x20456 123-456 - : $ \xc2\xa0"
TAGS = (
    r"< > </ /> <a <a> </a> <p> <br <! <!-- --> --!> - <? <![CDATA[ <style> </style> "
    r"<script> </script> <title> </title> <textarea> <plaintext> <img <table> <html <body"
)
ATTRIBUTES = (
    r'= " \' / href= href="http://a" src= src="cid:a" style= style="a:b" a=b a{#}=b '
    r"class= background= alt id width=1"
)
REFERENCES = r"& &# &#x ; &amp; &amp &#65; &#x41; &notit; &copy= 9 & &a &aaaaaaaa"
STYLES = (
    r"url( ) \" ' \\ /* */ @import @media ; { } : image-set( src( behavior: "
    r"expression( \\75 < <!-- url(http://a) url(cid:a) a{b:c} , , @ -"
)
BOUNDARIES = (
    r"- -- --b --b-- --b\n --b\n\n \n--b \n--b\n \n--b-- --bx\n --b\x20 --a\n "
    r"Content-Type:text/html\n Content-Type:message/rfc822\n Content-Type:a/b\n"
)
FIELDS = r": a a: a:b\n : :\n \n\n From\x20 >From\x20 \x00 =?utf-8?q?a?="
ENVELOPES = (
    r'{ } " \\ [ ] : , {"a":" "} "}\n }\n }\n\x20 }\n\t \n Return-Path: X-Envelope: '
    r"X-Peer: =?utf-8?q?a?= =?utf-8?q?}?=\n\x20 1 null \x00"
)
MBOXES = (
    r"From\x20 >From\x20 > >> \nFrom\x20 \n>From\x20 \nFrom\x2010:00\n 10:00 F \x00 Status:a\n"
)


def field(name: str, words: str, value: str = "", after: bytes = b"\n\nbody\n") -> Context:
    before = f"{name}: {value}".encode()
    return Context(before, marks(words, BLANKS, LETTERS), after)


def body(kind: str, words: str, before: bytes = b"", after: bytes = b"") -> Context:
    return Context(f"{kind}\n\n".encode() + before, marks(words, BLANKS, LETTERS, r"\n"), after)


def page(words: str, before: bytes = b"", after: bytes = b"") -> Context:
    return body("Content-Type: text/html; charset=utf-8", words, before, after)


def encoded(name: str, words: str, before: bytes = b"") -> dict[str, Context]:
    """Return an encoding's contexts: what it holds is text, a page, and a file."""
    return {
        f"{name} of {kind}": body(
            f"Content-Type: {kind}\nContent-Transfer-Encoding: {name}", words, before
        )
        for kind in ("text/plain", "text/html", "a/b; name=a")
    }


MIXED = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n"
RELATED = (
    b"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: image/png\n"
    b"Content-ID: <a>\nContent-Location: b\n\n" + b"x" * 900 + b"\n--b\n"
    b"Content-Type: text/html\n\n"
)
DEEP = b"".join(
    b"Content-Type: multipart/mixed; boundary=%s\n\n--%s\n" % (name, name)
    for name in (b"b" * n for n in range(40, 0, -1))
)
BLOCK = block.header_block(
    Envelope(
        id="a",
        received=datetime(2024, 1, 1, tzinfo=timezone.utc),
        peer="",
        helo="",
        protocol="ESMTP",
        tls=None,
        auth=None,
        mail_from="eva@example.com",
        mail_options=[],
        rcpt_tos=["bob@example.com"],
        size=0,
    )
)
# A signature that is looked at to its end: the body below is the one that it names.
SIGNED_BODY = b"\n\nbody\n"
SIGNATURE = (
    b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/%%b; d=a.test; s=a; bh=%b; b=AAAA; h=%%b"
    % base64.b64encode(hashlib.sha256(b"body\r\n").digest())
)
SIGNATURES = r"v=1; b= b=AAAA; bh= h= h=a:b: a: : ; = t=1; x=1; l=1; i=@a.test; z=a|b" + BLANKS
FAKED = b"Return-Path: a\nX-Peer: a\nX-MailFrom: a\nX-RcptTo: a\nX-Envelope: "

CONTEXTS: dict[str, Context] = {
    **{
        name: field(name, ADDRESSES + " " + WORDS)
        for name in ("From", "To", "Cc", "Bcc", "Reply-To", "Sender", "Resent-To")
    },
    "To, in a group": field("To", ADDRESSES, "friends: "),
    "To, in a comment": field("To", ADDRESSES, "("),
    "To, in quotes": field("To", ADDRESSES, '"'),
    "To, in an angle": field("To", ADDRESSES, "<"),
    **{
        name: field(name, WORDS + r' " ( , <')
        for name in ("Subject", "Message-ID", "References", "Received", "X-Other", "Comments")
    },
    "DKIM-Signature": field("DKIM-Signature", SIGNATURES, "v=1; a=rsa-sha256; "),
    "DKIM-Signature, names": Context(
        SIGNATURE % (b"simple", b"from:"), marks(SIGNATURES, LETTERS), SIGNED_BODY
    ),
    "headers that are signed": Context(
        SIGNATURE % (b"simple", b":".join([b"from", b"a", *(b"a%d" % n for n in range(90))]))
        + b"\n",
        marks(FIELDS, BLANKS, LETTERS, r"From:a\n A:b\n \n\x20 \n\t"),
        SIGNED_BODY,
    ),
    "a body that is signed": Context(
        SIGNATURE % (b"relaxed", b"from") + b"\n\n",
        marks(BLANKS, r"\x20\x20 \t\t \x20\n \n \r\n a"),
    ),
    "a body that is signed as it is": Context(
        SIGNATURE % (b"simple", b"from") + b"\n\n",
        marks(BLANKS, r"\x20\x20 \t\t \x20\n \n \r\n a"),
    ),
    "List-Unsubscribe": field("List-Unsubscribe", ADDRESSES + " " + URLS),
    "Date": field("Date", DATES),
    "Date, ours before": field("Date", DATES, "Mon, 1 Jan 2024 10:00:00 +0000 "),
    **{
        name: field(name, PARAMETERS + " " + WORDS)
        for name in ("Content-Type", "Content-Disposition", "Content-Transfer-Encoding")
    },
    "Content-Type, parameters": field("Content-Type", PARAMETERS, "text/plain;"),
    "Content-Type, a boundary": field("Content-Type", PARAMETERS, "multipart/mixed; boundary="),
    "Content-Type, a charset": field("Content-Type", PARAMETERS, "text/html; charset="),
    "Content-Type, in quotes": field("Content-Type", PARAMETERS, 'text/plain; a="'),
    "Content-Type, in a comment": field("Content-Type", PARAMETERS, "text/plain; ("),
    "Content-Disposition, sections": field(
        "Content-Disposition",
        r"* ' % = ; 0 *= *0= %41 utf-8'' ;filename*{#}= ;filename*{#}*= ;filename*0*=a",
        "attachment; filename*0*=utf-8''",
    ),
    "Content-Disposition, a name": field(
        "Content-Disposition",
        r'/ \\ . .. : ~ % * con nul .exe " \x00 \x7f \xe2\x80\xae ' + WORDS,
        "attachment; filename=",
    ),
    "Content-Disposition, a name in quotes": field(
        "Content-Disposition",
        r'/ \\ . : ~ % \\" .a ' + WORDS,
        'attachment; filename="',
        b'"\n\n',
    ),
    "Content-ID": field("Content-ID", ADDRESSES),
    "Content-Location": field("Content-Location", URLS),
    "MIME-Version": field("MIME-Version", r"1 . 0 ( ) 1.0"),
    "headers": Context(b"", marks(FIELDS, BLANKS, LETTERS)),
    "headers of a part": Context(MIXED, marks(FIELDS, BLANKS, LETTERS)),
    "headers of a message in it": Context(
        b"Content-Type: message/rfc822\n\n", marks(FIELDS, BOUNDARIES, BLANKS)
    ),
    "delivery status": Context(
        b"Content-Type: message/delivery-status\n\n", marks(FIELDS, BLANKS, LETTERS, r"\n")
    ),
    "parts": Context(MIXED, marks(BOUNDARIES, FIELDS, BLANKS)),
    "parts of a digest": Context(
        MIXED.replace(b"mixed", b"digest"), marks(BOUNDARIES, FIELDS, BLANKS)
    ),
    "parts of which one is shown": Context(
        MIXED.replace(b"mixed", b"alternative"), marks(BOUNDARIES, BLANKS)
    ),
    "parts deep in parts": Context(DEEP, marks(BOUNDARIES, BLANKS, r"--bb\n --bbb--\n")),
    "parts between dashes": Context(
        MIXED.replace(b"b\n", b"-\n"), marks(BOUNDARIES, BLANKS, r"---\n -----\n")
    ),
    "text": body("Content-Type: text/plain; charset=utf-8", URLS + " " + CODES),
    "text with codes": body("Content-Type: text/plain; charset=utf-8", CODES + r" . , / w"),
    "text, a link in angles": body("Content-Type: text/plain", URLS, b"<http://a.test/"),
    "flowed text": body(
        "Content-Type: text/plain; format=flowed", r"> >> \x20\n \n> -- --\x20\n \n\x20 a\x20\n"
    ),
    "flowed text, joined": body(
        "Content-Type: text/plain; format=flowed; delsp=yes", URLS + r" > >> \x20\n \n>"
    ),
    "HTML": page(TAGS),
    "HTML with text": page(TAGS + " " + URLS + " " + CODES),
    "HTML, references": page(REFERENCES),
    "HTML, references in an attribute": page(REFERENCES, b'<p title="', b'">'),
    "HTML, in a tag": page(ATTRIBUTES + " " + REFERENCES, b"<a "),
    "HTML, in a tag that ends": page(ATTRIBUTES + " " + URLS, b"<img ", b">"),
    "HTML, in a link": page(URLS + " " + REFERENCES, b'<a href="http:', b'">a</a>'),
    "HTML, in what a link shows": page(
        URLS + " " + TAGS + r" https://a.test https:// a. -",
        b'<a href="http://b.test">https://a',
    ),
    "HTML, in a comment": page(TAGS, b"<!--"),
    "HTML, in a script": page(TAGS, b"<script>"),
    "HTML, in a title": page(TAGS + " " + REFERENCES, b"<title>"),
    "HTML, in a style sheet": page(STYLES, b"<style>"),
    "HTML, in a style sheet that ends": page(STYLES, b"<style>", b"</style>"),
    "HTML, in a style": page(STYLES, b'<p style="', b'">'),
    "HTML, in images": page(
        r"= \" ' > src= background= http: https:// url( cid: cid:a data: "
        r"data:image/png;base64, ;base64, A A= %41 <img",
        b"<img src=",
    ),
    "HTML, in an image's data": page(
        r"A + / = ; , %41 image/ png base64 data:", b'<img src="data:image/png', b'">'
    ),
    "HTML with embedded images": Context(
        RELATED,
        marks(r'<img src= "cid:a" cid:a cid:b b > " = url( url(cid:a) style=" %61'),
    ),
    "HTML, where the charset stands": Context(
        b"Content-Type: text/html\n\n",
        marks(r"<meta\x20 <meta charset charset= = > \" utf-8 http-equiv", BLANKS),
    ),
    **encoded("base64", r"A AA AAA = == + / - \n \r\n \x00 SGVsbG8= PGEg"),
    **encoded("quoted-printable", r"= == =\n =\r\n =41 =3 =3D \x20\n =20 =0A =3C"),
    **encoded("x-uuencode", r"M _ ! #86)C # ` \n \nM \nend begin\x20", b"begin 644 a\n"),
    "uuencode before it begins": body("Content-Transfer-Encoding: uue", r"begin\x20 M \n \nM"),
    **{
        f"text in {charset}": body(
            f"Content-Type: text/plain; charset={charset}",
            r"+ - ~ ~{ ~} \x1b \x1b$B \x1b(B \x1b(I \x1b$(D \x0e \x0f \x80 \xa1 \xa1\xa1 "
            r"\x8e \x8f \xff \xfe \x00 \xd8 \xad\xa1 A AA &",
        )
        for charset in (
            *("utf-8", "utf-7", "utf-16", "us-ascii", "iso-8859-1", "iso-2022-jp", "euc-jp"),
            *("shift_jis", "gb2312", "big5", "euc-kr", "hz", "iso-2022-kr", "utf-8-sig", "x"),
            *("koi8-r", "utf-32", "iso-2022-jp-2", "johab", "cp037"),
        )
    },
    "mail file": Context(BLOCK, marks(ENVELOPES, BLANKS, FIELDS), doors="store"),
    "mail file, faked": Context(FAKED, marks(ENVELOPES, BLANKS), doors="store"),
    "mail file, an object": Context(
        FAKED + b'{"id":"', marks(ENVELOPES, BLANKS), doors="store"
    ),
    "mail file, no block": Context(b"", marks(ENVELOPES, FIELDS, BLANKS), doors="store"),
    "mbox": Context(b"From a 10:00\n" + BLOCK, marks(MBOXES, BLANKS, r"\n"), doors="store"),
    "mbox, faked": Context(
        b"From a 10:00\n" + FAKED, marks(MBOXES, ENVELOPES, BLANKS), doors="store"
    ),
    "mbox, the From line": Context(
        b"From ", marks(MBOXES, DATES, BLANKS), b"\nTo: a@b\n\na\n", doors="store"
    ),
    "JSON": Context(b'{"id": "', marks(ENVELOPES, BLANKS), doors="store"),
    "JSON, nested": Context(b'{"id": "a", "raw": ', marks(ENVELOPES, BLANKS), doors="store"),
    "headers of other programs": Context(
        b"Return-Path: a\nDelivered-To: a\nTo: ", marks(ADDRESSES, WORDS, BLANKS), doors="store"
    ),
}


def grown(context: Context, unit: bytes, length: int) -> bytes:
    """Return the context with *unit* in it, again and again up to *length* octets."""
    if NUMBER not in unit:
        filling = unit * (length // len(unit) + 1)
    else:
        # Of four digits each: numbers that get longer would mean something else at the end.
        pieces = (unit.replace(NUMBER, b"%d" % n) for n in itertools.count(1000))
        filling = b""
        room, taken = length, []
        while room > 0:
            taken.append(next(pieces))
            room -= len(taken[-1])
        filling = b"".join(taken)
    return context.before + filling[:length] + context.after


def units(name: str, context: Context) -> list[bytes]:
    """Return what fills *context*: one to three of its marks, by chance."""
    chance = random.Random(f"{SEED} {name}")
    found: dict[bytes, None] = {}
    while len(found) < CASES:
        found[b"".join(chance.choices(context.marks, k=chance.choice((1, 2, 2, 3))))] = None
    return list(found)


# Structures: what is deep, what is wide


def _part(n: int, name: bytes = b"a.txt", kind: bytes = b"a/b", more: bytes = b"") -> bytes:
    head = b"--b\nContent-Type: %s\nContent-Disposition: attachment; filename=%s\n"
    return head % (kind, name) + more + b"\n%d\n" % n


def _within(head: bytes, made: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Return the maker of *head* and as many of what is *made* as there is room for."""

    def maker(length: int) -> bytes:
        pieces, room = [head], length
        for n in itertools.count():
            pieces.append(made(n))
            room -= len(pieces[-1])
            if room <= 0:
                return b"".join(pieces)
        raise AssertionError

    return maker


def _halves(first: Callable[[int], bytes], second: Callable[[int], bytes]) -> Any:
    return lambda length: first(length // 2) + second(length // 2)


MANY_HEADERS = _within(b"", lambda n: b"A: b\n")
STRUCTURES: dict[str, Callable[[int], bytes]] = {
    "parts of one name": _within(MIXED, _part),
    "parts of names that differ in case": _within(
        MIXED, lambda n: _part(n, b"A.txt" if n % 2 else b"a.TXT")
    ),
    "parts of one long name": _within(MIXED, lambda n: _part(n, b"a" * 250)),
    "parts with numbered names": _within(MIXED, lambda n: _part(n, b"a-%d.txt" % n)),
    "parts without a name": _within(MIXED, lambda n: b"--b\nContent-Type: a/b\n\na\n"),
    "parts without headers": _within(MIXED, lambda n: b"--b\n\n"),
    "parts without a blank line": _within(MIXED, lambda n: b"--b\nA: b\n"),
    "parts of a digest": _within(MIXED.replace(b"mixed", b"digest"), lambda n: b"--b\n\na\n"),
    "parts with unknown charsets": _within(
        MIXED, lambda n: b"--b\nContent-Type: text/plain; charset=x%d\n\na\n" % n
    ),
    "parts that are pages": _within(MIXED, lambda n: b"--b\nContent-Type: text/html\n\n<a>\n"),
    "parts that are messages": _within(
        MIXED, lambda n: b"--b\nContent-Type: message/rfc822\n\nSubject: a\n\na\n"
    ),
    "parts with one boundary in each other": _within(
        b"", lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n--b\n"
    ),
    "parts in parts": _within(
        b"", lambda n: b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n)
    ),
    "parts in parts that end": lambda length: (
        b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n)
            for n in range(length // 70)
        )
        + b"".join(b"--b%d--\n" % n for n in reversed(range(length // 70)))
    ),
    "messages in messages": _within(b"", lambda n: b"Content-Type: message/rfc822\n\n"),
    "messages and parts in turn": _within(
        b"",
        lambda n: (
            b"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; "
            b"boundary=b%d\n\n--b%d\n" % (n, n)
        ),
    ),
    "long lines below parts in parts": lambda length: DEEP + b"--bX" * (length // 4),
    "lines below parts in parts": lambda length: DEEP + b"--bX\n" * (length // 5),
    "blank lines below parts in parts": lambda length: DEEP + b"\n" * length,
    "parts below parts in parts": lambda length: DEEP + b"--b\n\n" * (length // 5),
    "forms in forms": _within(DEEP.replace(b"mixed", b"alternative"), lambda n: b"--b\n\na\n"),
    "headers of a form in forms": _within(
        DEEP.replace(b"mixed", b"alternative"), lambda n: b"A:\n"
    ),
    "parts of each level": lambda length: (
        DEEP + b"".join(b"--%s\n\n" % (b"b" * (n % 40 + 1)) for n in range(length // 25))
    ),
    "headers": MANY_HEADERS,
    "headers with one name": _within(b"", lambda n: b"To: a@b\n"),
    "headers with many names": _within(b"", lambda n: b"X%d: =?utf-8?q?a?=\n" % n),
    "Content-Type again and again": _within(b"", lambda n: b"Content-Type: text/html; a=b\n"),
    "signatures": _within(b"", lambda n: SIGNATURE % (b"relaxed", b"from:to") + b"\n"),
    "signatures, then a body": _halves(
        _within(b"", lambda n: SIGNATURE % (b"relaxed", b"from:to") + b"\n"),
        _within(b"\n", lambda n: b"a  b \n"),
    ),
    "images": _within(
        b"Content-Type: text/html\n\n", lambda n: b"<img src=http://a.test/%d>" % n
    ),
    "dates": _within(b"", lambda n: b"Date: Mon, 1 Jan 2024 10:00:00 +0000\n"),
    "headers, then parts": _halves(MANY_HEADERS, _within(MIXED, lambda n: b"--b\n\n")),
    "headers, then parts of a digest": _halves(
        MANY_HEADERS, _within(MIXED.replace(b"mixed", b"digest"), lambda n: b"--b\n\n")
    ),
    "headers, then attachments": _halves(MANY_HEADERS, _within(MIXED, _part)),
    "parameters of many names": _within(b"Content-Type: a/b", lambda n: b"; a%d=b" % n),
    "parameters of one name": _within(b"Content-Type: a/b", lambda n: b"; name=b"),
    "sections": _within(
        b"Content-Disposition: attachment", lambda n: b"; filename*%d=a" % (n % 10000)
    ),
    "sections backwards": lambda length: (
        b"Content-Disposition: attachment"
        + b"".join(b"; filename*%d*=%%41" % n for n in reversed(range(length // 16)))
        + b"\n\n"
    ),
    "addresses": _within(b"To: ", lambda n: b"a%d@example.com, " % n),
    "addresses with names": _within(b"To: ", lambda n: b'"Eva %d" <eva%d@a.test>,\n ' % (n, n)),
    "groups": _within(b"To: ", lambda n: b"g%d: a@b, c@d; " % n),
    "words with unknown charsets": _within(b"Subject: ", lambda n: b"=?x%d?q?a?=\n " % n),
    "words with many charsets": _within(
        b"Subject: ", lambda n: b"=?iso-8859-%d?q?=E9?=\n " % (n % 15 + 1)
    ),
    "one image again and again": lambda length: (
        RELATED.replace(b"x" * 900, b"x" * (length // 2))
        + b'<img src="cid:a">' * (length // 2 // 17)
    ),
    "one image again and again in a style": lambda length: (
        RELATED.replace(b"x" * 900, b"x" * (length // 2))
        + b"<style>"
        + b"a{b:url(cid:a)}" * (length // 2 // 15)
        + b"</style>"
    ),
    "one id again and again": _within(
        MIXED,
        lambda n: b"--b\nContent-Type: image/png\nContent-ID: <a>\n\na\n",
    ),
    "images and pages in turn": _within(
        MIXED,
        lambda n: (
            b"--b\nContent-Type: image/png\nContent-ID: <a%d>\n\na\n--b\n"
            b'Content-Type: text/html\n\n<img src="cid:a%d">\n' % (n, n)
        ),
    ),
    "links in text": _within(b"\n", lambda n: b"http://a%d.test\n" % n),
    "links in a page": _within(
        b"Content-Type: text/html\n\n", lambda n: b"<a href=http://a%d.test>a</a>" % n
    ),
    "codes in text": _within(b"\n", lambda n: b"%06d\n" % n),
    "lines that decode to NULs, 22 for each octet": _within(
        b"Content-Transfer-Encoding: x-uuencode\n\nbegin 644 a\n", lambda n: b"M\n"
    ),
    "texts": _within(MIXED, lambda n: b"--b\n\nhttp://a.test/%d\n" % n),
}

# Doors: what reads the message, in an order in which each finds done what it builds upon

RECIPIENTS = ["bob@example.com", "carol@example.com"]


def envelope(content: bytes) -> Envelope:
    return Envelope(
        id="1700000000.M000000P1Q1.host",
        received=datetime(2024, 1, 1, tzinfo=timezone.utc),
        peer="127.0.0.1:1",
        helo="laptop",
        protocol="ESMTP",
        tls=None,
        auth=None,
        mail_from="eva@example.com",
        mail_options=[],
        rcpt_tos=RECIPIENTS,
        size=len(content),
    )


class _Mailbox:
    """The mailbox of the web page, which holds one message."""

    path = "inbox"

    def __init__(self, message: StoredMessage) -> None:
        self._message = message

    def get(self, name: str) -> StoredMessage:
        return self._message

    def mails(self, before: str) -> Iterator[Mail]:
        return iter(())

    def entries(self, before: str) -> Iterator[Entry]:
        return iter(())


def _save(message: StoredMessage, folder: str) -> None:
    for attachment in message.attachments:
        attachment.save_to(folder)


def _web(message: StoredMessage, view: str) -> None:
    app = Starlette()
    app.state.mailbox = _Mailbox(message)
    app.state.sender = sending.Sender(settings.WebSettings())
    query = f"view={view}".encode()
    scope = {"type": "http", "app": app, "path_params": {"id": "a"}, "query_string": query}
    pages.message(Request(scope))


KEY = (
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDxB5c5z3MHG2ikSNWrr5OCPCHk3VqQSZpbp/E6v6z0"
    "lzpA23GEXwhDhfqiCxzcNCmejdQ8k2v8vlB7ElpAbdMc/p8rFGyAKj6YSj4eOnnCB6A0vpuDrcyeYCGB"
    "RZSoo7fTheLYc7Ge2S4Z2plG5WgPGUnTsTxdQlpU955aSqb5UwIDAQAB"
)


def _key(folder: str) -> str:
    path = f"{folder}/dkim.txt"
    with open(path, "w") as file:
        file.write(f"p={KEY}")
    return path


MESSAGE_DOORS: dict[str, Callable[[StoredMessage, str], object]] = {
    "text": lambda m, _: m.text,
    "html": lambda m, _: m.html,
    "links": lambda m, _: m.links,
    "codes": lambda m, _: m.codes,
    "what is searched": lambda m, _: m.searched_text,
    "what a terminal shows": lambda m, _: m.shown_text,
    "attachments": lambda m, _: [
        (a.filename, a.content_type, a.content_id, a.content) for a in m.attachments
    ],
    "bcc": lambda m, _: m.bcc,
    "headers": lambda m, _: [getattr(value, "addresses", value) for _, value in m.items()],
    "problems()": lambda m, _: m.problems(seen={}),
    "summary()": lambda m, _: m.summary(),
    "page()": lambda m, _: m.page(),
    "page(remote=True)": lambda m, _: m.page(remote=True),
    "save_to": _save,
    "as_bytes": lambda m, _: m.as_bytes(),
    "as_string": lambda m, _: m.as_string(),
}
if find_spec("dkim"):  # the extra "check" is installed
    MESSAGE_DOORS["problems(dkim_key=...)"] = lambda m, folder: m.problems(
        dkim_key=_key(folder)
    )
if pages is not None:
    MESSAGE_DOORS |= {
        "the record": lambda m, _: b"".join(api.record(m)),
        "the frame": lambda m, _: responses.mail_page(m, remote=False),
        **{
            f"the page's {view}": lambda m, _, view=view: _web(m, view)  # type: ignore[misc]
            for view in ("html", "text", "links", "problems", "headers", "source")
        },
        "the list": lambda m, _: screen.screen(
            [Mail(m.envelope, m.original_content)], criteria=None
        ),
    }

STORE_DOORS: dict[str, Callable[[bytes], object]] = {
    "mail file": block.decode,
    "is it a mail file": block.is_mail_file,
    "mbox": mbox.decode,
    "is it an mbox": mbox.is_mbox,
    "is the mbox torn": lambda data: mbox.is_torn(data, None),
    "is it torn under a lock": lambda data: mbox.is_torn(data, 0),
    "mend the mbox": lambda data: mbox.mend(data, 0),
    "JSON Lines": json_lines.decode,
    "is it JSON Lines": json_lines.is_json_lines,
    "mend JSON Lines": json_lines.mend,
    "is it mail": foreign.is_mail,
    "another program's": lambda data: foreign.envelope(data, "a", 0),
    "another program's date": lambda data: mbox.date_of(data.partition(b"\n")[0]),
}


class Faults(NamedTuple):
    """What is wrong, by door, and whether no second look could find otherwise."""

    found: dict[str, str]
    is_sure: bool
    measured: list[tuple[str, float, float]]
    """Door, growth, and seconds by what is allowed."""


class Cost(NamedTuple):
    """Seconds by door, and how many parts the message has."""

    seconds: dict[str, float]
    parts: int


def cost(content: bytes, doors: str, folder: str) -> Cost:
    """Return what reading *content* takes."""
    seconds = {}
    gc.disable()
    try:
        clock = time.thread_time
        if doors == "store":
            for name, read in STORE_DOORS.items():
                start = clock()
                with contextlib.suppress(FormatError):
                    read(content)
                seconds[name] = clock() - start
            return Cost(seconds, 1)
        start = clock()
        message = StoredMessage.parse(content, envelope(content))
        seconds["parse"] = clock() - start
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for name, use in MESSAGE_DOORS.items():
                start = clock()
                use(message, place)
                seconds[name] = clock() - start
        return Cost(seconds, sum(1 for _ in message.walk()))
    finally:
        gc.enable()


def least(made: Callable[[int], bytes], doors: str, length: int, times: int, to: str) -> Cost:
    content = made(length)
    costs = [cost(content, doors, to) for _ in range(times)]
    seconds = {name: min(c.seconds[name] for c in costs) for name in costs[0].seconds}
    return Cost(seconds, costs[0].parts)


def faults(
    made: Callable[[int], bytes], doors: str, length: int, times: int, to: str
) -> Faults:
    """Return the doors through which the message costs too much, and how much."""
    short = least(made, doors, length, times, to)
    allowed = _allowed(length, short.parts)
    hopeless = {
        name: f"{seconds:.3f} s for {length} octets"
        for name, seconds in short.seconds.items()
        if seconds > HOPELESS * allowed
    }
    if hopeless:
        measured = [(name, 0.0, short.seconds[name] / allowed) for name in hopeless]
        return Faults(hopeless, True, measured)
    long = least(made, doors, STEP * length, times, to)
    allowed = _allowed(STEP * length, long.parts)
    found, measured = {}, []
    for name, seconds in long.seconds.items():
        growth = seconds / max(short.seconds[name], 1e-6)
        measured.append((name, growth if seconds > FLOOR else 0.0, seconds / allowed))
        if seconds > FLOOR and growth > MOST_GROWTH:
            found[name] = (
                f"{growth:.1f} times as long ({seconds:.3f} s, {STEP * length} octets)"
            )
        if seconds > allowed:
            found[name] = f"{seconds:.3f} s for {STEP * length} octets, {long.parts} parts"
    return Faults(found, False, measured)


def _allowed(octets: int, parts: int) -> float:
    return octets * SECONDS_PER_OCTET + parts * SECONDS_PER_PART


def costs_too_much(made: Callable[[int], bytes], doors: str, to: str) -> dict[str, str]:
    """Return the doors through which it costs too much, however often it is measured."""
    look = faults(made, doors, LENGTH, 1, to)
    found = look.found
    for length in (LENGTH, 2 * LENGTH):
        if look.is_sure or not found:
            break
        look = faults(made, doors, length, 3, to)
        found = {name: look.found[name] for name in found if name in look.found}
    if report := os.environ.get("COST_REPORT"):
        with open(report, "a") as file:
            file.writelines(
                f"{name}\t{growth:.2f}\t{of:.3f}\n" for name, growth, of in look.measured
            )
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    """Where attachments are saved: in memory, since to make a file may take a disk long."""
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK):
        memory = str(tmp_path)
    with tempfile.TemporaryDirectory(dir=memory) as place:
        yield place


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_filled_with_what_means_something_there(name: str, folder: str) -> None:
    context = CONTEXTS[name]
    found = {}
    for unit in units(name, context):
        over = costs_too_much(
            lambda length, unit=unit: grown(context, unit, length),  # type: ignore[misc]
            context.doors,
            folder,
        )
        if over:
            found[unit] = over
    assert not found, "\n".join(f"{unit!r}: {over}" for unit, over in found.items())


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_deep_or_wide(name: str, folder: str) -> None:
    assert not costs_too_much(STRUCTURES[name], "message", folder)


def test_there_are_cases_enough() -> None:
    assert sum(len(units(*item)) for item in CONTEXTS.items()) > 1000
