"""A message as one HTML page: what the person sees who gets it.

Mail is hostile. The page's Content-Security-Policy keeps the browser from running scripts and
from loading anything: style sheets and the addresses of images stay as they came. What a
policy says nothing about is left out here, where the page is written anew from its tokens.
"""

from __future__ import annotations

import base64
import html
import re
from urllib.parse import unquote

from .attachments import Attachment
from .body import Body
from .html import End, Raw, Start, Text, tokens
from .text import urls_in

# Of what isn't named here the policy covers scripts, frames, plug-ins, forms, a base, and all
# that is loaded. It doesn't cover <meta> that leads to another page, sends a referrer or looks
# hosts up beforehand, <link> that looks one up or connects to it, and what makes a browser read
# all that follows otherwise (SVG, MathML, <plaintext>, <noscript>).
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
# "http:/path" and "http:path" lead to the host that shows the page: such a link leads nowhere.
_LINK = re.compile(r"(?:(?:https?|ftp)://|(?:mailto|tel|sms):)", re.IGNORECASE)
_NEW_TAB = {"target": "_blank", "rel": "noopener noreferrer"}
_CID = re.compile(r"cid:[^\s\"'()<>;]+", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_IMAGE = re.compile(r"image/[\w.+-]+")
_MANY = 1 << 20

_HEAD = """<!DOCTYPE html>
<html{root}>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta http-equiv="x-dns-prefetch-control" content="off">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
{styles}</head>
"""
_PLAIN = (
    '<div style="font: 14px/1.5 sans-serif; white-space: pre-wrap; overflow-wrap: anywhere">'
)


def policy(remote: bool) -> str:
    """Return the Content-Security-Policy of a page; with *remote* images come from the web."""
    images = "data: https: http:" if remote else "data:"
    return (
        f"default-src 'none'; img-src {images}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )


def page(subject: str, body: Body, octets: int, remote: bool) -> str:
    """Return the page of a message; with *remote* its images may come from the web.

    For each of the message's *octets* it has 13 characters at most, and 4 more, and 1 Mi, for
    embedded images: those that are shown again when that is used up are left out.
    """
    shown = _Shown(_Embedded(body.attachments, octets))
    for text in body.shown:
        shown.end_part()
        if text.is_html:
            shown.add(text.source)
        else:
            shown.add_plain(text.source)
    head = _HEAD.format(
        root=_attributes(shown.root),
        policy=policy(remote),
        title=html.escape(subject),
        styles="".join(f"<style>{style}</style>\n" for style in shown.styles),
    )
    return f"{head}<body{_attributes(shown.body)}>\n{''.join(shown.out)}\n</body>\n</html>\n"


class _Embedded:
    """The images that came with a message, as what stands for their addresses in its page."""

    def __init__(self, attachments: list[Attachment], octets: int) -> None:
        self._images: dict[str, Attachment] = {}
        for attachment in attachments:
            if _IMAGE.fullmatch(attachment.content_type):
                for name in (attachment.content_id, attachment.content_location):
                    if name:
                        self._images.setdefault(name, attachment)
        self._encoded: dict[Attachment, str] = {}
        # One image may be shown often, but a page of gigabytes is nobody's mail.
        self._left = 4 * octets + _MANY

    def address(self, address: str) -> str:
        """Return *address*, or the image that it names as data; "" where there is no room."""
        scheme = address[:5].lower()
        if scheme == "data:":  # folded like the lines around it
            return _SPACE.sub("", address)
        name = address[4:].strip() if scheme.startswith("cid:") else address
        image = self._images.get(name) or self._images.get(unquote(name))
        if image is None:
            return address
        self._left -= 4 * len(image.content) // 3 + len(image.content_type)
        if self._left < 0:
            return ""
        if image not in self._encoded:
            data = base64.b64encode(image.content).decode()
            self._encoded[image] = f"data:{image.content_type};base64,{data}"
        return self._encoded[image]

    def style(self, style: str) -> str:
        """Return the style sheet with the images that it names by ``cid:`` as data."""
        # Nothing in the place of an image would make an end tag of "</stylecid:a>".
        return _CID.sub(lambda match: self.address(match[0]) or "data:,", style)


class _Shown:
    """The page so far."""

    def __init__(self, embedded: _Embedded) -> None:
        self.out: list[str] = []
        self.styles: list[str] = []
        self.root: dict[str, str] = {}
        self.body: dict[str, str] = {}
        self._embedded = embedded
        self._unclosed: list[str] = []

    def end_part(self) -> None:
        """Close what a part left open, so that it neither hides nor dresses the next one."""
        self.out += [f"</{tag}>" for tag in self._unclosed]
        self._unclosed = []

    def add_plain(self, text: str) -> None:
        """Add plain text, its links to click at."""
        self.out.append(_PLAIN)
        end = 0
        for start, stop, url in urls_in(text):
            self.out.append(html.escape(text[end:start]))
            end = stop
            attributes = self._allowed("a", {"href": url})
            self.out.append(f"<a{_attributes(attributes)}>{html.escape(url)}</a>")
        self.out += [html.escape(text[end:]), "</div>"]

    def add(self, source: str) -> None:
        """Add a page's content, and to the head its style sheets."""
        is_open = dict.fromkeys(_TAGS, 0)
        opened = []
        for token in tokens(source):
            if isinstance(token, Text):
                self.out.append(html.escape(token.text, quote=False))
            elif isinstance(token, Raw):
                if token.tag == "style":
                    self.styles.append(self._embedded.style(token.text))
            elif isinstance(token, End):
                if is_open.get(token.tag, 0) and token.tag not in _EMPTY:
                    is_open[token.tag] -= 1
                    self.out.append(f"</{token.tag}>")
            elif token.tag in _TAGS:
                is_open[token.tag] += 1
                opened.append(token.tag)
                allowed = self._allowed(token.tag, token.attributes)
                self.out.append(f"<{token.tag}{_attributes(allowed)}>")
            elif token.tag == "html":
                self._add_to(self.root, token)
            elif token.tag == "body":
                self._add_to(self.body, token)
        for tag in reversed(opened):
            if is_open[tag] and tag not in _EMPTY:
                is_open[tag] -= 1
                self._unclosed.append(tag)

    def _add_to(self, attributes: dict[str, str], tag: Start) -> None:
        """Add what *tag* says of the page or its body: the first of a name counts."""
        for name, value in self._allowed(tag.tag, tag.attributes).items():
            attributes.setdefault(name, value)

    def _allowed(self, tag: str, attributes: dict[str, str]) -> dict[str, str]:
        allowed = {}
        for name, value in attributes.items():
            if name in _ATTRIBUTES or name.startswith("aria-"):
                allowed[name] = value
            elif name == "style":
                allowed[name] = self._embedded.style(value)
            elif name == "background" or (name == "src" and tag == "img"):
                if image := self._embedded.address(value.strip()):
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
