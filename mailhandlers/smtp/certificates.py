"""A certificate for a server on this machine, made by trustme for as long as it is used."""

from __future__ import annotations

import functools
import ssl
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import trustme


class Certificate(NamedTuple):
    """What a server shows, and what its clients need to trust it."""

    context: ssl.SSLContext
    """For the server."""
    ca_pem: bytes
    """The authority's certificate, for clients: ``SSL_CERT_FILE`` and the like."""


def make_certificate(host: str) -> Certificate:
    """Return a certificate for *host*, localhost and the addresses of loopback.

    Raises ValueError in one sentence where trustme is missing.
    """
    if not find_spec("trustme"):
        raise ValueError("a certificate is made by trustme: pip install 'mailhandlers[tls]'")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = dict.fromkeys([host, "localhost", "127.0.0.1", "::1"])
    _authority().issue_cert(*names).configure_cert(context)
    return Certificate(context, _authority().cert_pem.bytes())


@functools.cache
def _authority() -> trustme.CA:
    """Return this process's authority: to make one takes 3 ms."""
    import trustme

    return trustme.CA()
