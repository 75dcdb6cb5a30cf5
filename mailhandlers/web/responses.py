"""The answers that are no page of ours: errors, files, streams of events, a mail's own page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from ..message.message import StoredMessage
from ..message.page import policy
from ..stores.store import StoreError
from .query import ParameterError

SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
"""What a mail's page may do: a link opens a page of its own, which is an ordinary one."""

# What no browser would run if it showed it after all.
_HARMLESS = re.compile(
    r"image/(?:png|jpeg|gif|webp)|application/(?:pdf|zip)|text/(?:plain|csv|calendar)"
    r"|message/rfc822"
)


def problem(
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the answer that tells of an error, as RFC 9457 has it."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        # A name of a file may hold octets that are no UTF-8.
        "detail": detail.encode("utf-8", "backslashreplace").decode(),
    }
    if errors:
        content["errors"] = errors
    return JSONResponse(content, status, headers, "application/problem+json")


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
