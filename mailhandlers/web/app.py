"""The application: which rooms it is made of."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from .. import __version__
from . import api, pages, problems
from .arrivals import Arrivals
from .guard import Guard
from .mailbox import Mailbox

# Each reads one message at a time, which may be large.
_THREADS = 4


@asynccontextmanager
async def _few_threads(app: FastAPI) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = _THREADS
    yield


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
    app.include_router(api.router)
    app.include_router(pages.router)
    problems.install(app)
    app.add_middleware(Guard, token=token)
    return app
