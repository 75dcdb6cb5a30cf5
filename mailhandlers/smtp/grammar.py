"""What is an address between angle brackets: RFC 5321 section 4.1.2, with UTF-8 of RFC 6531."""

from __future__ import annotations

import functools
import ipaddress
import re

_UTF8 = "\u0080-\ud7ff\ue000-\U0010ffff"  # what was no UTF-8 stands as a surrogate
_ATOM = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_UTF8}-]+"
_QUOTED = rf'"(?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*"'
_LABEL = rf"[A-Za-z0-9{_UTF8}]+(?:-+[A-Za-z0-9{_UTF8}]+)*"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"

_UNBRACKETED = re.compile(r"[^\x00-\x20<>\x7f]+")


def fits_brackets(address: str) -> bool:
    """Tell whether *address* can stand between angle brackets and end there.

    What is between them may be no address of RFC 5321: servers know more than that.
    """
    return _UNBRACKETED.fullmatch(address) is not None


def begins_with_path(text: str) -> bool:
    """Tell whether what follows ``MAIL FROM:`` or ``RCPT TO:`` begins with an address.

    The null path ``<>`` and ``<Postmaster>`` are, too. Domains are not looked up.
    """
    path = _path().match(text)
    if path is None:
        return False
    return path["literal"] is None or _is_literal(path["literal"])


@functools.cache
def _path() -> re.Pattern[str]:
    """Return the pattern of a path: to compile it takes 35 ms, which only ``strict`` needs."""
    # Each part ends where no part of the next begins: nothing is tried twice.
    return re.compile(
        rf"\s*<(?:|(?i:postmaster)|(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?"
        rf"(?:{_ATOM}(?:\.{_ATOM})*|{_QUOTED})@(?:{_DOMAIN}|\[(?P<literal>[0-9A-Za-z:.]+)\]))>"
        r"(?:\s|$)"
    )


def _is_literal(text: str) -> bool:
    try:
        if text[:5].casefold() == "ipv6:":
            ipaddress.IPv6Address(text[5:])
        else:
            ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
