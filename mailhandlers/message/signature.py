"""The DKIM signatures of a message (RFC 6376), verified by dkimpy with a key from a file.

By itself dkimpy takes quadratic time for headers of many lines, for blanks in a row, and for
many names in ``h=``. So it is given one signature, the headers that this can have signed, and a
body whose blanks are single where the signature says that their number doesn't count.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from ..block import from_lf, lines_in_lf

_MOST_SIGNATURES = 5
_LONGEST_SIGNATURE = 8192
_MOST_NAMES = 100
_BLANKS = re.compile(rb"\s{100}")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*\n(?:[ \t][^\n]*\n)*)", re.MULTILINE)
_TAG = re.compile(rb"(?:\A|;)\s*(h|c|d)\s*=([^;]*)")

_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----([^-]*)-----END")
_QUOTED = re.compile(r'"([^"]*)"')
_RECORD = re.compile(r"(?:\A|;)\s*p\s*=")
# What stands before the key in the ASN.1 of RFC 8410.
_ED25519 = bytes.fromhex("302a300506032b6570032100")


def faults(content: bytes, key: str | os.PathLike[str]) -> list[str]:
    """Return why no signature of a message is valid with the key in the file *key*.

    It is empty where one is. Raises OSError and ValueError.
    """
    try:
        import dkim  # type: ignore[import-untyped] # it has no types
    except ModuleNotFoundError:
        raise ValueError(
            "DKIM is verified by dkimpy: pip install 'mailhandlers[check]'"
        ) from None
    record = _record(key, dkim)
    fields, body = _split(content)
    signatures = [value for name, value in fields if name.lower() == b"dkim-signature"]
    found = []
    for value in signatures[:_MOST_SIGNATURES]:
        fault = _fault(dkim, record, value, fields, body)
        if not fault:
            return []
        found.append(fault)
    return found or ["there is none"]


def _record(key: str | os.PathLike[str], dkim: ModuleType) -> bytes:
    """Return the record that the DNS would have for the key in a file (section 3.6.1)."""
    with open(key, encoding="ascii", errors="replace") as file:
        text = file.read()
    if pem := _PEM.search(text):
        if "PRIVATE" in pem[1]:
            raise ValueError(
                f"{os.fspath(key)} holds the private key: openssl pkey -in FILE -pubout "
                "prints the public one, which is to verify"
            )
        record = _of_pem(pem[2])
    else:
        # In the file of a zone a record is cut into quoted strings.
        record = "".join(_QUOTED.findall(text)) or text
    try:
        if not _RECORD.search(record.strip()):
            raise ValueError
        octets = record.strip().encode("ascii")
        dkim.evaluate_pk("key", octets)
    except dkim.NaClNotFoundError:
        raise ValueError("an Ed25519 key needs PyNaCl: pip install 'dkimpy[ed25519]'") from None
    except (dkim.DKIMException, ValueError, TypeError):
        raise ValueError(
            f"{os.fspath(key)} holds no key for DKIM: it is a record of the DNS, with p=, or "
            "begins with -----BEGIN PUBLIC KEY-----"
        ) from None
    return octets


def _of_pem(text: str) -> str:
    try:
        der = base64.b64decode(text)
    except binascii.Error:
        return ""
    if der.startswith(_ED25519):
        return f"k=ed25519; p={base64.b64encode(der.removeprefix(_ED25519)).decode()}"
    return f"k=rsa; p={base64.b64encode(der).decode()}"


class _Field(NamedTuple):
    name: bytes
    value: bytes


def _split(content: bytes) -> tuple[list[_Field], bytes]:
    """Return the headers of a message, as they came, and its body, with CRLF in all of it."""
    head, _, body = lines_in_lf(content).partition(b"\n\n")
    fields = [_Field(*match) for match in _FIELD.findall(head + b"\n")]
    return [_Field(name, from_lf(value)) for name, value in fields], from_lf(body)


def _fault(
    dkim: ModuleType, record: bytes, signature: bytes, fields: Sequence[_Field], body: bytes
) -> str:
    """Return why one signature isn't valid, or nothing."""
    tags = {name: value.strip() for name, value in _TAG.findall(signature)}
    domain = tags.get(b"d", b"nobody").decode("ascii", "replace")
    names = Counter(name.strip().lower() for name in tags.get(b"h", b"").split(b":"))
    if (
        len(signature) > _LONGEST_SIGNATURE
        or sum(names.values()) > _MOST_NAMES
        or _BLANKS.search(signature)
    ):
        return f"that of {domain} is too long"
    message = dkim.DKIM()
    message.headers = [(b"DKIM-Signature", signature), *_signed(fields, names)]
    message.body = _relaxed(body) if tags.get(b"c", b"").endswith(b"/relaxed") else body
    try:
        if message.verify(dnsfunc=lambda name, timeout=0: record):
            return ""
    except dkim.ValidationError as error:
        if "body hash" in str(error):
            return f"the body is not the one that {domain} signed"
        return f"that of {domain} is wrong: {error}"
    # A number of thousands of digits, base64 that is none.
    except (dkim.DKIMException, ValueError) as error:
        return f"that of {domain} can't be read: {error}"
    return f"that of {domain} was made with another key, or a header was changed since"


def _signed(fields: Sequence[_Field], names: Counter[bytes]) -> list[_Field]:
    """Return the headers that can be signed: of each name the last, as many as *names* has.

    And one more From, since dkimpy takes a second From for a forgery.
    """
    left = names + Counter([b"from"])
    kept = []
    for field in reversed(fields):
        name = field.name.lower()
        if left[name] > 0:
            left[name] -= 1
            kept.append(field)
    return kept[::-1]


def _relaxed(body: bytes) -> bytes:
    """Return *body* with single blanks, and none before the end of a line (section 3.4.4)."""
    if b"  " not in body and b"\t" not in body and b" \r" not in body:
        return body
    lines = body.replace(b"\t", b" ").split(b"\r\n")
    return b"\r\n".join(b" ".join(_words(line)) for line in lines)


def _words(line: bytes) -> list[bytes]:
    words = [word for word in line.split(b" ") if word]
    return [b"", *words] if line.startswith(b" ") else words
