"""The pages: the list, one message, and what keeps the list live."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Header, HTTPException, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from ..mail import Mail
from ..message.message import StoredMessage
from ..message.page import has_remote_images
from .api import arriving
from .asked import criteria_for
from .framed import SANDBOX
from .listing import Screen, screen, sender_of
from .mailbox import Mailbox, UnknownIdError
from .query import ArrivalsParameter, MailboxParameter
from .templating import answer

View = Literal["html", "text", "links", "headers", "source", "envelope"]

# More of it is a download: no person reads on, and browsers become slow.
_LONGEST_SHOWN = 1 << 18
# Chromium works half a minute on 20 MiB of HTML.
_LARGE_HTML = 1 << 21
_HANDLERS = {
    ".mbox": "MboxSink",
    ".jsonl": "JsonLines",
    ".json": "JsonLines",
    ".mail": "MailFile",
    ".eml": "MailFile",
}

router = APIRouter(include_in_schema=False)
_FOLDER = Path(__file__).parent / "static"
# Read at once: a server that became nobody may not read them later.
_STATIC = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.is_file()}
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

Asked = Annotated[str, Query(max_length=1000)]


@router.get("/")
def index(mailbox: MailboxParameter, q: Asked = "", before: str = "") -> Response:
    """Show the list."""
    try:
        listed = _listed(mailbox, q, before)
    except UnknownIdError:
        return RedirectResponse("/", 303)
    return answer("list.html", **_frame(mailbox, listed, q, before), **_first_mail(mailbox))


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Return one of the files that a page needs."""
    if name not in _STATIC:
        raise HTTPException(404, f"there is no file {name!r}")
    return Response(_STATIC[name], media_type=_KINDS[Path(name).suffix])


@router.get("/rows")
def rows(
    mailbox: MailboxParameter, q: Asked = "", before: str = "", after: str = ""
) -> Response:
    """Return a part of the list: what is new since *after*, or what is before *before*."""
    try:
        if after:
            found = mailbox.messages(criteria_for(q), after)
            listed = screen((Mail(m.envelope, m.original_content) for m in found), None)
        else:
            listed = _listed(mailbox, q, before)
    except UnknownIdError:
        return HTMLResponse("", 404)
    return answer("rows.html", **_frame(mailbox, listed, q, before))


@router.get("/messages/{id}")
def message(
    mailbox: MailboxParameter,
    id: str,  # noqa: A002
    q: Asked = "",
    before: str = "",
    view: View | None = None,
    remote: bool = False,
    whole: bool = False,
) -> Response:
    """Show one message, beside the list it was chosen from."""
    try:
        chosen = mailbox.get(id)
    except UnknownIdError:
        return answer("gone.html", 404, **_frame(mailbox, Screen(), q, ""))
    try:
        listed = _listed(mailbox, q, before)
    except UnknownIdError:
        listed = _listed(mailbox, q, "")
    names = [row.id for row in listed.rows]
    view = view or ("html" if chosen.html else "text")
    is_too_large = not whole and len(chosen.html) > _LARGE_HTML
    is_framed = view == "html" and not is_too_large
    at = names.index(chosen.envelope.id) if chosen.envelope.id in names else None
    return answer(
        "message.html",
        **_frame(mailbox, listed, q, before),
        message=chosen,
        sender=sender_of(chosen),
        newer=names[at - 1] if at else None,
        older=names[at + 1] if at is not None and at + 1 < len(names) else None,
        view=view,
        has_remote=is_framed and not remote and has_remote_images(chosen.html),
        remote=remote,
        whole=whole,
        is_too_large=is_too_large,
        sandbox=SANDBOX,
        text=chosen.text[:_LONGEST_SHOWN],
        source=_source(chosen),
        is_cut=max(len(chosen.text), len(chosen.original_content)) > _LONGEST_SHOWN,
    )


@router.get("/arrivals", response_class=EventSourceResponse)
async def arrivals(
    mailbox: MailboxParameter,
    arrivals: ArrivalsParameter,
    q: Asked = "",
    last_event_id: Annotated[str, Header()] = "",
) -> AsyncIterator[ServerSentEvent]:
    """Tell a page the id of each message that arrives."""
    async for arrived in arriving(mailbox, arrivals, criteria_for(q), last_event_id):
        name = arrived.envelope.id
        yield ServerSentEvent(raw_data=name, id=name)


@router.post("/clear")
def clear(mailbox: MailboxParameter) -> Response:
    """Remove all messages."""
    mailbox.clear()
    return RedirectResponse("/", 303)


def _listed(mailbox: Mailbox, q: str, before: str) -> Screen:
    return screen(mailbox.mails(before), criteria_for(q) if q.strip() else None)


def _frame(mailbox: Mailbox, listed: Screen, q: str, before: str) -> dict[str, Any]:
    """Return what all pages show."""
    kept = {name: value for name, value in (("q", q), ("before", before)) if value}
    return {
        "path": mailbox.path,
        "name": os.path.basename(mailbox.path),
        "screen": listed,
        "q": q,
        "before": before,
        "kept": urlencode(kept),
        "asked": urlencode({"q": q}) if q else "",
    }


def _first_mail(mailbox: Mailbox) -> dict[str, Any]:
    """Return what an empty inbox needs to say how mail gets there."""
    suffix = os.path.splitext(mailbox.path)[1]
    return {"handler": _HANDLERS.get(suffix, "MaildirSink")}


def _source(message: StoredMessage) -> str:
    octets = message.original_content[:_LONGEST_SHOWN]
    return octets.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
