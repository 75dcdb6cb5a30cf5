"""Content-Transfer-Encoding (RFC 2045), undone as far as that can be."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping

_BASE64 = bytes({*b"+/", *range(48, 58), *range(65, 91), *range(97, 123)})
_NO_BASE64 = bytes({*range(256)} - {*_BASE64})


def from_base64(data: bytes) -> bytes:
    """Return what *data* encodes; what is no base64 in it is passed over.

    Behind padding there may be more, with a padding of its own, as some write several texts
    behind each other. Other text that stands there, such as a list's footer, is none.
    """
    first, *others = re.split(rb"=+", data)
    pieces = [_group(first)]
    for other in others:
        lines = [line.strip() for line in other.splitlines()]
        if b"".join(lines).translate(None, _BASE64):
            break
        pieces.append(_group(other))
    return b"".join(pieces)


def _group(data: bytes) -> bytes:
    data = data.translate(None, _NO_BASE64)
    if len(data) % 4 == 1:  # an octet too many: six bits, which are no octet
        data = data[:-1]
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def from_quoted_printable(data: bytes) -> bytes:
    """Return what *data* encodes; a ``=`` that encodes nothing stays."""
    # a2b_qp makes one of two equals signs.
    return binascii.a2b_qp(re.sub(rb"=(?==)", b"=3D", data) if b"==" in data else data)


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
