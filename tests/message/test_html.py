"""HTML as a person sees it: its links, and its text line by line."""

from __future__ import annotations

import pytest

from mailhandlers.message.html import Page


@pytest.mark.parametrize(
    ("source", "links"),
    [
        (
            '<a href="https://a.test/?a=1&amp;b=2&#38;c=3">x</a>',
            ["https://a.test/?a=1&b=2&c=3"],
        ),
        ("<a href=https://a.test/x>x</a>", ["https://a.test/x"]),
        ("<A\nHREF='  https://a.test/\nx '>x", ["https://a.test/x"]),
        ('<a href="mailto:a@b.test">x</a> <area href="tel:1">', []),
        (
            '<a href="myapp:reset/1"><a href="SMS:1"><a href="vbscript:x"><a href="geo:1,2">',
            ["myapp:reset/1", "geo:1,2"],
        ),
        ('<a href="#top"><a href=""><a href><a href="javascript:x()"><a href="cid:1">', []),
        ('<link href="https://a.test/s.css"><base href="https://a.test/">', []),
        ('<img src="https://a.test/pixel.gif">', []),
        (
            '<a href="https://a.test/?a=1&copy=2&lt=3&amp;b=4&not;&copy">x</a>',
            ["https://a.test/?a=1&copy=2&lt=3&b=4¬©"],
        ),
        (
            "<p>https://a.test/<wbr>x<wbr>y <b>https://a.test/</b>z</p>",
            ["https://a.test/xy", "https://a.test/z"],
        ),
        (
            "<a href=https://a.test/1>https://a.test/2</a>https://a.test/3",
            ["https://a.test/1", "https://a.test/2", "https://a.test/3"],
        ),
        ('<a href="https://a.test/1', []),
        ("<title>https://a.test/1</title><!-- https://a.test/2", []),
        ("<style>@import 'https://a.test/';</style><script>'https://b.test/'</script>", []),
        (
            "<p>https://a.test/1</p><a href=https://a.test/2>",
            ["https://a.test/1", "https://a.test/2"],
        ),
        (
            "<!-- <a href=https://a.test/> --><![if x]><a href=https://b.test/>",
            ["https://b.test/"],
        ),
    ],
)
def test_links_in_a_page(source: str, links: list[str]) -> None:
    assert Page(source).links == links


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a\n  b <b>c</b>d", "a b cd"),
        ("<p> a </p>\n<p>b</p>", "a\n\nb"),
        ("<div>a<div><div>b</div>", "a\n\nb"),
        ("a<br>b<br><br><br><br>c", "a\nb\n\nc"),
        ("a <span> </span> <i> b</i> <br> c", "a b\nc"),
        ("a&nbsp;&nbsp;b&shy;c&#8203;d", "a bcd"),
        ("<pre>a\n  b\n\n\nc</pre>d\ne", "a\nb\n\n\nc\nd e"),
        ("<style>x</style><title>y</title>a<script>z</script>", "a"),
        ("<td>4</td>\n<td>8</td>", "4\n\n8"),
        ("", ""),
    ],
)
def test_the_text_of_a_page(source: str, text: str) -> None:
    assert Page(source).text == text
