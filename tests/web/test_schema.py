"""The API is as its OpenAPI says, whatever is asked of it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from chromium import store_directly
from hypothesis import HealthCheck, settings

pytest.importorskip("starlette")
pytest.importorskip("schemathesis")
import schemathesis

from mailhandlers.web.api import OPENAPI
from mailhandlers.web.app import create_app

pytestmark = pytest.mark.slow

_FOLDER = tempfile.TemporaryDirectory()
_STORE = Path(_FOLDER.name) / "inbox"
_IDS = [store_directly(_STORE, f"Subject: {n}\r\n\r\nhi\r\n".encode()) for n in range(3)]

schema = schemathesis.openapi.from_asgi(
    "/api/openapi.json", create_app(_STORE), headers={"Host": "localhost"}
).exclude(path="/api/events")  # it has no end


@schema.parametrize()
@settings(
    max_examples=25,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_no_request_is_answered_otherwise_than_described(case: Any) -> None:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        # Else it waits, as it should.
        if 0 < float((case.query or {})["timeout"]) <= 60:
            case.query["timeout"] = 0.01
    if case.path_parameters and "id" in case.path_parameters and len(case.formatted_path) % 2:
        case.path_parameters["id"] = _IDS[0]
    case.call_and_validate(headers={"Host": "localhost"})


def test_the_description_names_all_that_design_promises() -> None:
    paths = OPENAPI["paths"]
    assert {path: sorted(methods) for path, methods in paths.items()} == {
        "/api/messages": ["delete", "get"],
        "/api/messages/latest": ["get"],
        "/api/messages/{id}": ["delete", "get"],
        "/api/messages/{id}/html": ["get"],
        "/api/messages/{id}/text": ["get"],
        "/api/messages/{id}/source": ["get"],
        "/api/messages/{id}/attachments/{number}": ["get"],
        "/api/messages/{id}/send": ["post"],
        "/api/events": ["get"],
        "/api/health": ["get"],
    }
