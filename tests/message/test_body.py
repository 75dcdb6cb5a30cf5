"""What a person is to read of a message: the same parts for all who look."""

from __future__ import annotations

import pytest
from cases import case

from mailhandlers import StoredMessage


def multipart(kind: str, *parts: str) -> str:
    """Return a multipart with the boundary *kind*."""
    inner = "".join(f"--{kind}\n{part}\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary={kind}\n\n{inner}--{kind}--"


def text(words: str, kind: str = "plain", more: str = "") -> str:
    return f"Content-Type: text/{kind}\n{more}\n{words}"


def parse(source: str) -> StoredMessage:
    return StoredMessage.parse(source.encode())


PLAIN, HTML, FOOTER = text("plain 1111"), text("<p>html 2222</p>", "html"), text("footer 3333")
PDF = "Content-Type: application/pdf; name=a.pdf\n\n%PDF"


@pytest.mark.parametrize(
    ("source", "plain", "html", "page", "attached"),
    [
        # Each multipart/alternative has its own HTML, and nothing beside it is dropped.
        (multipart("mixed", PLAIN, HTML), "1111", "2222", "1111 2222", 0),
        (multipart("mixed", HTML, FOOTER), "3333", "2222", "2222 3333", 0),
        (multipart("alternative", PLAIN, HTML), "1111", "2222", "2222", 0),
        (multipart("alternative", HTML, PLAIN), "1111", "2222", "2222", 0),
        (
            multipart("mixed", multipart("alternative", PLAIN, HTML), FOOTER),
            "1111 3333",
            "2222",
            "2222 3333",
            0,
        ),
        (
            multipart("alternative", PLAIN, multipart("mixed", HTML, PDF, FOOTER)),
            "1111 3333",
            "2222",
            "2222 3333",
            1,
        ),
        (
            multipart("alternative", PLAIN, multipart("related", HTML, PDF)),
            "1111",
            "2222",
            "2222",
            1,
        ),
        (
            multipart("mixed", multipart("alternative", PLAIN), multipart("related", HTML)),
            "1111",
            "2222",
            "1111 2222",
            0,
        ),
        (multipart("alternative", PLAIN, FOOTER), "1111 3333", "", "1111 3333", 0),
        (multipart("mixed", PLAIN, PDF, FOOTER), "1111 3333", "", "1111 3333", 1),
        # One more form of what is there as plain text is a file.
        (
            multipart("alternative", PLAIN, text("4444", "x-amp-html"), HTML),
            "1111",
            "2222",
            "2222",
            1,
        ),
        (
            multipart("alternative", PLAIN, text("4444", "enriched"), HTML),
            "1111",
            "2222",
            "2222",
            1,
        ),
        (multipart("alternative", text("4444", "markdown"), HTML), "4444", "2222", "2222", 0),
    ],
)
def test_all_parts_that_a_person_is_to_read_are_read(
    source: str, plain: str, html: str, page: str, attached: int
) -> None:
    def numbers(words: str) -> str:
        return " ".join(word for word in ("1111", "2222", "3333", "4444") if word in words)

    message = parse(source)
    assert numbers(message.text) == plain
    assert numbers(message.html) == html
    shown = message.page().partition("<body")[2]
    assert sorted(page.split(), key=shown.index) == page.split()
    assert numbers(shown) == page
    assert len(message.attachments) == attached
    assert message.summary()["text"] == (message.text or None)


@pytest.mark.parametrize("kind", ["markdown", "x-markdown", "enriched", "x-unknown", "troff"])
def test_text_that_nobody_knows_is_read_as_plain(kind: str) -> None:
    message = parse(text("See https://a.test/ for 482913", kind))
    assert message.text == "See https://a.test/ for 482913"
    assert (message.links, message.codes) == (["https://a.test/"], ["482913"])
    assert message.attachments == []
    assert "482913" in message.page()


@pytest.mark.parametrize("kind", ["calendar", "csv", "vcard", "css", "xml", "rfc822-headers"])
def test_text_for_programs_is_a_file(kind: str) -> None:
    message = parse(multipart("mixed", text("4444", kind), PLAIN))
    assert message.text == "plain 1111"
    assert [each.content_type for each in message.attachments] == [f"text/{kind}"]


def test_markdown_of_the_cases() -> None:
    message = case("text-x-markdown")
    assert message.text == "Hello *Bob*, code 482913, https://example.com/a\n"
    assert (message.links, message.codes) == (["https://example.com/a"], ["482913"])
    assert message.summary()["text"] == message.text


def test_a_plain_part_beside_html_of_the_cases() -> None:
    message = case("page-drops-plain-sibling")
    shown = message.page()
    assert shown.index("The real message, code 482913.") < shown.index("Footer of the list")
    assert message.codes == ["482913"]
