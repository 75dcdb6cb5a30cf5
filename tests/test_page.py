"""One page with the message as a person sees it: nothing runs, nothing is loaded."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhandlers import StoredMessage

PIXEL = "R0lGODlhAQABAAAAACw="


def page(source: str, remote: bool = False, kind: str = "html") -> str:
    content = f"Subject: <Hi> & bye\nContent-Type: text/{kind}; charset=utf-8\n\n{source}"
    return StoredMessage.parse(content.encode("utf-8", "surrogateescape")).page(remote=remote)


def body(source: str, remote: bool = False) -> str:
    """Return what becomes of *source* in the body of the page."""
    match = re.search(r"<body[^>]*>\n(.*)\n</body>", page(source, remote), re.DOTALL)
    assert match is not None
    return match[1]


def test_a_page_says_what_it_is() -> None:
    shown = page("<p>Grüße</p>")
    assert shown.startswith('<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n')
    assert "<title>&lt;Hi&gt; &amp; bye</title>" in shown
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; " in shown
    assert "<p>Grüße</p>" in shown


def test_plain_text_is_shown_as_it_is_with_links_to_click_at() -> None:
    shown = page("1 < 2\n  see https://a.test/?b&c.\n", kind="plain")
    assert "1 &lt; 2\n  see <a " in shown
    assert 'href="https://a.test/?b&amp;c" target="_blank" rel="noopener noreferrer"' in shown
    assert "</a>.\n" in shown


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("<script>alert(1)</script>x", "x"),
        ("<scr<script>ipt>alert(1)</script>x", "ipt&gt;alert(1)x"),
        ('<p onclick="x()" style="color:red">a', '<p style="color:red">a'),
        ("<a href=javascript:x()>a</a>", "<a>a</a>"),
        ("<a href='java\tscript:x()'>a</a>", "<a>a</a>"),
        ("<a href='data:text/html,x'>a</a>", "<a>a</a>"),
        ("<a href=#top>a</a>", '<a href="#top">a</a>'),
        ("<svg><script>x</script></svg><math><mi>a</math>", "a"),
        ("<iframe src=x>a</iframe><object data=x>b</object><embed src=x>", "b"),
        ("<form action=x><input name=a><button>Go</button></form>", "Go"),
        ("<base href=x><link rel=stylesheet href=x><meta http-equiv=refresh content=x>", ""),
        ("<template><p>a</template><noscript><p>b</noscript>", "<p>a<p>b"),
        ("<!-- <b> --><![CDATA[<b>]]>", "]]&gt;"),
        ("<plaintext><script>", ""),
        ("</div></p></body></html><p>a</p></p>", "<p>a</p>"),
        ("<p title='\"><script>'>a", '<p title="&quot;&gt;&lt;script&gt;">a'),
        ('<p "<script>" a=1>b', '<p>" a=1&gt;b'),
        ("<p/onclick='x'/title=a>b", '<p title="a">b'),
        ("a<br/>b&nbsp;&lt;", "a<br>b\xa0&lt;"),
        ("<video src=x autoplay><source src=x></video>a", "a"),
    ],
)
def test_only_what_is_harmless_stays(source: str, shown: str) -> None:
    assert body(source) == shown


@pytest.mark.parametrize(
    "style",
    [
        "background: url(https://e.test/1.gif)",
        "background: URL( 'https://e.test/1.gif' )",
        "background: u\\72l(https://e.test/1.gif)",
        "background: \\75\\72\\6c (https://e.test/1.gif); background: u\\rl(//e.test)",
        "@import 'https://e.test/1.css';",
        "@\\69mport 'https://e.test/1.css';",
        "background: image-set('https://e.test/1.gif' 1x)",
        "background: -webkit-image-set('https://e.test/1.gif' 1x)",
        "width: expression(alert(1)); -moz-binding: url(https://e.test/)",
        "/* \\*/ background: url(https://e.test/1.gif",
    ],
)
def test_no_style_loads_anything(style: str) -> None:
    for shown in (page(f'<p style="{style}">'), page(f"<style>p {{ {style} }}</style>")):
        assert not re.search(
            r"url\((?!\"?data:)|@import|(?<!x-)image-set\(|expression\(", shown
        )


def test_a_style_sheet_stays_and_cannot_end_itself() -> None:
    shown = page("<style>@media (max-width: 9px) { a > b { color: red } }</style><p>a")
    assert "<style>@media (max-width: 9px) { a > b { color: red } }</style>" in shown
    shown = page("<style>a\\3c/style><script>x()</script></style><p>a")
    assert "</style><script>" not in shown


def test_images_of_the_message_are_data() -> None:
    image = f"Content-Type: image/gif\nContent-Transfer-Encoding: base64\n%s\n\n{PIXEL}\n"
    html = (
        "<img src='cid:a%40b' alt=A><img src=pic.gif><img src=cid:no><p background='CID:a@b'>"
    )
    parts = [
        f"Content-Type: text/html\n\n{html}",
        image % "Content-ID: <a@b>",
        image % "Content-Location: pic.gif",
    ]
    message = StoredMessage.parse(
        (
            "Content-Type: multipart/related; boundary=b\n\n"
            + "".join(f"--b\n{part}\n" for part in parts)
            + "--b--\n"
        ).encode()
    )
    data = f"data:image/gif;base64,{PIXEL}"
    assert f'<img src="{data}" alt="A"><img src="{data}"><img><p background="{data}">' in (
        message.page()
    )


def test_an_image_shown_a_thousand_times_makes_no_gigabytes() -> None:
    html = "<img src=cid:a>" * 10_000
    image = "Content-Type: image/gif\nContent-ID: <a>\n\n" + "x" * 100_000
    content = f"--b\nContent-Type: text/html\n\n{html}\n--b\n{image}\n--b--\n"
    head = "Content-Type: multipart/related; boundary=b\n\n"
    assert len(StoredMessage.parse((head + content).encode()).page()) < 4_000_000


def test_images_of_the_web_are_shown_when_they_are_asked_for() -> None:
    source = (
        '<img src="https://e.test/1.gif?a=1&amp;b=2"><img src="//e.test/2"><img src=file:///x>'
        "<p style='background: url(https://e.test/3.gif)'>"
    )
    assert body(source) == '<img><img><img><p style="background: none">'
    assert body(source, remote=True) == (
        '<img src="https://e.test/1.gif?a=1&amp;b=2"><img><img>'
        '<p style="background: url(&quot;https://e.test/3.gif&quot;)">'
    )
    assert "img-src data: https: http:;" in page(source, remote=True)


class Browser(html.parser.HTMLParser):
    """What another parser than ours finds in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs] or [(tag, "", "")]


