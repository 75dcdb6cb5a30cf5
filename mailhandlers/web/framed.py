"""The page of a message, for a frame that runs nothing and loads nothing from elsewhere."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

from ..message.message import StoredMessage
from ..message.page import policy

SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
"""A link opens a page of its own, which is then an ordinary one."""


def framed(message: StoredMessage, *, remote: bool) -> HTMLResponse:
    """Return the page; with *remote* its images may come from the web."""
    headers = {
        "Content-Security-Policy": f"sandbox {SANDBOX}; {policy(remote)}; "
        "frame-ancestors 'self'",
        "Referrer-Policy": "no-referrer",
    }
    shown = message.page(remote=remote).encode("utf-8", "replace")
    return HTMLResponse(shown, headers=headers)
