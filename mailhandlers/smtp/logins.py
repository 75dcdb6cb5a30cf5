"""Who may log in, and how: AUTH (RFC 4954) with passwords and with tokens.

PLAIN (RFC 4616) and LOGIN send a password, CRAM-MD5 (RFC 2195) a proof of one; OAUTHBEARER
(RFC 7628) and XOAUTH2, which Google and Microsoft had before, a token that stands for it.

A password is compared and forgotten: none is kept in the session, stored, logged or repeated
in a message.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import MISSING, SMTP, LoginPassword, Session

from . import endpoints, private

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope as SMTPEnvelope

_log = logging.getLogger("mailhandlers")


class Users:
    """Who may log in: everybody for ``any``, or one for ``user:password``."""

    def __init__(self, text: str) -> None:
        user, _, password = text.partition(":")
        self.is_anybody = text == "any"
        """Whether every user with every password is let in."""
        self._user, self._password = map(os.fsencode, (user, password))

    def know(self, user: bytes, password: bytes) -> bool:
        """Return whether *user* may log in with *password*."""
        # Both are compared whatever one says: no time tells whether a user exists.
        is_known = hmac.compare_digest(user, self._user)
        is_known &= hmac.compare_digest(password, self._password)
        return is_known or self.is_anybody

    def know_digest(self, user: bytes, challenge: bytes, digest: bytes) -> bool:
        """Return whether *user* answered *challenge* with the *digest* of RFC 2195."""
        expected = hmac.new(self._password, challenge, "md5").hexdigest().encode()
        is_known = hmac.compare_digest(user, self._user)
        is_known &= hmac.compare_digest(digest, expected)
        return is_known


ACCEPTED = "235 2.7.0 Authentication successful"
_LONGEST = 12288  # RFC 4954 section 4
REJECTED = "535 5.7.8 Authentication credentials invalid"


class Auth:
    """The exchange with those who log in, and who of them is let in.

    None for *users* offers AUTH and leaves the answer to the server, which lets in nobody
    unless told otherwise. With *needs_tls* nobody logs in without TLS.
    """

    def __init__(self, users: Users | None, needs_tls: bool) -> None:
        self._users = users
        self._needs_tls = needs_tls
        self._mechanisms = {} if users is None else dict(_MECHANISMS)
        # A digest proves a password that is known here, and not any. A Python of a system in
        # FIPS mode may have no MD5.
        if users is not None and (
            users.is_anybody or "md5" not in hashlib.algorithms_available
        ):
            del self._mechanisms["CRAM-MD5"]
        self._warned = False

    def offer(self, server: SMTP, session: Session, responses: list[str]) -> list[str]:
        """Make *server* take AUTH, in clear too; return the *responses* to EHLO that say so.

        aiosmtpd has parameters of SMTP for it, which its command can't set.
        """
        assert server.transport is not None
        has_tls = server.transport.get_extra_info("ssl_object") is not None
        if server.require_starttls and not has_tls:
            return responses  # AUTH would get 530, so it is not offered before STARTTLS
        private.take_auth_in_clear(server, has_tls or not self._needs_tls)
        if self._needs_tls and not has_tls:  # 538
            return [line for line in responses if not line[4:].startswith("AUTH ")]
        self._warn(server)
        private.let_in_tokens(server, _LONGEST)
        names = " ".join(private.offer_mechanisms(server, self._mechanisms))
        for index, line in enumerate(responses):
            if line[4:].startswith("AUTH "):
                return [*responses[:index], f"250-AUTH {names}", *responses[index + 1 :]]
        return [responses[0], f"250-AUTH {names}", *responses[1:]]

    async def log_in(
        self, server: SMTP, session: Session, envelope: SMTPEnvelope, args: list[str]
    ) -> Any:
        """Carry out the mechanisms known here; leave others to aiosmtpd: its hook."""
        mechanism = self._mechanisms.get(args[0].upper())
        if mechanism is None:
            return MISSING
        assert self._users is not None
        try:
            login = await mechanism(self._users, server, *args[1:])
        except _ExchangeError as error:
            return str(error)
        if login is None:
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
            and not endpoints.is_loopback(name)
        ):
            self._warned = True
            _log.warning(
                "auth=any lets everybody in who reaches %s: listen on 127.0.0.1, "
                "or use auth=user:password",
                name[0],
            )


class _ExchangeError(Exception):
    """The exchange failed; the text is the reply."""


# Each returns the name of the user that it lets in, or None.


async def _plain(users: Users, server: SMTP, initial: str | None = None) -> bytes | None:
    message = await _ask(server, "") if initial is None else _decoded(initial)
    try:
        _, login, password = message.split(b"\0")
    except ValueError:
        raise _ExchangeError("501 5.5.2 Can't split auth value") from None
    return login if users.know(login, password) else None


async def _login(users: Users, server: SMTP, initial: str | None = None) -> bytes | None:
    username = server.AuthLoginUsernameChallenge
    login = await _ask(server, username) if initial is None else _decoded(initial)
    password = await _ask(server, server.AuthLoginPasswordChallenge)
    return login if users.know(login, password) else None


async def _cram_md5(users: Users, server: SMTP, initial: str | None = None) -> bytes | None:
    if initial is not None:
        raise _ExchangeError("501 5.7.0 CRAM-MD5 has no initial response")
    challenge = f"<{secrets.token_hex(16)}@{server.hostname}>"
    login, _, digest = (await _ask(server, challenge)).rpartition(b" ")
    return login if users.know_digest(login, challenge.encode(), digest) else None


async def _xoauth2(users: Users, server: SMTP, initial: str | None = None) -> bytes | None:
    message = await _ask(server, "") if initial is None else _decoded(initial)
    fields = _fields(message)
    return await _bearer(users, server, fields.get(b"user", b""), fields)


async def _oauthbearer(users: Users, server: SMTP, initial: str | None = None) -> bytes | None:
    message = await _ask(server, "") if initial is None else _decoded(initial)
    header, _, rest = message.partition(b"\1")
    user = header.partition(b"a=")[2].rstrip(b",")  # RFC 5801 section 4: "n,a=eva,"
    user = user.replace(b"=2C", b",").replace(b"=3D", b"=")
    return await _bearer(users, server, user, _fields(rest))


def _fields(message: bytes) -> dict[bytes, bytes]:
    return {name: value for name, _, value in (p.partition(b"=") for p in message.split(b"\1"))}


async def _bearer(
    users: Users, server: SMTP, user: bytes, fields: dict[bytes, bytes]
) -> bytes | None:
    kind, _, token = fields.get(b"auth", b"").partition(b" ")
    if kind.lower() != b"bearer" or not token:
        raise _ExchangeError("501 5.5.2 Can't find a bearer token")
    if users.know(user, token):
        return user
    # The client is told why, and agrees by an answer that says nothing.
    await _ask(server, '{"status":"invalid_token","schemes":"bearer"}')
    return None


_MECHANISMS: dict[str, Callable[..., Awaitable[bytes | None]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    "OAUTHBEARER": _oauthbearer,
    "XOAUTH2": _xoauth2,
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
