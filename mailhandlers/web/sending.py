"""Passing a message on: where a server for it was named at the start, and to whom."""

from __future__ import annotations

from ..mail import Mail
from ..message.message import StoredMessage
from ..smtp import endpoints
from ..smtp.relay import Relay, RelayError
from .settings import WebSettings


class NotAllowedError(Exception):
    """Nobody has said at the start that mail may be sent there."""


class NotSentError(Exception):
    """The server didn't take it; the text says why."""


class Sender:
    """Sends messages as *settings* allow."""

    def __init__(self, settings: WebSettings) -> None:
        self.addresses = settings.redirect_to
        """To whom mail may be sent; nobody where no server was named."""
        self._settings = settings

    def send(self, message: StoredMessage, address: str) -> None:
        """Send *message* to *address*. Raises NotAllowedError and NotSentError."""
        if address not in self.addresses:
            named = ", ".join(self.addresses) or "nobody"
            raise NotAllowedError(
                f"nothing is sent to {address!r}: 'mailhandlers web' was started with --via "
                f"and --redirect-to for {named}"
            )
        settings = self._settings
        via = endpoints.parsed(settings.via)
        try:
            with Relay(via, settings.via_user, settings.via_tls) as relay:
                relay.send(Mail(message.envelope, message.original_content), [address])
        except RelayError as error:
            raise NotSentError(str(error)) from None
        except OSError as error:
            reason = error.strerror or error
            raise NotSentError(f"{endpoints.shown(via)}: {reason}") from None
