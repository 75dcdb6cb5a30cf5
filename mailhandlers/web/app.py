"""The application: which rooms it is made of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CancelScope, sleep
from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from . import api, pages, responses
from .arrivals import Arrivals
from .guard import Guard
from .mailbox import Mailbox
from .query import check_names

# Each reads one message at a time, which may be large.
_THREADS = 4


@asynccontextmanager
async def _few_threads(app: FastAPI) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = _THREADS
    yield


class ForTheClient:
    """ASGI middleware: work ends when its client leaves, and HEAD is GET without a body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as long as somebody wants the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = asyncio.Event()
        is_head = scope["method"] == "HEAD"

        async def cancel_when_left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass  # nothing here reads a body
            left.set()
            work.cancel()

        async def receive_nothing() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                return
            await send({"type": "http.response.body"})
            work.cancel()  # it may have no end
            await sleep(0)

        watching = asyncio.create_task(cancel_when_left())
        try:
            with CancelScope() as work:
                if is_head:
                    await self._app({**scope, "method": "GET"}, receive_nothing, send_head)
                else:
                    await self._app(scope, receive_nothing, send)
        finally:
            watching.cancel()


def create_app(path: str | os.PathLike[str], *, token: str | None = None) -> FastAPI:
    """Return the ASGI application that shows the store at *path*.

    With a *token* all who ask must know it; without one the Host header must name this
    computer.
    """
    app = FastAPI(
        title="mailhandlers",
        summary="The messages of one store, for programs in any language.",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,  # these load their scripts from elsewhere
        redoc_url=None,
        lifespan=_few_threads,
    )
    app.state.mailbox = Mailbox(path)
    app.state.arrivals = Arrivals(app.state.mailbox.path)
    for router in (api.router, pages.router):
        app.include_router(router, dependencies=[Depends(check_names)])
    responses.install(app)
    app.add_middleware(Guard, token=token)
    app.add_middleware(ForTheClient)
    return app
