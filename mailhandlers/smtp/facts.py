"""What aiosmtpd knows of a session and of a message, as this package records it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..mail import Envelope, Identity
from . import endpoints

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Session
    from aiosmtpd.smtp import Envelope as SMTPEnvelope


class SessionFacts(NamedTuple):
    """A session as it is now; the fields are those of :class:`.mail.Envelope`."""

    peer: str
    helo: str
    protocol: str
    tls: str | None
    auth: str | None


def session_facts(server: SMTP, session: Session, envelope: SMTPEnvelope) -> SessionFacts:
    """Return what is known of *session* now, during the transaction of *envelope*."""
    tls = _tls(server)
    auth = _login(session)
    return SessionFacts(
        peer=endpoints.shown(session.peer),
        helo=session.host_name or "",
        protocol=_protocol(session, envelope, tls, auth),
        tls=tls,
        auth=auth,
    )


def envelope_of(server: SMTP, session: Session, envelope: SMTPEnvelope, size: int) -> Envelope:
    """Return the envelope of a message of *size* octets that is complete now."""
    identity = Identity.now()
    facts = session_facts(server, session, envelope)
    return Envelope(
        id=identity.id,
        received=identity.received,
        peer=facts.peer,
        helo=facts.helo,
        protocol=facts.protocol,
        tls=facts.tls,
        auth=facts.auth,
        mail_from="" if envelope.mail_from in (None, "<>") else str(envelope.mail_from),
        mail_options=list(envelope.mail_options),
        rcpt_tos=list(envelope.rcpt_tos),
        size=size,
    )


def _tls(server: SMTP) -> str | None:
    # STARTTLS replaces the transport, so one question serves for it and for SMTPS.
    layer = server.transport and server.transport.get_extra_info("ssl_object")
    return layer.version() if layer else None


def _login(session: Session) -> str | None:
    if not session.authenticated:
        return None
    login = getattr(session.auth_data, "login", None)
    return login.decode("utf-8", "surrogateescape") if isinstance(login, bytes) else login


def _protocol(
    session: Session, envelope: SMTPEnvelope, tls: str | None, auth: str | None
) -> str:
    """Return the keyword of RFC 3848; RFC 6531 has those for SMTPUTF8."""
    if not session.extended_smtp:
        return "SMTP"
    keyword = "UTF8SMTP" if envelope.smtp_utf8 else "ESMTP"
    return keyword + ("S" if tls else "") + ("" if auth is None else "A")