PIECES = [
    *(
        "<",
        ">",
        "</",
        "/>",
        "<!--",
        "-->",
        "<![CDATA[",
        "'",
        '"',
        "=",
        " ",
        "\n",
        "&lt;",
        "&#60;",
    ),
    *(
        "<script>",
        "</script>",
        "<style>",
        "</style>",
        "<title>",
        "</title>",
        "<img src=",
        "<svg>",
    ),
    *(
        "<p style='",
        "url(",
        "https://e.test/",
        "<a href=",
        "javascript:",
        "onload=",
        "\\3c",
        "\0",
    ),
    *(
        "<textarea>",
        "<noscript>",
        "<math>",
        "<table>",
        "<body ",
        "<html ",
        "<p ",
        "é",
        "/*",
        "*/",
    ),
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_no_page_runs_or_loads_anything(source: str) -> None:
    browser = Browser()
    shown = page(source)
    browser.feed(shown)
    allowed = {"head", "meta", "style", "title"}
    for tag, name, value in browser.found:
        assert tag not in {"script", "svg", "math", "iframe", "object", "link", "base", "form"}
        assert not name.startswith("on")
        assert tag in allowed or name != "content"
        if name in ("src", "background", "href"):
            assert re.match(r"data:image/|https?:|#|mailto:", value) or value == ""
            assert name == "href" or value.startswith("data:")
    assert "<script" not in shown.lower()


def test_a_page_is_saved(tmp_path: Path) -> None:
    message = StoredMessage.parse("Content-Type: text/html\n\n<p>Grüße".encode())
    message.save_page(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == message.page()
