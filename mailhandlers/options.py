"""The options of a handler, in one table: for the command line, for Python and for help.

Each field of :class:`Options` is an option, with all that is known of it: to add one, add a
field. argparse leaves a handler of aiosmtpd nothing but positional arguments, so that the
command line has a path, then options as ``key=value``.
"""

from __future__ import annotations

import inspect
import os
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from importlib.util import find_spec
from io import BufferedReader, TextIOWrapper
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from .inbox.waiting import checked_seconds
from .smtp.replies import Reply
from .stores.keep import Keep
from .web.settings import WebSettings

HANDLERS = {
    "MailFile": ("PATH", "one file with the latest message"),
    "MaildirSink": ("DIR", "a Maildir, as mail programs read it"),
    "MboxSink": ("PATH", "one mbox file"),
    "JsonLines": ("PATH", "one JSON object a line, in a file or, with -, on standard output"),
    "PerRecipientDir": ("DIR", "a folder for each recipient"),
    "BucketSink": ("s3://BUCKET/PREFIX", "a bucket that machines share; also gs:// and az://"),
}
"""The names of the handlers: what to type behind each, and what it keeps."""
_USAGE = "PATH [key=value ...]"
_P = ParamSpec("_P")
_T = TypeVar("_T")


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


# How text is read: raises ValueError, whose message follows the option's name. How a keyword is
# checked: returns the value to use, or raises TypeError or ValueError in one sentence that says
# what to do. A bool is an int to Python, and here a mistake.

_SHORTEST_LINE = 1001  # RFC 5321 section 4.5.3.1.6, and the dot that is doubled


def _yes_or_no(text: str) -> bool:
    """Read ``yes`` or ``no``."""
    try:
        return {"yes": True, "no": False}[text]
    except KeyError:
        raise ValueError("is yes or no") from None


def _octal(text: str) -> int:
    """Read an octal number."""
    try:
        return int(text, 8)
    except ValueError:
        raise ValueError("is octal, such as 0600 or 0644") from None


def _number(read: Callable[[str], float], text: str) -> float:
    """Read a number with *read*, which is int or float."""
    try:
        return read(text)
    except ValueError:
        raise ValueError("is a number") from None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_bool(keyword: str, value: Any) -> bool:
    """Check what is on or off."""
    if not isinstance(value, bool):
        raise TypeError(f"{keyword} is True or False, not {value!r}")
    return value


def _check_mode(keyword: str, value: Any) -> int:
    """Check the permissions of files."""
    if not _is_int(value):
        raise TypeError(f"{keyword} is a number such as 0o600, not {value!r}")
    mode: int = value
    if mode & 0o600 != 0o600 or mode > 0o777:
        raise ValueError(
            f"{keyword}={mode:04o} must let the owner read and write: try {keyword}=0600"
        )
    return mode


def _check_auth(keyword: str, value: Any) -> str | None:
    """Check who may log in; a file or a variable is read."""
    return value if value is None else _read_users(value)


def _check_replies(keyword: str, value: Any) -> tuple[Reply, ...]:
    """Check scripted replies."""
    example = f'{keyword}=[Reply("RCPT", "550 5.1.1 No such user")]'
    if isinstance(value, (str, Reply)) or not isinstance(value, Iterable):
        raise TypeError(f"{keyword} is a list of Reply, not {value!r}: try {example}")
    replies = tuple(value)
    for reply in replies:
        if not isinstance(reply, Reply):
            raise TypeError(f"{keyword} has {reply!r}, which is no Reply: try {example}")
    return replies


def _check_max_line(keyword: str, value: Any) -> int | None:
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


def _check_web(keyword: str, value: Any) -> str | None:
    """Check an address to listen at; ``None`` is no page."""
    if not (value is None or isinstance(value, str)):
        raise TypeError(f"{keyword} is an address such as '8026', not {value!r}")
    return value if value is None else _web(keyword, listen=value).listen


def _check_web_path(keyword: str, value: Any) -> str:
    """Check the path below which a proxy shows the page."""
    if not isinstance(value, str):
        raise TypeError(f"{keyword} is a text such as '/mail', not {value!r}")
    return _web(keyword, path=value).path


def _check_web_host_names(keyword: str, value: Any) -> tuple[str, ...]:
    """Check the names that a proxy is asked by."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{keyword} is a list such as ['mail.example.com'], not {value!r}")
    names = tuple(value)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{keyword} has {name!r}, which is no text")
    return _web(keyword, host_names=names).host_names


def _check_web_token(keyword: str, value: Any) -> str | None:
    """Check the token of the page; a file or a variable is read."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{keyword} is '@FILE' or '$NAME', not a {type(value).__name__}")
    return read_token(keyword, value)


