"""The pages: the list, one message, and what keeps the list live."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode
from zoneinfo import ZoneInfo

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ..inbox.criteria import Criteria
from ..mail import Mail
from ..message.attachments import Attachment
from ..message.message import StoredMessage
from ..message.problems import CHECKS
from ..stores.store import is_address
from .arrivals import Arrivals
from .mailbox import Mailbox, UnknownIdError
from .query import parameters
from .responses import SANDBOX, event, event_stream
from .screen import Screen, Tally, criteria_for, screen, sender_of
from .sending import NotSentError
from .templating import answer

# The parameters, as JSON Schema describes them.
_Q = {"type": "string", "maxLength": 1000, "default": ""}
_ID = {"type": "string", "default": ""}
_ADDRESS = {"type": "string", "maxLength": 1000, "default": ""}
_FLAG = {"type": "boolean", "default": False}
_VIEW = {
    "type": "string",
    "enum": ["html", "text", "links", "problems", "headers", "source", "envelope", "image"],
}
_NUMBER = {"type": "integer", "minimum": 0, "default": 0}

# More of it is a download: no person reads on, and browsers become slow.
_LONGEST_SHOWN = 1 << 18
# Chromium works half a minute on 20 MiB of HTML.
_LARGE_HTML = 1 << 21
# What offers to load the images of the web. Where there are none, it offers too much.
_WEB_IMAGE = re.compile(r"(?:\b(?:src|background)\s*=|\burl\()[\s\"']*https?://", re.IGNORECASE)
# What browsers decode that holds no script and asks for nothing.
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_LARGE_IMAGE = 1 << 23
_HANDLERS = {
    ".mbox": "MboxSink",
    ".jsonl": "JsonLines",
    ".json": "JsonLines",
    ".mail": "MailFile",
    ".eml": "MailFile",
}

_FOLDER = Path(__file__).parent / "static"
# Read at once: a server that became nobody may not read them later.
_STATIC = {path.name: path.read_bytes() for path in _FOLDER.iterdir() if path.is_file()}
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def index(request: Request) -> Response:
    """Show the list."""
    mailbox: Mailbox = request.app.state.mailbox
    given = parameters(request, {"q": _Q, "before": _ID})
    try:
        listed = _listed(mailbox, **given, zone=_zone(request), is_counted=True)
    except UnknownIdError:
        return RedirectResponse("./", 303)
    return answer("list.html", **_common(mailbox, listed, **given), **_first_mail(mailbox))


async def static(request: Request) -> Response:
    """Return one of the files that a page needs."""
    name = request.path_params["name"]
    if name not in _STATIC:
        raise HTTPException(404, f"there is no file {name!r}")
    return Response(_STATIC[name], media_type=_KINDS[Path(name).suffix])


def rows(request: Request) -> Response:
    """Return a part of the list: what came `after` a message, and what came `before` one."""
    mailbox: Mailbox = request.app.state.mailbox
    given = parameters(request, {"q": _Q, "before": _ID, "after": _ID})
    after = given.pop("after")
    try:
        if after:
            criteria = criteria_for(given["q"], _zone(request))
            found = mailbox.messages(criteria, after, given["before"])
            listed = screen((Mail(m.envelope, m.original_content) for m in found), None)
        else:
            listed = _listed(mailbox, **given, zone=_zone(request))
    except UnknownIdError:
        return HTMLResponse("", 404)
    return answer("rows.html", **_common(mailbox, listed, **given))


def message(request: Request) -> Response:
    """Show one message, beside the list it was chosen from."""
    mailbox: Mailbox = request.app.state.mailbox
    flags = {"remote": _FLAG, "whole": _FLAG}
    given = parameters(request, {"q": _Q, "before": _ID, "view": _VIEW, "n": _NUMBER, **flags})
    q, before, remote, whole = (given[name] for name in ("q", "before", "remote", "whole"))
    try:
        chosen = mailbox.get(request.path_params["id"])
    except UnknownIdError:
        return answer("gone.html", 404, **_common(mailbox, Screen(), q, ""))
    images = [number for number, each in enumerate(chosen.attachments) if _is_image(each)]
    if given["view"] == "image" and given["n"] not in images:
        raise HTTPException(404, f"attachment {given['n']} is no image that is shown here")
    try:
        listed = _listed(mailbox, q, before, _zone(request))
    except UnknownIdError:
        listed = _listed(mailbox, q, "", _zone(request))
    names = [row.id for row in listed.rows]
    view = given["view"] or ("html" if chosen.html else "text")
    is_too_large = not whole and len(chosen.html) > _LARGE_HTML
    is_framed = view == "html" and not is_too_large
    # To look for them takes 0.3 s for a megabyte of HTML.
    counts_problems = view == "problems" or len(chosen.original_content) <= _LONGEST_SHOWN
    at = names.index(chosen.envelope.id) if chosen.envelope.id in names else None
    return answer(
        "message.html",
        **_common(mailbox, listed, q, before),
        message=chosen,
        sender=sender_of(chosen),
        newer=names[at - 1] if at else None,
        older=names[at + 1] if at is not None and at + 1 < len(names) else None,
        view=view,
        problems=chosen.problems() if counts_problems else [],
        checks=[check for check in CHECKS if not check.needs],
        images=images,
        number=given["n"],
        offers_images=is_framed and not remote and bool(_WEB_IMAGE.search(chosen.html)),
        remote=remote,
        whole=whole,
        is_too_large=is_too_large,
        sandbox=SANDBOX,
        redirect_to=request.app.state.sender.addresses,
        text=chosen.text[:_LONGEST_SHOWN],
        source=_source(chosen),
        is_cut=max(len(chosen.text), len(chosen.original_content)) > _LONGEST_SHOWN,
    )


def send(request: Request) -> Response:
    """Send one message on, and tell how that went."""
    mailbox: Mailbox = request.app.state.mailbox
    address = parameters(request, {"redirect_to": _ADDRESS})["redirect_to"]
    try:
        chosen = mailbox.get(request.path_params["id"])
    except UnknownIdError:
        return RedirectResponse(f"../{quote(request.path_params['id'])}", 303)  # tells it
    status, reason = 200, ""
    try:
        request.app.state.sender.send(chosen, address)
    except NotSentError as error:
        status, reason = 502, str(error)
    listed = _common(mailbox, Screen(), "", "")
    name = chosen.envelope.id
    return answer("sent.html", status, **listed, address=address, problem=reason, id=name)


async def arrivals(request: Request) -> Response:
    """Tell a page the id of each message that arrives."""
    arrivals: Arrivals = request.app.state.arrivals
    criteria = criteria_for(parameters(request, {"q": _Q})["q"], _zone(request))
    after = request.headers.get("last-event-id", "")
    await run_in_threadpool(request.app.state.mailbox.entries)  # says now what is no store

    async def send() -> AsyncIterator[bytes]:
        async for arrived in arrivals.messages(criteria, after):
            yield event(arrived, arrived.envelope.id.encode() if arrived else b"")

    return event_stream(send())


def clear(request: Request) -> Response:
    """Remove all messages."""
    parameters(request, {})
    request.app.state.mailbox.clear(Criteria())
    return RedirectResponse("./", 303)


def delete(request: Request) -> Response:
    """Remove one message, and show the list it was chosen from."""
    given = parameters(request, {"q": _Q, "before": _ID})
    with suppress(UnknownIdError):  # somebody else has removed it
        request.app.state.mailbox.remove(request.path_params["id"])
    kept = _kept(**given)
    return RedirectResponse(f"../../?{kept}" if kept else "../../", 303)


def _listed(
    mailbox: Mailbox,
    q: str,
    before: str,
    zone: tzinfo | None = None,
    *,
    is_counted: bool = False,
) -> Screen:
    entries = Tally(mailbox.entries(before=before))
    criteria = criteria_for(q, zone) if q.strip() else None
    listed = screen(mailbox.mails(entries), criteria)
    if criteria is not None:
        listed.total, listed.is_counted = len(listed.rows), not listed.older
    elif is_counted and not before:
        listed.is_counted = entries.count_rest()
        listed.total = entries.taken
    return listed


def _zone(request: Request) -> tzinfo | None:
    """Return the time zone that the page's script has put into a cookie, if it is one."""
    with suppress(KeyError, ValueError, OSError):  # none, or this computer knows none of it
        return ZoneInfo(unquote(request.cookies["zone"]))
    return None


