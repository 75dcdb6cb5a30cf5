"""TLS: a certificate that is made, and handshakes that end (RFC 3207, RFC 8314)."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from aiosmtpd.smtp import SMTP

from . import endpoints, private

if TYPE_CHECKING:
    import trustme

_log = logging.getLogger("mailhandlers")
LONGEST_HANDSHAKE = 5
"""The seconds that a handshake may take."""


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


def tls_first(connection: SMTP, context: ssl.SSLContext) -> private.TLSFirst:
    """Return the protocol of a client that speaks TLS from its first octet (RFC 8314)."""
    return private.TLSFirst(connection, context, LONGEST_HANDSHAKE, _tell_failure)


def limit_starttls(server: SMTP) -> None:
    """Give the handshake of STARTTLS its time on this connection, and tell when it fails."""
    private.limit_starttls(server, LONGEST_HANDSHAKE, _tell_failure)


def _tell_failure(peer: object, error: BaseException) -> None:
    """Log that the handshake with *peer*, a socket's peer name, failed with *error*."""
    if isinstance(error, ssl.SSLError) and error.reason:
        reason = error.reason.lower().replace("_", " ")
    elif isinstance(error, (asyncio.TimeoutError, ConnectionAbortedError)):  # asyncio's own
        reason = f"the handshake took longer than {LONGEST_HANDSHAKE} s"
    else:
        reason = "the client hung up"
    _log.warning("no TLS with %s: %s", endpoints.shown(peer), reason)
