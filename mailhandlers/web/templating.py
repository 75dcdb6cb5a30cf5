"""The templates, and how what a client sent is shown in them."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from ..mail import local_time
from ..message.attachments import human_size
from ..message.text import urls_in
from ..message.visible import visible


def _shown(text: str) -> str:
    """Return *text* of one line, in which nothing acts."""
    return visible(text, keep="")


def linked(text: str) -> Markup:
    """Return *text* with its links to the web to click at."""
    pieces, end = [], 0
    for start, stop, url in urls_in(text):
        if url.lower().startswith(("http://", "https://")):
            pieces += [escape(visible(text[end:start])), link(url)]
            end = stop
    return Markup("").join([*pieces, escape(visible(text[end:]))])


def link(url: str) -> Markup:
    """Return *url* to click at, where that leads to the web or to a mail."""
    if not url.lower().startswith(("http://", "https://", "mailto:")):
        return escape(_shown(url))
    return Markup('<a href="{}" target="_blank" rel="noopener noreferrer">{}</a>').format(
        _shown(url), _shown(url)
    )


def short_time(moment: datetime) -> str:
    """Return day and time, or of another year the day, as this computer's clock has them."""
    moment = local_time(moment)
    is_of_this_year = moment.year == datetime.now().astimezone().year
    return moment.strftime("%d %b, %H:%M" if is_of_this_year else "%d %b %Y").lstrip("0")


def long_time(moment: datetime) -> str:
    """Return day and time, as this computer's clock has them."""
    return local_time(moment).strftime("%a %d %b %Y, %H:%M:%S %Z")


_environment = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_environment.filters.update(
    shown=_shown,
    shown_text=visible,
    linked=linked,
    link=link,
    human_size=human_size,
    short_time=short_time,
    long_time=long_time,
    shell=shlex.quote,
)


# Read at once: a server that became nobody may not read them later.
_TEMPLATES = {name: _environment.get_template(name) for name in _environment.list_templates()}


def answer(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return the page that *template* makes of *values*."""
    text = _TEMPLATES[template].render(values)
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), status)