def _is_image(attachment: Attachment) -> bool:
    is_small = len(attachment.content) <= _LARGE_IMAGE
    return attachment.content_type in _IMAGES and is_small


def _common(mailbox: Mailbox, listed: Screen, q: str, before: str) -> dict[str, Any]:
    """Return what all pages show."""
    return {
        "path": mailbox.path,
        "name": os.path.basename(mailbox.path),
        "screen": listed,
        "q": q,
        "before": before,
        "kept": _kept(q, before),
        "search": urlencode({"q": q}) if q else "",
    }


def _kept(q: str, before: str) -> str:
    """Return the query of the list that is shown."""
    given = {"q": q, "before": before}
    return urlencode({name: value for name, value in given.items() if value})


def _first_mail(mailbox: Mailbox) -> dict[str, Any]:
    """Return what an empty inbox needs to say how mail gets there."""
    if is_address(mailbox.path):
        return {"handler": "BucketSink"}
    suffix = os.path.splitext(mailbox.path)[1]
    return {"handler": _HANDLERS.get(suffix, "MaildirSink")}


def _source(message: StoredMessage) -> str:
    octets = message.original_content[:_LONGEST_SHOWN]
    return octets.decode("utf-8", "backslashreplace").replace("\r\n", "\n")


ROUTES = [
    Route("/", index),
    Route("/static/{name}", static),
    Route("/rows", rows),
    Route("/messages/{id}", message),
    Route("/messages/{id}/send", send, methods=["POST"]),
    Route("/messages/{id}/delete", delete, methods=["POST"]),
    Route("/arrivals", arrivals),
    Route("/clear", clear, methods=["POST"]),
]
