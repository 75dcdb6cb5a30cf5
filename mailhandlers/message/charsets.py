"""Text from octets, in the charsets that mail really has.

A label often names less than the sender used: ``iso-8859-1`` mail holds the quotes of
Windows, ``gb2312`` mail holds GBK. So a label stands for its superset, as the Encoding
Standard has it (https://encoding.spec.whatwg.org/#names-and-labels), in Python's codecs.
"""

from __future__ import annotations

import codecs
import functools
import re
from encodings.aliases import aliases

# Superset: the labels that mean it, squeezed, those aside that Python knows by itself.
_SUPERSETS = {
    "cp866": "866 csibm866",
    "cp874": "dos874 iso885911 tis620 windows874",
    "cp932": "csshiftjis ms932 mskanji shiftjis sjis windows31j mscp932 cswindows31j",
    "cp949": "cseuckr csksc56011987 euckr isoir149 korean ksc56011987 ksc56011989 ksc5601 "
    "windows949 ms949 uhc",
    "cp1252": "ansix341968 cp819 csisolatin1 ibm819 iso88591 isoir100 iso885911987 l1 latin1",
    "cp1254": "csisolatin5 iso88599 isoir148 iso885991989 l5 latin5",
    "gb18030": "chinese csgb2312 csiso58gb231280 gb2312 gb231280 gbk isoir58 gb18030 cp936 "
    "ms936 windows936 euccn",
    "big5hkscs": "big5 big5hkscs cnbig5 csbig5 cp950 windows950",
    "euc_jp": "cseucpkdfmtjapanese eucjp",
    "iso2022_jp": "csiso2022jp iso2022jp iso2022jp1 iso2022jpms cp50220 cp50221",
    "iso8859_6": "csiso88596e csiso88596i iso88596e iso88596i",
    "iso8859_8": "csiso88598e csisolatinhebrew iso88598 iso88598e iso88598i csiso88598i "
    "logical visual hebrew",
    "koi8_r": "koi koi8 koi8r cskoi8r",
    "koi8_u": "koi8ru koi8u",
    "mac_roman": "csmacintosh mac macintosh macroman",
    "mac_cyrillic": "maccyrillic macukrainian",
    "utf-8": "unicode11utf8 unicode20utf8 utf8 utf8mb4",
    "utf-16": "unicode ucs2 iso10646ucs2 csunicode unicodefeff utf16",
    "utf-7": "unicode11utf7 unicode20utf7 utf7",
}
_BY_LABEL = {label: codec for codec, labels in _SUPERSETS.items() for label in labels.split()}
# What stands in mail whose sender didn't think of charsets: nothing is told by these.
_TELLS_NOTHING = frozenset(
    re.findall(r"\S+", "ascii usascii default unknown unknown8bit binary 8bit none")
)
# Python looks for a module at each name that it doesn't know, and remembers the name for
# ever; a message may hold as many names as it has room for.
_OTHERS = (
    "cp1006 cp720 cp737 cp856 cp874 cp875 koi8_t koi8_u mac_arabic mac_croatian mac_farsi "
    "mac_romanian utf_8_sig"
)


def _squeezed(label: str) -> str:
    """Return what all ways to write a label have in common: cp850, cp-850, CP_850."""
    return re.sub("[^a-z0-9]", "", label)


_KNOWN = {_squeezed(name): name for name in (*aliases.values(), *_OTHERS.split())}
_KNOWN.update((_squeezed(name), codec) for name, codec in aliases.items())
_LABEL = re.compile(r"(?:x-)*([a-z0-9][a-z0-9_.:() -]{0,39})")
_LONGEST_LABEL = 43  # a few more than is a label
_WINDOWS = re.compile(r"(?:win|ms|ansi)(\d+)")
# Codecs of Python's that turn text into other text, some in quadratic time.
_NO_CHARSETS = (
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "undefined",
    "ascii",
)
_MARKS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
# A server that became nobody may not read Python's files any more: see load().
_UNREADABLE = (LookupError, OSError)
_ESCAPE = re.compile(rb"\x1b([$(][@-Z]|\$[(][@-Z])")


