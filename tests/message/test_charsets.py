"""Text from octets, in the charsets that mail really has."""

from __future__ import annotations

import base64

import pytest
from cases import case
from hypothesis import example, given
from hypothesis import strategies as st

from mailhandlers import StoredMessage
from mailhandlers.message import charsets
from mailhandlers.message.headers import decoded

# Label, what the sender's system calls it, text that only the superset has.
MAIL = [
    ("windows-31j", "cp932", "①㈱髙"),
    ("x-sjis", "cp932", "①㈱髙"),
    ("shift_jis", "cp932", "①㈱髙"),
    ("windows-874", "cp874", "“ไทย”…"),
    ("tis-620", "cp874", "“ไทย”…"),
    ("iso-8859-8-i", "iso8859_8", "שלום"),
    ("ksc_5601", "cp949", "똠방각하"),
    ("ks_c_5601-1987", "cp949", "똠방각하"),
    ("windows-949", "cp949", "똠방각하"),
    ("euc-kr", "cp949", "똠방각하"),
    ("x-gbk", "gbk", "镕堃"),
    ("gb2312", "gbk", "镕堃"),
    ("big5", "big5hkscs", "嘅咗"),
    ("x-cp1250", "cp1250", "žluť"),
    ("x-cp1251", "cp1251", "Ё“№”"),
    ("windows1252", "cp1252", "“€”"),
    ("iso-8859-1", "cp1252", "“€” Š"),
    ("us-ascii", "cp1252", "“€” Š"),
    ("iso-8859-9", "cp1254", "“ğ”"),
    ("koi8-ru", "koi8_u", "їжак"),
    ("UTF8", "utf-8", "“€”"),
    ("unknown-8bit", "utf-8", "“€”"),
    ("unknown-8bit", "cp1252", "“€”"),
    ("martian", "cp1252", "“€”"),
    ("utf-16", "utf-16-le", "plain"),
    ("utf-7", "utf-7", "“€”"),
    ("cp437", "cp437", "░▒▓"),
    # However they are written.
    ("cp-850", "cp850", "ñ½"),
    ("IBM_850", "cp850", "ñ½"),
    ("x-windows-949", "cp949", "각똠"),
    ("x-cp1251", "cp1251", "Ж"),
    ("ms-936", "gb18030", "镕"),
    ("latin-2", "iso8859_2", "ł"),
    ("x-iso-8859-7", "iso8859_7", "ω"),
]


@pytest.mark.parametrize(("label", "codec", "text"), MAIL)
def test_bodies_words_and_file_names_alike(label: str, codec: str, text: str) -> None:
    octets = base64.b64encode(text.encode(codec)).decode()
    message = StoredMessage.parse(
        f"Subject: =?{label}?b?{octets}?=\nTo: =?{label}?B?{octets}?= <a@b.test>\n"
        f"Content-Type: text/plain; charset={label}; name*={label}''"
        f"{''.join(f'%{octet:02x}' for octet in text.encode(codec))}\n"
        f"Content-Transfer-Encoding: base64\n\n{octets}\n".encode()
    )
    assert message.text == text
    assert message["Subject"] == text
    assert message["To"].addresses[0].display_name == text
    assert message.get_filename() == text
    assert message.summary()["subject"] == text


def test_japanese_of_windows_in_older_encodings() -> None:
    head = b"Content-Type: text/plain; charset=%s\n\n"
    jis = b'a \x1b$B-!-j|b\x1b(B \x1b(I1\x1b(B \x1b$B$"\x1b(J b'
    assert StoredMessage.parse(head % b"iso-2022-jp" + jis).text == "a ①㈱髙 ｱ あ b"
    euc = "ｱあ".encode("euc_jp") + b"\xad\xa1\xad\xea\xfc\xe2"
    assert StoredMessage.parse(head % b"euc-jp" + euc).text == "ｱあ①㈱髙"


# What Python's two codecs map to different characters of Unicode.
_OTHERWISE = "\u301c\u2016\u2212\xa2\xa3\xac\xa5\u203e\\~\xa6"


