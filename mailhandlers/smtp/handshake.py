"""TLS handshakes: how long one may take, and what is told of one that failed."""

from __future__ import annotations

import asyncio
import logging
import ssl

from .facts import peer_name

_log = logging.getLogger("mailhandlers")

LONGEST = 5
"""The seconds that a handshake may take."""


def tell_failure(peer: object, error: BaseException) -> None:
    """Log that the handshake with *peer*, a socket's peer name, failed with *error*."""
    if isinstance(error, ssl.SSLError) and error.reason:
        reason = error.reason.lower().replace("_", " ")
    elif isinstance(error, (asyncio.TimeoutError, ConnectionAbortedError)):  # asyncio's own
        reason = f"the handshake took longer than {LONGEST} s"
    else:
        reason = "the client hung up"
    _log.warning("no TLS with %s: %s", peer_name(peer), reason)