def decode(data: bytes, label: str | None = None) -> str:
    """Return *data* as text, U+FFFD where it is none; *label* is the charset declared.

    Without a charset, or with one that nobody knows, it is UTF-8 where that is valid and
    Windows-1252 otherwise, as other mail programs have it. Never raises.
    """
    codec = codec_of(label)
    for mark, marked in _MARKS:
        if data.startswith(mark) and (codec is None or codec == marked):
            return data[len(mark) :].decode(_of_mark(mark), "replace")
    if codec is None:
        codec = _guessed(data)
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        text = _in_superset(data, codec)
    except _UNREADABLE:
        return data.decode("utf-8", "replace")
    if codec == "utf-7":  # which can name half a character
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


codecs.lookup("cp1252")  # the one for undeclared text is there in any case


def load() -> None:
    """Import all codecs of the table now: later the process may not be allowed to."""
    for codec in ("cp1252", *_SUPERSETS, "cp950", "iso2022_jp_1"):
        codecs.lookup(codec)


def _guessed(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def codec_of(label: str | None) -> str | None:
    """Return Python's name for the charset that *label* means, or None."""
    return _codec_of((label or "").strip().lower()[:_LONGEST_LABEL])


@functools.lru_cache(maxsize=256)
def _codec_of(name: str) -> str | None:
    label = _LABEL.fullmatch(name)
    if label is None:
        return None
    name = _squeezed(label[1])
    if windows := _WINDOWS.fullmatch(name):
        name = f"windows{windows[1]}"
    if name in _BY_LABEL:
        return _BY_LABEL[name]
    if name in _TELLS_NOTHING or name not in _KNOWN:
        return None
    name = _KNOWN[name]
    try:
        found = codecs.lookup(name)
    except _UNREADABLE:
        return None
    codec = _BY_LABEL.get(_squeezed(found.name), found.name)
    is_text = getattr(found, "_is_text_encoding", True)
    return codec if is_text and codec.replace("-", "_") not in _NO_CHARSETS else None


def _of_mark(mark: bytes) -> str:
    if mark == codecs.BOM_UTF8:
        return "utf-8"
    return "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"


def _in_superset(data: bytes, codec: str) -> str:
    """Return *data*, which isn't all in *codec*, with what the sender's system adds to it."""
    if codec == "iso2022_jp":
        return _from_iso_2022_jp(data)
    if codec == "euc_jp":
        return _EUC_PAIRS.sub(_ms_pairs, data).decode("cp932", "replace")
    if codec == "big5hkscs" and "\ufffd" not in (text := data.decode("cp950", "replace")):
        return text
    return data.decode(codec, "replace")


# Japanese of Windows in the encodings that mail had before: the characters of NEC and IBM
# stand at places of the JIS table that only Python's cp932 fills.
_EUC_PAIRS = re.compile(rb"([\xa1-\xfe][\xa1-\xfe])|\x8e([\xa1-\xdf])")


def _from_iso_2022_jp(data: bytes) -> str:
    pieces = _ESCAPE.split(data)
    text = [pieces[0].decode("ascii", "replace")]
    for escape, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if escape in (b"$B", b"$@"):
            high = bytes(octet | 0x80 if octet > 0x20 else octet for octet in piece)
            text.append(_EUC_PAIRS.sub(_ms_pairs, high).decode("cp932", "replace"))
        elif escape == b"(I":  # half-width katakana
            high = bytes(octet | 0x80 if octet > 0x20 else octet for octet in piece)
            text.append(high.decode("cp932", "replace"))
        elif escape == b"$(D":
            text.append((b"\x1b$(D" + piece).decode("iso2022_jp_1", "replace"))
        else:
            text.append(piece.decode("ascii", "replace"))
    return "".join(text)


def _ms_pairs(match: re.Match[bytes]) -> bytes:
    """Return one character of EUC-JP in Shift_JIS."""
    if match[1] is None:
        return match[2]
    row, cell = match[1][0] - 0xA1, match[1][1] - 0xA1
    lead = 0x81 + row // 2
    trail = cell + (0x9F if row % 2 else 0x40 + (cell > 0x3E))
    return bytes((lead + (0x40 if lead > 0x9F else 0), trail))
