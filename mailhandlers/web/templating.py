"""The templates, and how what a client sent is shown in them."""

from __future__ import annotations

import shlex
import unicodedata
from datetime import datetime
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ..message.attachments import human_size
from ..message.text import urls_in

# Cf without effect on others: soft hyphen, zero width space and joiners, word joiner.
_HARMLESS = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")
_ACTING = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])


def shown(text: str, keep: str = "") -> str:
    r"""Return *text* with all shown as ``\u202e`` that would reorder or hide what is near."""
    if text.isprintable():
        return text
    return "".join(
        f"\\u{ord(char):04x}"
        if unicodedata.category(char) in _ACTING and char not in _HARMLESS and char not in keep
        else char
        for char in text
    )


def shown_text(text: str) -> str:
    """Return text of several lines likewise."""
    return shown(text, keep="\n\t")


def linked(text: str) -> Markup:
    """Return *text* with its links to the web to click at."""
    pieces, end = [], 0
    for start, stop, url in urls_in(text):
        if url.lower().startswith(("http://", "https://")):
            pieces += [escape(shown_text(text[end:start])), link(url)]
            end = stop
    return Markup("").join([*pieces, escape(shown_text(text[end:]))])


def link(url: str) -> Markup:
    """Return *url* to click at, where that leads to the web or to a mail."""
    if not url.lower().startswith(("http://", "https://", "mailto:")):
        return escape(shown(url))
    return Markup('<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>').format(
        shown(url), shown(url)
    )


def short_time(moment: datetime) -> str:
    """Return the time of today, else the day, as this computer's clock has it."""
    moment = moment.astimezone()
    today = datetime.now().astimezone()
    if moment.date() == today.date():
        return moment.strftime("%H:%M")
    return moment.strftime("%d %b" if moment.year == today.year else "%d %b %Y").lstrip("0")


def long_time(moment: datetime) -> str:
    """Return day and time, as this computer's clock has them."""
    return moment.astimezone().strftime("%a %d %b %Y, %H:%M:%S %Z")


_environment = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_environment.filters.update(
    shown=shown,
    shown_text=shown_text,
    linked=linked,
    link=link,
    human_size=human_size,
    short_time=short_time,
    long_time=long_time,
    shell=shlex.quote,
)


def load_all() -> None:
    """Read all templates now."""
    for name in _environment.list_templates():
        _environment.get_template(name)


def answer(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return the page that *template* makes of *values*."""
    text = _environment.get_template(template).render(values)
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)
