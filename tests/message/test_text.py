"""Plain text: the links in it."""

from __future__ import annotations

import pytest

from mailhandlers.message.text import links_in, urls_in


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("<https://a.test/x>", ["https://a.test/x"]),
        ('"https://a.test/x"', ["https://a.test/x"]),
        ("'https://a.test/x'", ["https://a.test/x"]),
        ("See https://a.test/x!?...", ["https://a.test/x"]),
        ("https://a.test/wiki/A_(b)", ["https://a.test/wiki/A_(b)"]),
        ("(see https://a.test/wiki/A_(b))", ["https://a.test/wiki/A_(b)"]),
        ("[https://a.test/1](https://a.test/2)", ["https://a.test/1", "https://a.test/2"]),
        ("*https://a.test/x*, _https://a.test/y_", ["https://a.test/x", "https://a.test/y"]),
        (
            "Go to https://a.test/t-_ or https://a.test/t~",
            ["https://a.test/t-_", "https://a.test/t~"],
        ),
        (
            "https://a.test/t*\n  https://a.test/t!\n",
            ["https://a.test/t*", "https://a.test/t!"],
        ),
        ("| https://a.test/1|https://a.test/2 |", ["https://a.test/1|https://a.test/2"]),
        ("<https://a.test/ab\n  cd\nef>, then", ["https://a.test/abcdef"]),
        ("<https://a.test/ab\nand more> then", ["https://a.test/ab"]),
        (
            "<https://a.test/my file.pdf> and <see https://a.test/b c>",
            ["https://a.test/my file.pdf", "https://a.test/b"],
        ),
        ("<http://>, <https://a.test/>", ["https://a.test/"]),
        ('<https://a.test/a target="b">', ["https://a.test/a"]),
        ("mailto://a@b.test tel://1 sms://2 itms-apps://x", ["itms-apps://x"]),
        ("https://[::1]:8000/x", ["https://[::1]:8000/x"]),
        ("请点击https://a.test/x。谢谢", ["https://a.test/x"]),
        ("myapp://reset?token=a.b-c", ["myapp://reset?token=a.b-c"]),
        ("https://a.test/?q=a&amp;b#c", ["https://a.test/?q=a&amp;b#c"]),
        ("HTTP://A.TEST/X", ["HTTP://A.TEST/X"]),
        ("https://a.test/é", ["https://a.test/é"]),
        ("http:// and ://x and a.test", []),
    ],
)
def test_links_in_plain_text(text: str, links: list[str]) -> None:
    assert list(links_in(text)) == links


def test_a_link_is_where_it_stands() -> None:
    text = "See <https://a.test/ab\ncd> or http://b.test."
    assert [(text[start:end], url) for start, end, url in urls_in(text)] == [
        ("https://a.test/ab\ncd", "https://a.test/abcd"),
        ("http://b.test", "http://b.test"),
    ]
