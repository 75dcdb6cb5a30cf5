"""Errors as RFC 9457 has them: ``application/problem+json``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from ..stores.store import StoreError

_log = logging.getLogger("mailhandlers")

MEDIA_TYPE = "application/problem+json"

_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["parameter", "detail"],
                "properties": {"parameter": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def documented(**reasons: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI of the errors that an operation may answer, such as ``s404``."""
    return {
        int(status[1:]): {
            "description": reason,
            "content": {MEDIA_TYPE: {"schema": _SCHEMA}},
        }
        for status, reason in reasons.items()
    }


def problem(
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the answer that tells of an error."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        # A name of a file may hold octets that are no UTF-8.
        "detail": detail.encode("utf-8", "backslashreplace").decode(),
    }
    if errors:
        content["errors"] = errors
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have *app* answer its errors in this form."""

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # Each method has a route of its own, and the first names itself alone.
            headers["Allow"] = ", ".join(_methods(app, request.url.path)) or headers["Allow"]
        return problem(error.status_code, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"parameter": str(one["loc"][-1]), "detail": str(one["msg"])}
            for one in error.errors()
        ]
        detail = "; ".join(f"{one['parameter']}: {one['detail']}" for one in errors)
        return problem(422, detail, errors)

    @app.exception_handler(StoreError)
    async def no_store(request: Request, error: StoreError) -> JSONResponse:
        return problem(409, str(error))

    @app.exception_handler(PermissionError)
    async def not_allowed(request: Request, error: PermissionError) -> JSONResponse:
        return problem(403, f"{error.filename}: {error.strerror}")

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s: an error of this program", request.url.path, exc_info=error)
        return problem(500, "an error of this program: what it printed tells more")


def _methods(app: FastAPI, path: str) -> list[str]:
    methods = {
        method.upper()
        for template, methods in app.openapi()["paths"].items()
        if compile_path(template)[0].match(path)
        for method in methods
    }
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)