def read_token(name: str, text: str) -> str:
    """Return the token that the file ``@FILE`` or the variable ``$NAME`` in *text* holds.

    Raises ValueError, which says that it is about *name*.
    """
    if not text.startswith(("@", "$")):
        raise ValueError(
            f"{name} is @FILE or $NAME, which hold the token: others see a command's arguments"
        )
    token = _web(name, token=read_secret(name, text, "the token")).token
    assert token is not None
    return token


def _web(keyword: str, **settings: Any) -> WebSettings:
    try:
        return WebSettings(**settings)
    except ValueError as error:
        raise ValueError(f"{keyword}: {error}") from None


def _check_log(keyword: str, value: Any) -> str:
    """Check when lines are written."""
    if value not in ("auto", "yes", "no"):
        raise ValueError(f"{keyword}={value} is unknown: choose auto, yes or no")
    return str(value)


def _check_loop(keyword: str, value: Any) -> str | None:
    """Check which event loop runs, and that it is there."""
    loop = _one_choice(keyword, value, "uvloop")
    if loop is not None and not find_spec(loop):
        raise ValueError(
            "loop=uvloop needs uvloop, which there is not for Windows: "
            "pip install 'mailhandlers[uvloop]'"
        )
    return loop


def _one_choice(keyword: str, value: Any, choice: str) -> str | None:
    """Check an option that has one value, or is left out."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{keyword} is {choice!r} or None, not {value!r}")
    if value not in (None, choice):
        raise ValueError(f"{keyword}={value} is unknown: {keyword}={choice} is the one choice")
    return value


def _number_or_days(text: str) -> int | str:
    """Read a number, or leave a text such as ``7d`` to :func:`_check_keep`."""
    return int(text) if text.isascii() and text.isdecimal() else text


def _check_keep(keyword: str, value: Any) -> Keep | None:
    """Check how many messages are kept, or for how many days."""
    if value is None:
        return None
    example = f"{keyword}=1000 for so many messages, or {keyword}=7d for so many days"
    if not (_is_int(value) or isinstance(value, str)):
        raise TypeError(f"{keyword} is a number or a text, not {value!r}: try {example}")
    try:
        return Keep.of(value)
    except ValueError:
        raise ValueError(
            f"{keyword}={value} is no number of messages or days: try {example}"
        ) from None


_AUTH = (
    "any, user:password, @FILE (a file whose first line is user:password) "
    "or $NAME (a variable that holds user:password)"
)


def _read_users(text: object) -> str:
    """Return ``any`` or ``user:password``: *text*, or what :func:`read_secret` reads for it.

    Raises TypeError or ValueError.
    """
    if not isinstance(text, str):
        raise TypeError(f"auth is {_AUTH}; it is a string, not a {type(text).__name__}")
    users = text if text == "any" else read_secret("auth", text, "user:password")
    user, colon, _ = users.partition(":")
    if not (user and colon) and text != "any":
        raise ValueError(f"auth is {_AUTH}")
    return users


def read_secret(name: str, text: str, what: str) -> str:
    """Return *text*, or what the file or the variable that it names holds, which is *what*.

    ``@FILE`` is a file whose first line counts, ``$NAME`` an environment variable: other
    users of the machine see a command's arguments. Raises ValueError, which says that it is
    about *name*.
    """
    # What was typed isn't repeated: with a user called "@eva" it would be a password.
    if text.startswith("$"):
        if text[1:] not in os.environ:
            raise ValueError(
                f"the variable of {name}=$NAME is not in the environment: export it as {what}"
            )
        return os.environ[text[1:]]
    if not text.startswith("@"):
        return text
    try:
        with open(text[1:], "rb") as file:
            line = _text(file).readline()
    except UnicodeDecodeError:
        raise ValueError(f"the file of {name}=@FILE is not in UTF-8: save it so") from None
    except (OSError, ValueError) as error:  # ValueError for a NUL in the name
        cause = getattr(error, "strerror", None) or "this is no name of a file"
        raise ValueError(
            f"the file of {name}=@FILE can't be read ({cause}): "
            f"name one whose first line is {what}"
        ) from None
    return line.rstrip("\n")


def _text(file: BufferedReader) -> TextIOWrapper:
    """Return the text in *file*: editors and the PowerShell of Windows mark what it is in."""
    mark = file.peek(3)[:3]
    if mark == BOM_UTF8:
        return TextIOWrapper(file, "utf-8-sig")
    if mark[:2] in (BOM_UTF16_LE, BOM_UTF16_BE):
        return TextIOWrapper(file, "utf-16")
    return TextIOWrapper(file, sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a handler is told beside its path; checked when made, and never changed.

    Raises TypeError or ValueError in one sentence that says what to do.
    """

    # fmt: off
    sync: bool = _option(
        True, "sync", "yes|no", "whether a reply waits until the disk has the message",
        _yes_or_no, _check_bool,
    )
    mode: int = _option(
        0o600, "mode", "OCTAL",
        "permissions of files; whoever may read a folder may also open what is in it",
        _octal, _check_mode,
    )
    auth: str | None = _option(
        None, "auth", "any|USER:PASSWORD|@FILE|$NAME",
        "offer AUTH: any lets everybody in; a file or a variable holds USER:PASSWORD",
        str, _check_auth, is_secret=True,
    )
    auth_required: bool = _option(
        False, "auth_required", "yes|no", "whether MAIL gets 530 before a login; needs auth=",
        _yes_or_no, _check_bool,
    )
    auth_tls: bool = _option(
        False, "auth_tls", "yes|no", "whether AUTH gets 538 before TLS; needs auth=",
        _yes_or_no, _check_bool,
    )
    replies: Iterable[Reply] = _option(
        (), "reply", "VERB[ GLOB][ xN|xN+][ delay=SECONDS]: CODE TEXT|hang-up",
        "what to answer a command; may be repeated, and the first that matches is said",
        Reply.parse, _check_replies, is_repeatable=True,
    )
    delay: float = _option(
        0.0, "delay", "SECONDS", "how long to wait before each reply to a message",
        partial(_number, float), checked_seconds,
    )
    strict: bool = _option(
        False, "strict", "yes|no", "whether an address gets 553 that is none by RFC 5321",
        _yes_or_no, _check_bool,
    )
    rset: str | None = _option(
        None, "rset", "clear", "an RSET outside a transaction empties the store",
        str, partial(_one_choice, choice="clear"),
    )
    max_line: int | None = _option(
        None, "max_line", "OCTETS", "the longest line let in, with its end; without it 1001",
        partial(_number, int), _check_max_line,
    )
    keep: int | str | None = _option(
        None, "keep", "N|Nd",
        "how many messages a folder keeps, or for how many days; the oldest are removed",
        _number_or_days, _check_keep,
    )
    web: str | None = _option(
        None, "web", "[HOST:]PORT", "where the command shows the store as a page and over HTTP",
        str, _check_web,
    )
    web_path: str = _option(
        "", "web_path", "PATH", "the path below which a proxy shows the page, such as /mail",
        str, _check_web_path,
    )
    web_host_names: Iterable[str] = _option(
        (), "web_host_name", "NAME",
        "a name by which a proxy is asked for the page; may be repeated",
        str, _check_web_host_names, is_repeatable=True,
    )
    web_token: str | None = _option(
        None, "web_token", "@FILE|$NAME",
        "what all who ask for the page must know; a file or a variable holds it",
        str, _check_web_token, is_secret=True,
    )
    log: str = _option(
        "auto", "log", "auto|yes|no",
        "whether the command writes a line for each message; auto: to a terminal",
        str, _check_log,
    )
    loop: str | None = _option(
        None, "loop", "uvloop", "the library of the command's event loop",
        str, _check_loop,
    )
    # fmt: on

    def fill(self, kind: Callable[..., _T]) -> _T:
        """Return a *kind*, a dataclass whose fields are named as some of these."""
        names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
        return kind(**{name: getattr(self, name) for name in names})

    @property
    def page(self) -> WebSettings | None:
        """Where the page is, and who may ask it; None without one."""
        if self.web is None:
            return None
        return WebSettings(self.web, self.web_path, tuple(self.web_host_names), self.web_token)

    def __post_init__(self) -> None:
        for keyword, option in OPTIONS.values():
            object.__setattr__(self, keyword, option.check(keyword, getattr(self, keyword)))
        for keyword in ("auth_required", "auth_tls"):
            if getattr(self, keyword) and self.auth is None:
                raise ValueError(f"{keyword}=yes needs auth=any or auth=USER:PASSWORD")
        for name in ("web_path", "web_host_name", "web_token"):
            if getattr(self, OPTIONS[name][0]) and self.web is None:
                raise ValueError(f"{name}= needs web=PORT")


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
    "BucketSink": ("s3://BUCKET/PREFIX", "a bucket that machines share; also gs:// and az://"),
}
"""The names of the handlers: what to type behind each, and what it keeps."""
