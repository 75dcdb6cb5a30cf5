"""A message as one HTML page: what the person sees who gets it.

Mail is hostile. What isn't allowed by name below is left out, the rest is written anew from
its tokens, and a Content-Security-Policy tells the browser the same once more.
"""

from __future__ import annotations

import base64
import html
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .css import harmless
from .html_tokens import End, Raw, Text, tokens
from .plain_text import urls_in

if TYPE_CHECKING:
    from .attachments import Attachment
    from .readable import Readable

_TAGS, _EMPTY, _ATTRIBUTES = (
    frozenset(re.findall(r"\w+", words))
    for words in (
        "a abbr acronym address area article aside b bdi bdo big blockquote br caption center "
        "cite code col colgroup dd del details dfn dir div dl dt em figcaption figure font "
        "footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main map mark menu nav ol p pre q "
        "rp rt ruby s samp section small span strike strong sub summary sup table tbody td "
        "tfoot th thead time tr tt u ul var wbr",
        "area br col hr img wbr",
        "abbr align alt bgcolor border cellpadding cellspacing class clear color colspan "
        "coords datetime dir face headers height hidden hspace id lang name noshade nowrap "
        "reversed role rowspan rules scope shape size span start summary title type usemap "
        "valign value vspace width",
    )
)
_LINK = re.compile(r"(?:https?|mailto|tel|sms|ftp):", re.IGNORECASE)
_REMOTE = re.compile(r"https?://[^\s\"'()<>\\]+", re.IGNORECASE)
_DATA = re.compile(r"data:image/[\w.+-]+(?:;base64)?,[\w+/=%.~-]*", re.IGNORECASE)
_IMAGE = re.compile(r"image/[\w.+-]+")
_NEW_TAB = {"target": "_blank", "rel": "noopener noreferrer"}
_MANY = 1 << 20

_HEAD = """<!DOCTYPE html>
<html{root}>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{styles}</head>
"""
_PLAIN = (
    '<div style="font: 14px/1.5 sans-serif; white-space: pre-wrap; overflow-wrap: anywhere">'
)


def page(message: Readable, remote: bool) -> str:
    """Return the page; with *remote* its images may come from the web."""
    images = _Images(message, remote)
    body = _Body(images)
    if message.html:
        body.add(message.html)
    else:
        body.add_plain(message.text)
    sources = "data: https: http:" if remote else "data:"
    head = _HEAD.format(
        root=_attributes(body.root),
        policy=f"default-src 'none'; img-src {sources}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'",
        title=html.escape(str(message["Subject"] or "")),
        styles="".join(f"<style>{style}</style>\n" for style in body.styles),
    )
    return f"{head}<body{_attributes(body.body)}>\n{''.join(body.out)}\n</body>\n</html>\n"


class _Images:
    """What may stand for the address of an image: itself, its octets, or nothing."""

    def __init__(self, message: Readable, remote: bool) -> None:
        self._remote = remote
        self._embedded: dict[str, Attachment] = {}
        for attachment in message.attachments:
            if _IMAGE.fullmatch(attachment.content_type):
                for name in (attachment.content_id, attachment.content_location):
                    if name:
                        self._embedded.setdefault(name, attachment)
        # One image may be shown often, but a page of gigabytes is nobody's mail.
        self._left = 4 * len(message.original_content) + _MANY

    def __call__(self, address: str) -> str:
        """Return what to write for *address*, or ""."""
        name = address[4:] if address[:4].lower() == "cid:" else address
        image = self._embedded.get(name) or self._embedded.get(unquote(name))
        if image is not None:
            data = base64.b64encode(image.content).decode()
            self._left -= len(data)
            return f"data:{image.content_type};base64,{data}" if self._left >= 0 else ""
        allowed = _DATA.fullmatch(address) or (self._remote and _REMOTE.fullmatch(address))
        return address if allowed else ""


class _Body:
    """The page so far."""

    def __init__(self, images: _Images) -> None:
        self.out: list[str] = []
        self.styles: list[str] = []
        self.root: dict[str, str] = {}
        self.body: dict[str, str] = {}
        self._images = images

    def add_plain(self, text: str) -> None:
        """Add plain text, its links to click at."""
        self.out.append(_PLAIN)
        end = 0
        for start, url in urls_in(text):
            self.out.append(html.escape(text[end:start]))
            end = start + len(url)
            attributes = self._allowed("a", {"href": url})
            self.out.append(f"<a{_attributes(attributes)}>{html.escape(url)}</a>")
        self.out += [html.escape(text[end:]), "</div>"]

    def add(self, source: str) -> None:
        """Add a page's content, and to the head its style sheets."""
        is_open = dict.fromkeys(_TAGS, 0)
        for token in tokens(source):
            if isinstance(token, Text):
                self.out.append(html.escape(token.text, quote=False))
            elif isinstance(token, Raw):
                if token.tag == "style":
                    self.styles.append(harmless(token.text, self._images))
            elif isinstance(token, End):
                if is_open.get(token.tag, 0) and token.tag not in _EMPTY:
                    is_open[token.tag] -= 1
                    self.out.append(f"</{token.tag}>")
            elif token.tag in _TAGS:
                is_open[token.tag] += 1
                allowed = self._allowed(token.tag, token.attributes)
                self.out.append(f"<{token.tag}{_attributes(allowed)}>")
            elif token.tag == "html":
                self.root = self._allowed("html", token.attributes) | self.root
            elif token.tag == "body":
                self.body = self._allowed("body", token.attributes) | self.body

    def _allowed(self, tag: str, attributes: dict[str, str]) -> dict[str, str]:
        allowed = {}
        for name, value in attributes.items():
            if name in _ATTRIBUTES or name.startswith("aria-"):
                allowed[name] = value
            elif name == "style":
                allowed[name] = harmless(value, self._images)
            elif name in ("src", "background") and (image := self._images(value.strip())):
                if name == "background" or tag == "img":
                    allowed[name] = image
            elif name == "href" and tag in ("a", "area"):
                address = re.sub(r"[\t\r\n]", "", value).strip()
                if address.startswith("#"):
                    allowed[name] = address
                elif _LINK.match(address):
                    allowed |= {"href": address, **_NEW_TAB}
        return allowed


def _attributes(attributes: dict[str, str]) -> str:
    return "".join(f' {name}="{html.escape(value)}"' for name, value in attributes.items())
