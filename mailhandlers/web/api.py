"""The HTTP API: the messages as JSON, and waiting for them.

``openapi.json`` says which parameters each operation takes, to programs and to this module.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from anyio import move_on_after
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from .. import __version__
from ..inbox.criteria import Criteria
from ..mail import Mail
from ..message.message import StoredMessage
from ..stores import json_lines
from ..stores.store import Entry, StoreError
from .arrivals import Arrivals
from .guard import HEALTH
from .mailbox import Mailbox
from .query import ParameterError, criteria_of, parameters, parsed, search
from .responses import download, event, event_stream, mail_page

OPENAPI: dict[str, Any] = json.loads((Path(__file__).parent / "openapi.json").read_bytes())
"""What this API is, for programs."""
OPENAPI["info"]["version"] = __version__

_JSON = "application/json"
_SCHEMAS = {
    f"#/components/parameters/{name}": (parameter["in"], parameter["name"], parameter["schema"])
    for name, parameter in OPENAPI["components"]["parameters"].items()
}


def _schemas(path: str, method: str = "get", place: str = "query") -> dict[str, Any]:
    """Return the schemas of the parameters that an operation takes in that *place*."""
    named = OPENAPI["paths"][path][method].get("parameters", ())
    schemas = (_SCHEMAS[each["$ref"]] for each in named)
    return {name: schema for where, name, schema in schemas if where == place}


class Messages(HTTPEndpoint):
    """All messages: to read, or to remove, those that meet criteria."""

    async def get(self, request: Request) -> Response:
        """Return the messages that meet the criteria, the newest first."""
        mailbox: Mailbox = request.app.state.mailbox
        given = parameters(request, _schemas("/api/messages"))
        criteria, limit = criteria_of(given), given["limit"]

        def find() -> Iterator[StoredMessage]:
            entries = mailbox.entries(given["after"], given["before"], criteria)
            rest = criteria
            if criteria.matching is not None:
                # An answer that has begun can't become an error any more: first search all.
                hits = (entry for entry in entries for _ in mailbox.among([entry], criteria))
                entries, rest = iter(list(itertools.islice(hits, limit))), Criteria()
            found = itertools.islice(mailbox.among(entries, rest), limit)
            first = list(itertools.islice(found, 1))  # what can't be read is said now
            return itertools.chain(first, found)

        return StreamingResponse(_array(await search(criteria, find)), media_type=_JSON)

    async def delete(self, request: Request) -> Response:
        """Remove the messages that meet the criteria."""
        criteria = criteria_of(parameters(request, _schemas("/api/messages", "delete")))
        await search(criteria, request.app.state.mailbox.clear, criteria)
        return Response(status_code=204)


class Latest(HTTPEndpoint):
    """The newest message."""

    async def get(self, request: Request) -> Response:
        """Return the newest message that meets the criteria, or wait for one."""
        mailbox: Mailbox = request.app.state.mailbox
        arrivals: Arrivals = request.app.state.arrivals
        given = parameters(request, _schemas("/api/messages/latest"))
        criteria, after, timeout = criteria_of(given), given["after"], given["timeout"]

        def look() -> StoredMessage | None:
            return next(mailbox.messages(criteria, after), None)

        def look_at(entry: Entry) -> StoredMessage | None:
            message = next(mailbox.among([entry], criteria), None)
            # The one that arrived may be the one that was not to count.
            return look() if message is not None and after else message

        if timeout == 0:
            message = await search(criteria, look)
        else:
            # Before the look: what comes meanwhile is not missed.
            async with arrivals.subscribed(criteria) as subscription:
                message = await search(criteria, look)
                with move_on_after(timeout):
                    while message is None:
                        message = await search(criteria, look_at, await subscription.next())
        if message is None:
            text = await search(criteria, mailbox.miss, criteria, timeout, after)
            raise HTTPException(404, text)
        return await run_in_threadpool(_answer, message)


class Message(HTTPEndpoint):
    """One message: to read it, and to remove it."""

    def get(self, request: Request) -> Response:
        """Return the message."""
        parameters(request, _schemas("/api/messages/{id}"))
        return _answer(_named(request))

    def delete(self, request: Request) -> Response:
        """Remove the message."""
        parameters(request, _schemas("/api/messages/{id}", "delete"))
        request.app.state.mailbox.remove(request.path_params["id"])
        return Response(status_code=204)


def html(request: Request) -> Response:
    """Return one page that shows the message; with `remote` its images come from the web."""
    given = parameters(request, _schemas("/api/messages/{id}/html"))
    return mail_page(_named(request), remote=given["remote"])


def text(request: Request) -> Response:
    """Return the plain text of the message; empty where there is none."""
    parameters(request, _schemas("/api/messages/{id}/text"))
    return PlainTextResponse(_named(request).text.encode("utf-8", "replace"))


def source(request: Request) -> Response:
    """Return the message as it came, octet for octet."""
    parameters(request, _schemas("/api/messages/{id}/source"))
    message = _named(request)
    return download(message.original_content, f"{message.envelope.id}.eml", "message/rfc822")


def attachment(request: Request) -> Response:
    """Return what an attachment holds."""
    path = "/api/messages/{id}/attachments/{number}"
    parameters(request, _schemas(path))
    schema = _schemas(path, place="path")["number"]
    number = parsed("number", request.path_params["number"], schema)
    attachments = _named(request).attachments
    if number >= len(attachments):
        raise HTTPException(404, f"the message has {len(attachments)} attachments")
    chosen = attachments[number]
    return download(chosen.content, chosen.safe_name(), chosen.content_type)


def send(request: Request) -> Response:
    """Send the message on to a real address, one of those that were named at the start."""
    given = parameters(request, _schemas("/api/messages/{id}/send", "post"))
    address = given["redirect_to"]
    if address is None:
        raise ParameterError("redirect_to", "it is missing")
    request.app.state.sender.send(_named(request), address)
    return Response(status_code=204)


async def events(request: Request) -> Response:
    """Send each message that arrives as an event, whose data is its record."""
    arrivals: Arrivals = request.app.state.arrivals
    criteria = criteria_of(parameters(request, _schemas("/api/events")))
    after = request.headers.get("last-event-id", "")

    await run_in_threadpool(request.app.state.mailbox.entries)  # says now what is no store

    async def send() -> AsyncIterator[bytes]:
        async for arrived in arrivals.messages(criteria, after):
            data = await run_in_threadpool(_data, arrived) if arrived else b""
            yield event(arrived, data)

    return event_stream(send())


async def health(request: Request) -> Response:
    """Tell whether the messages can be read, and nothing of them: anybody may ask."""
    parameters(request, _schemas(HEALTH))
    try:
        await run_in_threadpool(request.app.state.mailbox.entries)
    except (StoreError, OSError):
        raise HTTPException(503, "the messages can't be read") from None
    return JSONResponse({"status": "ok"})


async def openapi(request: Request) -> Response:
    """Return what this API is."""
    below = request.app.state.below
    return JSONResponse(OPENAPI | {"servers": [{"url": below}]} if below else OPENAPI)


def _named(request: Request) -> StoredMessage:
    """Return the message that the path names. Raises UnknownIdError."""
    mailbox: Mailbox = request.app.state.mailbox
    return mailbox.get(request.path_params["id"])


def record(message: StoredMessage) -> Iterator[bytes]:
    """Yield the line that JSON Lines has for *message*, in pieces."""
    mail = Mail(message.envelope, message.original_content)
    yield from json_lines.encode(mail, message.summary())


def _data(message: StoredMessage) -> bytes:
    return b"".join(record(message)).rstrip(b"\n")


def _answer(message: StoredMessage) -> Response:
    """Return the record of a single message, with its problems behind the last key."""
    problems = json.dumps([problem.to_dict() for problem in message.problems()])
    single = b'%b, "problems": %b}\n' % (_data(message)[:-1], problems.encode())
    return Response(single, media_type=_JSON)


def _array(messages: Iterator[StoredMessage]) -> Iterator[bytes]:
    before = b"["
    for message in messages:
        yield before
        yield from record(message)
        before = b","
    yield b"]\n" if before == b"," else b"[]\n"


ROUTES = [
    Route("/api/messages", Messages),
    Route("/api/messages/latest", Latest),
    Route("/api/messages/{id}", Message),
    Route("/api/messages/{id}/html", html),
    Route("/api/messages/{id}/text", text),
    Route("/api/messages/{id}/source", source),
    Route("/api/messages/{id}/attachments/{number}", attachment),
    Route("/api/messages/{id}/send", send, methods=["POST"]),
    Route("/api/events", events),
    Route(HEALTH, health),
    Route("/api/openapi.json", openapi),
]
