"""The options of a handler, in one table: for the command line, for Python and for help.

Each field of :class:`Options` is an option, with all that is known of it: to add one, add a
field. argparse leaves a handler of aiosmtpd nothing but positional arguments, so that the
command line has a path, then options as ``key=value``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Concatenate, NamedTuple, ParamSpec

from . import values
from .smtp.replies import Reply

_USAGE = "PATH [key=value ...]"
_P = ParamSpec("_P")


class Option(NamedTuple):
    """What is known of one option beside its type and its default."""

    name: str
    """On the command line."""
    values: str
    """What may follow the equals sign, as in a usage line."""
    help: str
    """What it does, in one line."""
    read: Callable[[str], Any]
    """Make a value of text. Raises ValueError; the message follows the option's name."""
    check: Callable[[str, Any], Any]
    """Return the value to use, given the keyword and what came with it.

    Raises TypeError or ValueError in one sentence that says what to do.
    """
    is_repeatable: bool = False
    """Whether each use on the command line adds to a list."""


def parse(args: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the path, and the options as keywords of a handler, not checked yet.

    Raises ValueError in one sentence that says what to do.
    """
    if not args or not args[0] or _split(args[0])[0] in OPTIONS:
        raise ValueError(f"name the path of the store first: {_USAGE}")
    given: dict[str, Any] = {}
    for arg in args[1:]:
        name, text = _split(arg)
        if name is None:
            raise ValueError(f"one path is enough, {arg!r} is too many: {_USAGE}")
        if name not in OPTIONS:
            raise ValueError(f"there is no option {name!r}: choose from {', '.join(OPTIONS)}")
        keyword, option = OPTIONS[name]
        try:
            value = option.read(text)
        except ValueError as error:
            raise ValueError(f"{arg!r}: {name} {error}") from None
        if option.is_repeatable:
            given.setdefault(keyword, []).append(value)
        else:
            given[keyword] = value
    return args[0], given


def check(**keywords: Any) -> Options:
    """Return the options that *keywords* choose, and the defaults of all others.

    Raises TypeError or ValueError in one sentence that says what to do.
    """
    choices = [field.name for field in fields(Options)]
    for keyword in keywords:
        if keyword not in choices:
            raise TypeError(f"there is no option {keyword!r}: choose from {', '.join(choices)}")
    return Options(**keywords)


def as_keywords(
    table: Callable[_P, object],
) -> Callable[
    [Callable[..., None]], Callable[Concatenate[Any, str | os.PathLike[str], _P], None]
]:
    """Return a decorator for an ``__init__(self, path, **keywords)``.

    ``help()`` and type checkers then see the options of *table* in its signature, and its
    docstring, if it has one, tells what each means.
    """

    def decorate(init: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(init)
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        keywords = inspect.signature(table).parameters.values()
        init.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[*named, *keywords]
        )
        if init.__doc__:
            init.__doc__ = f"{inspect.getdoc(init)}\n\n{_described()}"
        return init

    return decorate


def _described() -> str:
    """Return what ``help()`` says of each keyword."""
    lines = ["The keywords, which the command line has as key=value:", ""]
    for name, (keyword, option) in OPTIONS.items():
        other = "" if name == keyword else f" ({name}= on the command line)"
        lines += [f"``{keyword}``{other}", f"    {option.help}"]
    return "\n".join(lines)


def _split(arg: str) -> tuple[str | None, str]:
    name, equals, text = arg.partition("=")
    return (name, text) if equals else (None, "")


def _option(default: Any, *parts: Any, is_secret: bool = False, **flags: Any) -> Any:
    option = Option(*parts, **flags)
    return field(default=default, repr=not is_secret, metadata={"option": option})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a handler is told beside its path; checked when made, and never changed.

    Raises TypeError or ValueError in one sentence that says what to do.
    """

    # fmt: off
    sync: bool = _option(
        True, "sync", "yes|no", "whether a reply waits until the disk has the message",
        values.yes_or_no, values.check_bool,
    )
    mode: int = _option(
        0o600, "mode", "OCTAL",
        "permissions of files; whoever may read a folder may also open what is in it",
        values.octal, values.check_mode,
    )
    auth: str | None = _option(
        None, "auth", "any|USER:PASSWORD|@FILE|$NAME",
        "offer AUTH: any lets everybody in; a file or a variable holds USER:PASSWORD",
        str, values.check_auth, is_secret=True,
    )
    auth_required: bool = _option(
        False, "auth_required", "yes|no", "whether MAIL gets 530 before a login; needs auth=",
        values.yes_or_no, values.check_bool,
    )
    replies: Iterable[Reply] = _option(
        (), "reply", "VERB[ GLOB][ xN]: CODE TEXT",
        "what to answer a command; may be repeated, and the first that matches is said",
        Reply.parse, values.check_replies, is_repeatable=True,
    )
    delay: float = _option(
        0.0, "delay", "SECONDS", "how long to wait before each reply to a message",
        partial(values.number, float), values.check_delay,
    )
    rset: str | None = _option(
        None, "rset", "clear", "an RSET outside a transaction empties the store",
        str, partial(values.one_choice, choice="clear"),
    )
    max_line: int | None = _option(
        None, "max_line", "OCTETS", "the longest line let in, with its end; without it 1001",
        partial(values.number, int), values.check_max_line,
    )
    keep: int | str | None = _option(
        None, "keep", "N|Nd",
        "how many messages a folder keeps, or for how many days; the oldest are removed",
        values.number_or_days, values.check_keep,
    )
    web: str | None = _option(
        None, "web", "[HOST:]PORT", "where the command shows the store as a page and over HTTP",
        str, values.check_web,
    )
    log: str = _option(
        "auto", "log", "auto|yes|no",
        "whether the command writes a line for each message; auto: to a terminal",
        str, values.check_log,
    )
    loop: str | None = _option(
        None, "loop", "uvloop", "the library of the command's event loop",
        str, values.check_loop,
    )
    # fmt: on

    def __post_init__(self) -> None:
        for keyword, option in OPTIONS.values():
            object.__setattr__(self, keyword, option.check(keyword, getattr(self, keyword)))
        if self.auth_required and self.auth is None:
            raise ValueError("auth_required=yes needs auth=any or auth=USER:PASSWORD")


OPTIONS: dict[str, tuple[str, Option]] = {
    option.name: (field.name, option)
    for field in fields(Options)
    for option in [field.metadata["option"]]
}
"""The keyword in Python and the rest, by the name on the command line."""

HANDLERS = {
    "MailFile": ("PATH", "one file with the latest message"),
    "MaildirSink": ("DIR", "a Maildir, as mail programs read it"),
    "MboxSink": ("PATH", "one mbox file"),
    "JsonLines": ("PATH", "one JSON object a line, in a file or, with -, on standard output"),
    "PerRecipientDir": ("DIR", "a folder for each recipient"),
}
"""The names of the handlers: what to type behind each, and what it keeps."""
