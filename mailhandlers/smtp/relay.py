"""Passing stored mail on to a real server, octet for octet, through :mod:`smtplib`."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
from collections.abc import Sequence

from ..mail import Mail
from ..message.visible import visible_line
from . import endpoints
from .grammar import fits_brackets

_SECONDS = 60  # RFC 5321 section 4.5.3.2 has minutes; a person waits here
_DOTS = re.compile(rb"(\A|\r\n)\.")
# Some servers take these for the end of the message, and what follows for commands.
_SMUGGLED = re.compile(rb"[\r\n]\.[\r\n]")


class RelayError(Exception):
    """The server, or this message, makes it impossible. The text says why, and what to do."""


class Relay:
    """A connection to the server *via*, a host and a port, as a context.

    *users* is ``USER:PASSWORD`` or None. *tls* is how it is encrypted: ``starttls`` where that
    is offered, ``required``, ``smtps`` from the first octet, ``no``. To enter it raises
    RelayError, and OSError where the server can't be reached.
    """

    def __init__(self, via: tuple[str, int], users: str | None = None, tls: str = "starttls"):
        self._via = via
        self._users = users
        self._tls = tls
        self._smtp: smtplib.SMTP

    def __enter__(self) -> Relay:
        try:
            self._connect()
        except ssl.SSLCertVerificationError as error:
            raise RelayError(
                f"the server's certificate isn't trusted ({error.verify_message}): have "
                "SSL_CERT_FILE name its authority's, or don't encrypt (no)"
            ) from None
        except smtplib.SMTPResponseException as error:
            where = endpoints.shown(self._via)
            if error.smtp_code < 0:
                raise RelayError(f"{where} doesn't speak SMTP") from None
            raise RelayError(f"{where} takes no mail: {_said(error)}") from None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._smtp.quit()
        except OSError:  # SMTPException is one: it has hung up
            self._smtp.close()

    def send(self, mail: Mail, recipients: Sequence[str]) -> list[str]:
        """Send *mail* to *recipients*; return in a sentence each why some were refused.

        Raises RelayError where nobody got it, and OSError where the connection is lost: nobody
        knows then whether the server took it.
        """
        stuffed = _DOTS.sub(rb"\1..", mail.content)
        if stuffed and not stuffed.endswith(b"\r\n"):
            stuffed += b"\r\n"
        if _SMUGGLED.search(stuffed):
            raise RelayError("a bare CR or LF before a dot could end it early (SMTP smuggling)")
        if not recipients:
            raise RelayError("it has no recipient")
        sender = mail.envelope.mail_from
        for address in (sender, *recipients) if sender else recipients:
            if not fits_brackets(address):
                raise RelayError(f"{address!r} is no address")
        refusal = self._say(f"MAIL FROM:<{sender}>{self._parameters(mail, recipients)}")
        if refusal:
            self._smtp.rset()
            raise RelayError(f"the sender {sender!r} is refused: {refusal}")
        refusals = {to: self._say(f"RCPT TO:<{to}>") for to in recipients}
        refused = [f"{to!r} is refused: {text}" for to, text in refusals.items() if text]
        if len(refused) == len(recipients):
            self._smtp.rset()
            raise RelayError("; ".join(refused))
        refusal = self._say("DATA", 354)
        if not refusal:
            self._smtp.send(stuffed + b".\r\n")
            refusal = self._refusal(250)
        if refusal:
            self._smtp.rset()
            raise RelayError(f"it is refused: {refusal}")
        return refused

    def _connect(self) -> None:
        own_name = socket.gethostname()  # getfqdn() may ask a slow server
        context = ssl.create_default_context()
        if self._tls == "smtps":
            self._smtp = smtplib.SMTP_SSL(
                *self._via, own_name, timeout=_SECONDS, context=context
            )
        else:
            self._smtp = smtplib.SMTP(*self._via, own_name, timeout=_SECONDS)
        try:
            self._begin(context)
        except BaseException:
            self._smtp.close()
            raise

    def _begin(self, context: ssl.SSLContext) -> None:
        smtp = self._smtp
        where = endpoints.shown(self._via)
        smtp.ehlo_or_helo_if_needed()
        is_encrypted = self._tls == "smtps"
        if self._tls in ("starttls", "required"):
            if smtp.has_extn("starttls"):
                smtp.starttls(context=context)
                smtp.ehlo_or_helo_if_needed()
                is_encrypted = True
            elif self._tls == "required":
                raise RelayError(f"{where} offers no STARTTLS")
        if self._users is None:
            return
        assert smtp.sock is not None
        if not (is_encrypted or endpoints.is_loopback(smtp.sock.getpeername())):
            raise RelayError(f"{where} offers no STARTTLS: no password is sent in clear")
        user, _, password = self._users.partition(":")
        try:
            smtp.login(user, password)
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
            raise RelayError(f"{where} lets {user!r} not in: {_said(error)}") from None

    def _parameters(self, mail: Mail, recipients: Sequence[str]) -> str:
        smtp = self._smtp
        parameters = ""
        if smtp.has_extn("size"):
            parameters += f" SIZE={len(mail.content)}"
        if not mail.content.isascii() and smtp.has_extn("8bitmime"):
            parameters += " BODY=8BITMIME"
        envelope = mail.envelope
        addresses = "".join([envelope.mail_from, *recipients])
        if "SMTPUTF8" in envelope.mail_options or not addresses.isascii():
            if not smtp.has_extn("smtputf8"):
                raise RelayError("it needs SMTPUTF8, which the server doesn't offer")
            parameters += " SMTPUTF8"
        return parameters

    def _say(self, line: str, expected: int = 250) -> str:
        """Say *line*; return what the server answered if it was something else."""
        self._smtp.send(line.encode("utf-8", "surrogateescape") + b"\r\n")
        return self._refusal(expected)

    def _refusal(self, expected: int) -> str:
        code, text = self._smtp.getreply()
        if code == expected or (expected == 250 and code == 251):
            return ""
        return visible_line(f"{code} {text.decode('utf-8', 'replace')}")


def _said(error: smtplib.SMTPException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return visible_line(f"{error.smtp_code} {words}")
    return visible_line(str(error))
