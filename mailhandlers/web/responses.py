"""The answers that are no page of ours: errors, files, streams of events, a mail's own page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..message.message import StoredMessage
from ..message.page import policy
from ..stores.store import StoreError
from .query import ParameterError
from .templating import answer

SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
"""What a mail's page may do: a link opens a page of its own, which is an ordinary one."""

# What no browser would run if it showed it after all.
_HARMLESS = re.compile(
    r"image/(?:png|jpeg|gif|webp)|application/(?:pdf|zip)|text/(?:plain|csv|calendar)"
    r"|message/rfc822"
)


# Its style stands in it: who knows no token is given no other file.
_ERROR_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class Problem(JSONResponse):
    """The answer that tells of an error: as RFC 9457 has it, and to a person as a page."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Tell that *detail* is the reason, and which parameters have *errors*."""
        self._title = HTTPStatus(status).phrase
        # A name of a file may hold octets that are no UTF-8.
        self._detail = detail.encode("utf-8", "backslashreplace").decode()
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": self._title,
            "status": status,
            "detail": self._detail,
        }
        if errors:
            content["errors"] = errors
        super().__init__(content, status, headers, "application/problem+json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in the form that the request asks for."""
        path: str = scope["path"]
        is_page = "text/html" in Headers(scope=scope).get("accept", "")
        if is_page and not path.startswith("/api/"):
            home = "../" * (path.count("/") - 1) or "./"
            page = answer(
                "error.html",
                self.status_code,
                title=self._title,
                detail=self._detail,
                home=home if self.status_code in (404, 422) else "",
            )
            self.body = page.body
            self.headers.update(page.headers)
            self.headers["Content-Security-Policy"] = _ERROR_POLICY
        await super().__call__(scope, receive, send)


def download(content: bytes, name: str, content_type: str) -> Response:
    """Return *content* as a file to be saved under *name*, which is safe, and never shown."""
    plain = re.sub(r"[^\w.,=+@~ -]", "_", name, flags=re.ASCII)
    is_harmless = _HARMLESS.fullmatch(content_type)
    return Response(
        content,
        headers={
            "Content-Type": content_type if is_harmless else "application/octet-stream",
            # RFC 6266: the second is for all that aren't ancient.
            "Content-Disposition": f'attachment; filename="{plain}"; '
            f"filename*=UTF-8''{quote(name, safe='')}",
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
    )


def mail_page(message: StoredMessage, *, remote: bool) -> HTMLResponse:
    """Return *message* as a page for a frame, which runs nothing and loads nothing.

    With *remote* its images may come from the web.
    """
    headers = {
        "Content-Security-Policy": f"sandbox {SANDBOX}; {policy(remote)}; "
        "frame-ancestors 'self'",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(message.page(remote=remote).encode("utf-8", "replace"), headers=headers)


def event_stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Return *events*, which :func:`event` made, as they come, until they fail."""

    async def until_they_fail() -> AsyncIterator[bytes]:
        # The answer has begun, and can't become an error any more.
        with suppress(ParameterError, StoreError, OSError):
            async for each in events:
                yield each

    headers = {"X-Accel-Buffering": "no"}  # nginx would keep them back
    return StreamingResponse(until_they_fail(), media_type="text/event-stream", headers=headers)


def event(message: StoredMessage | None, data: bytes = b"") -> bytes:
    """Return the server-sent event of *message*; for None a comment, which nobody hears."""
    if message is None:
        return b": ping\n\n"
    return b"data: %b\nid: %b\n\n" % (data, message.envelope.id.encode())
