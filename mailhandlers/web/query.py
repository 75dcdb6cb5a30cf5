"""What a request asks for: its parameters, by name and by type, and the criteria among them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import regex
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request

from ..inbox.criteria import Criteria

_MATCHING_SECONDS = 1.0
_T = TypeVar("_T")
# Each takes a second: in the threads of all others, they would hold up all others.
_PATTERN_THREADS = CapacityLimiter(2)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


_TRUTHS = dict.fromkeys(("true", "1", "yes", "on"), True)
_TRUTHS |= dict.fromkeys(("false", "0", "no", "off"), False)
# The types of JSON Schema.
_TYPES: dict[str, Callable[[str], Any]] = {
    "string": str,
    "integer": int,
    "number": _number,
    "boolean": lambda text: _TRUTHS[text.lower()],
}


class ParameterError(ValueError):
    """A parameter is wrong, or there is no such one."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


def parameters(request: Request, schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the query's parameters, each of which has its JSON Schema in *schemas*.

    One that is not given has its schema's default, or None. Raises ParameterError, also for a
    name that is none: whoever mistypes a criterion would be given, or remove, any messages.
    """
    given = request.query_params
    for name, count in Counter(name for name, _ in given.multi_items()).items():
        if name not in schemas and name != "token":
            known = ", ".join(sorted({"token", *schemas}))
            raise ParameterError(name, f"there is no such parameter here: {known}")
        if count > 1:
            raise ParameterError(name, "it is given more than once")
    return {
        name: parsed(name, given[name], schema) if name in given else schema.get("default")
        for name, schema in schemas.items()
    }


def parsed(name: str, text: str, schema: Mapping[str, Any]) -> Any:
    """Return what *text* says, as the JSON *schema* wants it. Raises ParameterError."""
    try:
        value = _TYPES[schema["type"]](text)
    except (ValueError, KeyError):
        raise ParameterError(name, f"{text!r} is no {schema['type']}") from None
    if value < schema.get("minimum", value):
        raise ParameterError(name, f"{text} is less than {schema['minimum']}")
    if value > schema.get("maximum", value):
        raise ParameterError(name, f"{text} is more than {schema['maximum']}")
    if len(text) > schema.get("maxLength", len(text)):
        raise ParameterError(name, f"it has more than {schema['maxLength']} characters")
    if value not in schema.get("enum", [value]):
        raise ParameterError(name, f"{text!r} is none of {', '.join(schema['enum'])}")
    return value


def criteria_of(given: Mapping[str, Any]) -> Criteria:
    """Return the criteria among the parameters *given*: those of Python, and as strict.

    Raises ParameterError for a pattern that is none.
    """
    matching = given["matching"]
    return Criteria(
        to=given["to"],
        mail_from=given["mail_from"],
        subject=given["subject"],
        matching=None if matching is None else LimitedPattern(matching),
    )


async def search(criteria: Criteria, function: Callable[..., _T], *args: Any) -> _T:
    """Return what *function*, which looks for *criteria*, does in a thread."""
    limiter = None if criteria.matching is None else _PATTERN_THREADS
    return await run_sync(function, *args, limiter=limiter)


class LimitedPattern:
    """A pattern of a stranger, who has one second of matching in all.

    A pattern can take for ever, and with :mod:`re` nothing ends it. The library `regex` ends,
    and lets other threads run meanwhile, as long as it searches in a str.
    """

    def __init__(self, pattern: str) -> None:
        """Compile *pattern*. Raises ParameterError."""
        self.pattern = pattern
        self._seconds_left = _MATCHING_SECONDS
        try:
            # As near to `re` as it can be.
            self._compiled = regex.compile(
                pattern, regex.VERSION0 | regex.MULTILINE, cache_pattern=False
            )
        except (regex.error, ValueError, RecursionError, OverflowError, MemoryError) as error:
            raise ParameterError("matching", f"no regular expression: {error}") from error

    def search(self, string: str) -> object:
        """Return None where nothing matches. Raises ParameterError after a second."""
        started = time.thread_time()
        try:
            # For the library, less than 0 is no limit.
            left = max(self._seconds_left, 0)
            return self._compiled.search(string, timeout=left)
        except (TimeoutError, MemoryError) as error:
            raise ParameterError(
                "matching",
                f"it takes more than {_MATCHING_SECONDS:g} s to search for this: make it "
                "simpler, or add other criteria",
            ) from error
        finally:
            self._seconds_left -= time.thread_time() - started
