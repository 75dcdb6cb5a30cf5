"""AUTH PLAIN and LOGIN (RFC 4954), in clear too, for everybody or for one user.

A password is compared and forgotten: none is kept in the session, stored or logged.
"""

from __future__ import annotations

import ipaddress
import logging
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import MISSING, SMTP, LoginPassword, Session

from . import private
from .users import Users

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_log = logging.getLogger("mailhandlers")

ACCEPTED = "235 2.7.0 Authentication successful"
REJECTED = "535 5.7.8 Authentication credentials invalid"


class Auth:
    """The exchange with those who log in, and who of them is let in.

    None for *users* offers AUTH and leaves the answer to the server, which lets in nobody
    unless told otherwise.
    """

    def __init__(self, users: Users | None) -> None:
        self._users = users
        self._warned = False

    def offer(self, server: SMTP, session: Session, responses: list[str]) -> list[str]:
        """Make *server* take AUTH, in clear too; return the *responses* to EHLO that say so.

        aiosmtpd has parameters of SMTP for it, which its command can't set.
        """
        if server.require_starttls and session.ssl is None:
            return responses  # AUTH would get 530, so it is not offered before STARTTLS
        self._warn(server)
        private.take_auth_in_clear(server)
        names = private.offer_mechanisms(server, [])
        if any(line[4:].startswith("AUTH ") for line in responses):
            return responses
        return [responses[0], f"250-AUTH {' '.join(names)}", *responses[1:]]

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
        assert self._users is not None
        if not self._users.know(login, password):
            return REJECTED
        session.authenticated = True
        session.auth_data = LoginPassword(login, b"")  # type: ignore[assignment]
        return ACCEPTED

    def _warn(self, server: SMTP) -> None:
        assert server.transport is not None
        name = server.transport.get_extra_info("sockname")
        if (
            self._users
            and self._users.is_anybody
            and not self._warned
            and not _is_loopback(name)
        ):
            self._warned = True
            _log.warning(
                "auth=any lets everybody in who reaches %s: listen on 127.0.0.1, "
                "or use auth=user:password",
                name[0],
            )


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
    await server.push("334 " + b64encode(challenge.encode()).decode())
    try:
        answer = await private.read_line(server)
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
