"""AUTH PLAIN and LOGIN (RFC 4954), in clear too, for everybody or for one user.

A password is compared and forgotten: none is kept in the session, stored or logged.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import MISSING, SMTP, LoginPassword, Session

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_log = logging.getLogger("mailhandlers")

ACCEPTED = "235 2.7.0 Authentication successful"
REJECTED = "535 5.7.8 Authentication credentials invalid"


class Auth:
    """Who may log in: everybody for *users* ``any``, or one for ``user:password``.

    None offers AUTH and leaves the answer to the server, which lets in nobody unless told
    otherwise. Raises ValueError, which repeats no password.
    """

    def __init__(self, users: str | None) -> None:
        user, colon, password = (users or "any").partition(":")
        if not user or (users != "any" and users is not None and not colon):
            raise ValueError("auth is any, or user:password")
        self._anybody = users == "any"
        self._user, self._password = map(os.fsencode, (user, password))
        self._warned = False

    def offer(self, server: SMTP, session: Session, responses: list[str]) -> list[str]:
        """Make *server* take AUTH, in clear too; return the *responses* to EHLO that say so.

        aiosmtpd has parameters of SMTP for it, which its command can't set. The two lines
        that begin with ``server._`` are all that we touch of what SMTP keeps for itself,
        but for its reader, and a test tells by name what is gone.
        """
        if server.require_starttls and session.ssl is None:
            return responses  # AUTH would get 530, so it is not offered before STARTTLS
        self._warn(server)
        server._auth_require_tls = False
        server._auth_methods = _AnyCase(server._auth_methods)
        if any(line[4:].startswith("AUTH ") for line in responses):
            return responses
        names = " ".join(sorted(server._auth_methods))
        return [responses[0], f"250-AUTH {names}", *responses[1:]]

    async def log_in(
        self, server: SMTP, session: Session, envelope: SMTPEnvelope, args: list[str]
    ) -> Any:
        """Carry out AUTH PLAIN (RFC 4616) or LOGIN; leave others to aiosmtpd: its hook."""
        mechanism = _MECHANISMS.get(args[0].upper())
        if mechanism is None:
            return MISSING
        try:
            login, password = await mechanism(server, *args[1:])
        except _ExchangeError as error:
            return str(error)
        # Both are compared whatever one says: no time tells whether a user exists.
        is_user = hmac.compare_digest(login, self._user)
        is_user &= hmac.compare_digest(password, self._password)
        if not (is_user or self._anybody):
            return REJECTED
        session.authenticated = True
        session.auth_data = LoginPassword(login, b"")  # type: ignore[assignment]
        return ACCEPTED

    def _warn(self, server: SMTP) -> None:
        assert server.transport is not None
        name = server.transport.get_extra_info("sockname")
        if self._anybody and not self._warned and not _is_loopback(name):
            self._warned = True
            _log.warning(
                "auth=any lets everybody in who reaches %s: listen on 127.0.0.1, "
                "or use auth=user:password",
                name[0],
            )


class _AnyCase(dict[str, Any]):
    """The mechanisms by name: RFC 5321 section 2.4 has arguments in any case."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).upper())

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name.upper())


class _ExchangeError(Exception):
    """The exchange failed; the text is the reply."""


async def _plain(server: SMTP, initial: str | None = None) -> tuple[bytes, bytes]:
    message = await _ask(server, "") if initial is None else _decoded(initial)
    try:
        _, login, password = message.split(b"\0")
    except ValueError:
        raise _ExchangeError("501 5.5.2 Can't split auth value") from None
    return login, password


async def _login(server: SMTP, initial: str | None = None) -> tuple[bytes, bytes]:
    username = server.AuthLoginUsernameChallenge
    login = await _ask(server, username) if initial is None else _decoded(initial)
    return login, await _ask(server, server.AuthLoginPasswordChallenge)


_MECHANISMS: dict[str, Callable[..., Awaitable[tuple[bytes, bytes]]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
}


async def _ask(server: SMTP, challenge: str) -> bytes:
    # SMTP.challenge_auth logs an answer that is no base64: it may be a plain password.
    await server.push("334 " + b64encode(challenge.encode()).decode())
    try:
        answer = await server._reader.readline()
    except ValueError:  # its rest must not be taken, and logged, for a command
        raise _ExchangeError("421 4.7.0 Authentication exchange line is too long") from None
    return _decoded(answer.strip().decode("latin-1"))


def _decoded(text: str) -> bytes:
    if text == "*":
        raise _ExchangeError("501 5.7.0 Auth aborted")
    try:
        return b64decode("" if text == "=" else text, validate=True)
    except ValueError:
        raise _ExchangeError("501 5.5.2 Can't decode base64") from None


def _is_loopback(name: Any) -> bool:
    if not isinstance(name, tuple):  # a Unix socket
        return True
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
