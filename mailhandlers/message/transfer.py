"""Content-Transfer-Encoding (RFC 2045), undone as far as that can be."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping

_NO_BASE64 = bytes({*range(256)} - {*b"+/=", *range(48, 58), *range(65, 91), *range(97, 123)})


def from_base64(data: bytes) -> bytes:
    """Return what *data* encodes; what is no base64 in it is passed over."""
    data = data.translate(None, _NO_BASE64)
    if b"=" not in data.rstrip(b"="):
        return _group(data.rstrip(b"="))
    # Some put several texts behind each other, each with its padding.
    return b"".join(map(_group, re.split(b"=+", data)))


def _group(data: bytes) -> bytes:
    if len(data) % 4 == 1:  # an octet too many: six bits, which are no octet
        data = data[:-1]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def from_quoted_printable(data: bytes) -> bytes:
    """Return what *data* encodes; a ``=`` that encodes nothing stays."""
    return binascii.a2b_qp(data)


def from_uuencode(data: bytes) -> bytes:
    """Return the first file in *data*, or *data* where there is none."""
    lines = iter(data.splitlines())
    if not any(line.startswith(b"begin ") for line in lines):
        return data
    pieces = []
    for line in lines:
        if not line or line == b"end":
            break
        try:
            pieces.append(binascii.a2b_uu(line))
        except binascii.Error:  # a line that was padded or cut on its way
            length = ((line[0] - 32 & 63) * 4 + 5) // 3
            try:
                pieces.append(binascii.a2b_uu(line[:length]))
            except binascii.Error:
                return data
    return b"".join(pieces)


ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "base64": from_base64,
    "quoted-printable": from_quoted_printable,
    "x-uuencode": from_uuencode,
    "uuencode": from_uuencode,
    "uue": from_uuencode,
    "x-uue": from_uuencode,
}
"""What undoes an encoding, by its name; what isn't here changes nothing."""
