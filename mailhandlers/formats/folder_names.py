"""The names of recipients' folders."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from ..mail import sha256

_LONGEST_NAME = 200


def folder_name(recipient: str) -> str:
    """Return the name of a recipient's folder: one folder for each address, case aside.

    Letters, digits and ``@.+-_=`` stand for themselves, every other octet of the UTF-8
    form as ``%XX``, and so does each leading dot. A name over 200 octets is cut and
    completed with a hash behind ``~``, which no other name holds.
    """
    name = percent_encoded(recipient.casefold(), safe="@.+-_=").replace("~", "%7E")
    bare = name.lstrip(".")
    name = "%2E" * (len(name) - len(bare)) + bare
    if len(name) > _LONGEST_NAME:
        digest = sha256(name.encode())[:32]
        name = f"{name[: _LONGEST_NAME - len(digest) - 1]}~{digest}"
    return name or "%"


def percent_encoded(text: str, safe: str) -> str:
    """Return *text*, which may hold octets that are no UTF-8, percent-encoded."""
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe=safe)
