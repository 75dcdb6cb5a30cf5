"""The arguments of the command line: a path, then options as ``key=value``.

argparse leaves a handler of aiosmtpd nothing but positional arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .smtp import script as session

_USAGE = "PATH [key=value ...]"


def parse(args: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the path, and the options as keywords of a handler.

    Raises ValueError in one sentence that says what to do.
    """
    if not args or not args[0] or _option(args[0])[0] in OPTIONS:
        raise ValueError(f"name the path of the store first: {_USAGE}")
    values: dict[str, Any] = {}
    for arg in args[1:]:
        key, value = _option(arg)
        if key is None:
            raise ValueError(f"one path is enough, {arg!r} is too many: {_USAGE}")
        if key not in OPTIONS:
            raise ValueError(f"there is no option {key!r}: choose from {', '.join(OPTIONS)}")
        try:
            read = OPTIONS[key](value)
        except ValueError as error:
            raise ValueError(f"{arg!r}: {key} {error}") from None
        if key == "reply":  # the one that may be repeated
            values.setdefault("replies", []).append(read)
        else:
            values[key] = read
    return args[0], values


def _option(arg: str) -> tuple[str | None, str]:
    key, equals, value = arg.partition("=")
    return (key, value) if equals else (None, "")


def _yes_or_no(value: str) -> bool:
    try:
        return {"yes": True, "no": False}[value]
    except KeyError:
        raise ValueError("is yes or no") from None


def _permissions(value: str) -> int:
    try:
        return int(value, 8)
    except ValueError:
        raise ValueError("is octal, such as 0600 or 0644") from None


OPTIONS: dict[str, Callable[[str], Any]] = {
    "sync": _yes_or_no,
    "mode": _permissions,
    **session.OPTIONS,
    "loop": str,
}
"""How each option is read from its text."""