@given(st.text(st.characters(codec="euc_jp", exclude_characters=_OTHERWISE)))
def test_both_ways_to_read_japanese_agree(text: str) -> None:
    octets = text.encode("euc_jp")
    if b"\x8f" not in octets:  # JIS X 0212, which Windows doesn't know
        assert charsets._in_superset(octets, "euc_jp") == text


def test_a_byte_order_mark_is_no_text() -> None:
    for codec in ("utf-8-sig", "utf-16"):
        data = "é".encode(codec)
        assert charsets.decode(data, None) == charsets.decode(data, codec[:6]) == "é"
    assert charsets.decode(b"\xff\xfe", "iso-8859-1") == "ÿþ"


def test_the_charset_that_a_page_names_counts_where_the_header_names_none() -> None:
    page = '<html><meta http-equiv=x content="text/html; charset=koi8-r"><p>Код'.encode(
        "koi8-r"
    )
    assert "Код" in StoredMessage.parse(b"Content-Type: text/html\n\n" + page).html
    short = b"Content-Type: text/html\n\n<meta charset='windows-1251'>" + "Код".encode("cp1251")
    assert StoredMessage.parse(short).codes == []
    assert StoredMessage.parse(short).html.endswith("Код")
    declared = b"Content-Type: text/html; charset=utf-8\n\n<meta charset=koi8-r>\xc3\xa9"
    assert StoredMessage.parse(declared).html.endswith("é")


def raw(octets: str) -> str:
    """Return a header's *octets* as the parser has them."""
    return octets.encode("latin-1").decode("ascii", "surrogateescape")


@given(st.binary(), st.none() | st.text() | st.sampled_from([label for label, _, _ in MAIL]))
@example(b"+2AA-", "utf-7")
@example(b"\\ud800", "unicode_escape")
@example(b"\x1b$B\x80\xff\x1b(I\xff", "iso-2022-jp")
def test_any_octets_are_text(data: bytes, label: str | None) -> None:
    charsets.decode(data, label).encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("=?utf-8?q?Gr=C3?= =?utf-8?q?=BC=C3=9Fe?=", "Grüße"),
        ("=?utf-8?b?R3LD?=\n =?utf-8*de?B?vMOfZQ==?= x", "Grüße x"),
        ("a =?iso-8859-1?q?=93b=94?= =?utf-8?q?c_d?=e", "a “b”c de"),
        ("=?utf-8?q?not quite?= =?utf-8?q?=zz?= =?utf-8?x?a?=", "not quite=zz =?utf-8?x?a?="),
        ("=?utf-8?b?R3I_?= =?utf-8?b?YWJjZ?=", "Grabc"),
        ("=?utf-8?q?a=0D=0Ab?=", "a b"),
        ("no words", "no words"),
        (raw("=?iso-8859-1?Q?Fr\xf6sche?="), "Frösche"),
        (raw("\xe9 =?koi8-r?Q?\xf0\xd2?= =?koi8-r?b?yQ==?= \xe9"), "é При é"),
        ("=?utf-8?q?a?= =?x?q?", "a =?x?q?"),
    ],
)
def test_encoded_words(value: str, text: str) -> None:
    assert decoded(value) == text


def test_raw_octets_in_encoded_words_of_the_cases() -> None:
    message = case("encoded-word-raw-octets")
    assert message["Subject"] == "Frösche"
    assert message["From"] == "При <eva@example.com>"
    assert dict(message.own_texts())["Subject"] == message.summary()["subject"] == "Frösche"
    (address,) = message["From"].addresses
    assert (address.display_name, address.addr_spec) == ("При", "eva@example.com")


@pytest.mark.parametrize(("data", "text"), [("ä".encode(), "ä"), (b"\xe4", "\ufffd")])
def test_where_pythons_own_files_can_not_be_read_it_is_utf_8(
    data: bytes, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charsets, "codec_of", lambda label: "none-that-can-be-loaded")
    assert charsets.decode(data, "koi8-r") == text
