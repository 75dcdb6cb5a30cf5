"""What the value of an option may be: how its text is read, how a keyword is checked.

What reads text raises ValueError, whose message follows the option's name. What checks a
keyword returns the value to use, or raises TypeError or ValueError in one sentence that says
what to do. A bool is an int to Python, and here a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from .smtp.replies import Reply
from .smtp.users import read_users
from .stores.folder import Keep

_SHORTEST_LINE = 1001  # RFC 5321 section 4.5.3.1.6, and the dot that is doubled


def yes_or_no(text: str) -> bool:
    """Read ``yes`` or ``no``."""
    try:
        return {"yes": True, "no": False}[text]
    except KeyError:
        raise ValueError("is yes or no") from None


def octal(text: str) -> int:
    """Read an octal number."""
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError("is octal, such as 0600 or 0644") from None


def number(read: Callable[[str], float], text: str) -> float:
    """Read a number with *read*, which is int or float."""
    try:
        return read(text)
    except ValueError:
        raise ValueError("is a number") from None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_bool(keyword: str, value: Any) -> bool:
    """Check what is on or off."""
    if not isinstance(value, bool):
        raise TypeError(f"{keyword} is True or False, not {value!r}")
    return value


def check_mode(keyword: str, value: Any) -> int:
    """Check the permissions of files."""
    if not _is_int(value):
        raise TypeError(f"{keyword} is a number such as 0o600, not {value!r}")
    mode: int = value
    if mode & 0o600 != 0o600 or mode > 0o777:
        raise ValueError(
            f"{keyword}={mode:04o} must let the owner read and write: try {keyword}=0600"
        )
    return mode


def check_auth(keyword: str, value: Any) -> str | None:
    """Check who may log in; a file or a variable is read."""
    return value if value is None else read_users(value)


def check_replies(keyword: str, value: Any) -> tuple[Reply, ...]:
    """Check scripted replies."""
    example = f'{keyword}=[Reply("RCPT", "550 5.1.1 No such user")]'
    if isinstance(value, (str, Reply)) or not isinstance(value, Iterable):
        raise TypeError(f"{keyword} is a list of Reply, not {value!r}: try {example}")
    replies = tuple(value)
    for reply in replies:
        if not isinstance(reply, Reply):
            raise TypeError(f"{keyword} has {reply!r}, which is no Reply: try {example}")
    return replies


def check_delay(keyword: str, value: Any) -> float:
    """Check a number of seconds."""
    if not (_is_int(value) or isinstance(value, float)):
        raise TypeError(f"{keyword} is a number of seconds such as 0.5, not {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{keyword}={value} is no number of seconds: try {keyword}=0.5")
    return float(value)


def check_max_line(keyword: str, value: Any) -> int | None:
    """Check a number of octets."""
    if value is None:
        return None
    if not _is_int(value):
        raise TypeError(f"{keyword} is a number of octets such as 10000, not {value!r}")
    if value < _SHORTEST_LINE:
        raise ValueError(
            f"{keyword}={value} is too short: RFC 5321 wants {_SHORTEST_LINE} octets"
        )
    return int(value)


def check_web(keyword: str, value: Any) -> str | None:
    """Check an address to listen at; ``None`` is no page."""
    if not (value is None or isinstance(value, str)):
        raise TypeError(f"{keyword} is an address such as '8026', not {value!r}")
    return value


def check_log(keyword: str, value: Any) -> str:
    """Check when lines are written."""
    if value not in ("auto", "yes", "no"):
        raise ValueError(f"{keyword}={value} is unknown: choose auto, yes or no")
    return str(value)


def check_loop(keyword: str, value: Any) -> str | None:
    """Check which event loop runs, and that it is there."""
    loop = one_choice(keyword, value, "uvloop")
    if loop is not None and not find_spec(loop):
        raise ValueError("loop=uvloop needs uvloop: pip install 'mailhandlers[uvloop]'")
    return loop


def one_choice(keyword: str, value: Any, choice: str) -> str | None:
    """Check an option that has one value, or is left out."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{keyword} is {choice!r} or None, not {value!r}")
    if value not in (None, choice):
        raise ValueError(f"{keyword}={value} is unknown: {keyword}={choice} is the one choice")
    return value


def number_or_days(text: str) -> int | str:
    """Read a number, or leave a text such as ``7d`` to :func:`check_keep`."""
    return int(text) if text.isascii() and text.isdecimal() else text


def check_keep(keyword: str, value: Any) -> int | str | None:
    """Check how many messages are kept, or for how many days."""
    if value is None:
        return None
    example = f"{keyword}=1000 for so many messages, or {keyword}=7d for so many days"
    if not (_is_int(value) or isinstance(value, str)):
        raise TypeError(f"{keyword} is a number or a text, not {value!r}: try {example}")
    kept: int | str = value
    try:
        Keep.of(kept)
    except ValueError:
        raise ValueError(
            f"{keyword}={value} is no number of messages or days: try {example}"
        ) from None
    return kept
