"""The HTTP API: the messages as JSON, and waiting for them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Annotated, Any, NamedTuple, TypeVar

from anyio import CapacityLimiter, move_on_after
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, HTTPException, Path, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from ..inbox.criteria import Criteria
from ..message.message import StoredMessage
from ..stores.store import Entry
from .arrivals import Arrivals
from .downloads import download
from .framed import framed
from .mailbox import Mailbox, UnknownIdError
from .query import (
    After,
    ArrivalsParameter,
    CriteriaParameter,
    MailboxParameter,
    MessageParameter,
)
from .record import Record, record
from .responses import documented

_JSON = "application/json"
_LONGEST_WAIT = 60
_MOST_MISSED = 100
_T = TypeVar("_T")
# Each takes a second: in the threads of all others, they would hold up all others.
_PATTERN_THREADS = CapacityLimiter(2)

router = APIRouter(
    prefix="/api",
    responses=documented(
        s401="A token is needed.",
        s403="A page of another site asks, or the store may not be read.",
        s409="The path holds something that is no store.",
        s421="The Host header names another computer.",
        s422="A parameter is none.",
    ),
)


_NO_ID = documented(s404="No message has the id.")


class _Whole(NamedTuple):
    """What OpenAPI says of an answer that is no JSON."""

    media_type: str
    format: str = "binary"

    def documented(self) -> dict[int | str, dict[str, Any]]:
        schema = {"type": "string", "format": self.format}
        content = {self.media_type: {"schema": schema}}
        return _NO_ID | {200: {"description": "The octets.", "content": content}}


@router.get("/messages", response_model=list[Record], responses=_NO_ID)
async def messages(
    mailbox: MailboxParameter,
    criteria: CriteriaParameter,
    after: After = "",
    before: Annotated[
        str, Query(description="Only messages that arrived before the one with this id.")
    ] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Response:
    """Return the messages that meet the criteria, the newest first."""

    def find() -> Iterator[StoredMessage]:
        entries, rest = mailbox.entries(after, before), criteria
        if criteria.matching is not None:
            # An answer that has begun can't become an error any more: first search all.
            hits = (entry for entry in entries for _ in mailbox.among([entry], criteria))
            entries, rest = iter(list(itertools.islice(hits, limit))), Criteria()
        found = itertools.islice(mailbox.among(entries, rest), limit)
        first = list(itertools.islice(found, 1))  # what can't be read is said now
        return itertools.chain(first, found)

    try:
        found = await _search(criteria, find)
    except UnknownIdError as error:
        raise HTTPException(404, str(error)) from error
    return StreamingResponse(_array(found), media_type=_JSON)


@router.get(
    "/messages/latest",
    response_model=Record,
    responses=documented(s404="No such message came in time: 'detail' has the nearest misses."),
)
async def latest(
    mailbox: MailboxParameter,
    arrivals: ArrivalsParameter,
    criteria: CriteriaParameter,
    after: After = "",
    timeout: Annotated[
        float,
        Query(
            ge=0,
            le=_LONGEST_WAIT,
            allow_inf_nan=False,
            description="How many seconds to wait for one.",
        ),
    ] = 0,
) -> Response:
    """Return the newest message that meets the criteria, or wait for one."""

    def look() -> StoredMessage | None:
        return next(mailbox.messages(criteria, after), None)

    def look_at(entry: Entry) -> StoredMessage | None:
        message = next(mailbox.among([entry], criteria), None)
        # The one that arrived may be the one that was not to count.
        return look() if message is not None and after else message

    try:
        if timeout == 0:
            item = await _search(criteria, look)
        else:
            # Before the look: what comes meanwhile is not missed.
            async with arrivals.subscribed(criteria) as subscription:
                item = await _search(criteria, look)
                with move_on_after(timeout):
                    while item is None:
                        item = await _search(criteria, look_at, await subscription.next())
    except UnknownIdError as error:
        raise HTTPException(404, str(error)) from error
    if item is None:
        text = await _search(criteria, mailbox.miss, criteria, timeout, after)
        raise HTTPException(404, text)
    return await run_in_threadpool(_answer, item)


@router.get("/messages/{id}", response_model=Record, responses=_NO_ID)
def one(message: MessageParameter) -> Response:
    """Return one message."""
    return _answer(message)


@router.get(
    "/messages/{id}/html", response_class=Response, responses=_Whole("text/html").documented()
)
def html(message: MessageParameter, remote: bool = False) -> Response:
    """Return one page that shows the message; with `remote` its images come from the web."""
    return framed(message, remote=remote)


@router.get(
    "/messages/{id}/text",
    response_class=PlainTextResponse,
    responses=_Whole("text/plain", "").documented(),
)
def text(message: MessageParameter) -> Response:
    """Return the plain text of the message; empty where there is none."""
    return PlainTextResponse(message.text.encode("utf-8", "replace"))


@router.get(
    "/messages/{id}/source",
    response_class=Response,
    responses=_Whole("message/rfc822").documented(),
)
def source(message: MessageParameter) -> Response:
    """Return the message as it came, octet for octet."""
    return download(message.original_content, f"{message.envelope.id}.eml", "message/rfc822")


@router.get(
    "/messages/{id}/attachments/{number}",
    response_class=Response,
    responses=_Whole("*/*").documented(),
)
def attachment(
    message: MessageParameter,
    number: Annotated[int, Path(ge=0, description="Counted from 0, as in the record.")],
) -> Response:
    """Return what an attachment holds."""
    attachments = message.attachments
    if number >= len(attachments):
        raise HTTPException(404, f"the message has {len(attachments)} attachments")
    chosen = attachments[number]
    return download(chosen.content, chosen.safe_name(), chosen.content_type)


@router.delete("/messages", status_code=204)
def clear(mailbox: MailboxParameter) -> None:
    """Remove all messages."""
    mailbox.clear()


@router.get("/events", response_class=EventSourceResponse)
async def events(
    mailbox: MailboxParameter,
    arrivals: ArrivalsParameter,
    criteria: CriteriaParameter,
    last_event_id: Annotated[
        str, Header(description="The id of the last message that was seen.")
    ] = "",
) -> AsyncIterator[ServerSentEvent]:
    """Send each message that arrives as an event, whose data is its record."""
    # When a pattern has had its time, the stream ends: it began without an error.
    with suppress(RequestValidationError):
        async for item in arriving(mailbox, arrivals, criteria, last_event_id):
            data = b"".join(await run_in_threadpool(list, record(item))).decode()
            yield ServerSentEvent(raw_data=data.rstrip("\n"), id=item.envelope.id)


async def arriving(
    mailbox: Mailbox, arrivals: Arrivals, criteria: Criteria, after: str
) -> AsyncIterator[StoredMessage]:
    """Yield what arrives, and first the newest that arrived since the message *after*."""
    async with arrivals.subscribed(criteria) as subscription:
        sent = set()
        if after:
            for item in await _search(criteria, _missed, mailbox, criteria, after):
                sent.add(item.envelope.id)
                yield item
        while True:
            found = mailbox.among([await subscription.next()], criteria)
            for item in await _search(criteria, list, found):
                if item.envelope.id not in sent:
                    yield item


def _missed(mailbox: Mailbox, criteria: Criteria, after: str) -> list[StoredMessage]:
    try:
        newest = itertools.islice(mailbox.messages(criteria, after), _MOST_MISSED)
        return list(newest)[::-1]
    except UnknownIdError:
        return []


async def _search(criteria: Criteria, function: Callable[..., _T], *args: Any) -> _T:
    """Call *function* in a thread."""
    limiter = None if criteria.matching is None else _PATTERN_THREADS
    return await run_sync(function, *args, limiter=limiter)


def _answer(message: StoredMessage) -> Response:
    return Response(b"".join(record(message)), media_type=_JSON)


def _array(messages: Iterator[StoredMessage]) -> Iterator[bytes]:
    before = b"["
    for message in messages:
        yield before
        yield from record(message)
        before = b","
    yield b"]\n" if before == b"," else b"[]\n"
