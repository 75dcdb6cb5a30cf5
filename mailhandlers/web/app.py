"""The application: the API, the pages, the guard before them, and how an error is told."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from ..stores.store import StoreError
from . import api, pages
from .arrivals import Arrivals
from .guard import CancelOnDisconnect, Guard
from .mailbox import Mailbox, UnknownIdError
from .query import ParameterError
from .responses import Problem
from .sending import NotAllowedError, NotSentError, Sender
from .settings import WebSettings

# Each reads one message at a time, which may be large.
_THREADS = 4

_DEFAULTS = WebSettings()
_log = logging.getLogger("mailhandlers")


def create_app(
    path: str | os.PathLike[str],
    *,
    token: str | None = None,
    settings: WebSettings = _DEFAULTS,
) -> Starlette:
    """Return the ASGI application that shows the store at *path* as *settings* say.

    With a *token*, which may have been made at the start, all who ask must know it; without one
    the Host header must name this computer, or be a name in *settings*.
    """
    guard = Middleware(Guard, token=token, path=settings.path, host_names=settings.host_names)
    app = Starlette(
        routes=[*api.ROUTES, *pages.ROUTES],
        middleware=[Middleware(CancelOnDisconnect), guard],
        exception_handlers=_ERRORS,
        lifespan=_few_threads,
    )
    # Its redirections name the Host and a scheme, which are others before a proxy.
    app.router.redirect_slashes = False
    app.state.below = settings.path
    app.state.sender = Sender(settings)
    app.state.mailbox = Mailbox(path)
    app.state.arrivals = Arrivals(app.state.mailbox)
    return app


@asynccontextmanager
async def _few_threads(app: Starlette) -> AsyncIterator[None]:
    current_default_thread_limiter().total_tokens = _THREADS
    yield


async def _refused(request: Request, error: HTTPException) -> Response:
    detail = "there is nothing at this address" if error.detail == "Not Found" else error.detail
    return Problem(error.status_code, detail, headers=error.headers)


async def _wrong_parameter(request: Request, error: ParameterError) -> Response:
    return Problem(422, str(error), [{"parameter": error.name, "detail": error.reason}])


async def _unknown_id(request: Request, error: UnknownIdError) -> Response:
    return Problem(404, str(error))


async def _not_allowed_there(request: Request, error: NotAllowedError) -> Response:
    return Problem(403, str(error))


async def _not_sent(request: Request, error: NotSentError) -> Response:
    return Problem(502, str(error))


async def _no_store(request: Request, error: StoreError) -> Response:
    return Problem(409, str(error))


async def _not_allowed(request: Request, error: PermissionError) -> Response:
    return Problem(403, _told(error))


async def _disk_failed(request: Request, error: OSError) -> Response:
    return Problem(503, _told(error))


def _told(error: OSError) -> str:
    """Return what failed, and where; a file that fails while it is read has no name there."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s: an error of this program", request.url.path, exc_info=error)
    return Problem(500, "an error of this program: what it printed tells more")


_ERRORS: dict[Any, Any] = {
    HTTPException: _refused,
    ParameterError: _wrong_parameter,
    UnknownIdError: _unknown_id,
    NotAllowedError: _not_allowed_there,
    NotSentError: _not_sent,
    StoreError: _no_store,
    PermissionError: _not_allowed,
    OSError: _disk_failed,
    Exception: _failed,
}
