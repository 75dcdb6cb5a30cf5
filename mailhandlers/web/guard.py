"""What stands before the application: who may ask, and for how long somebody is answered.

A page on another site can make the user's browser send requests here, and with DNS
rebinding read the answers. So the Host header must name this computer, or the token must
be known; and what a browser says comes from another site is refused.

Behind a proxy the address may have a path before ours, which the proxy takes away or leaves:
both are answered.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlencode

from anyio import CancelScope, sleep
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .responses import Problem

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?", re.IGNORECASE)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_WEEK = 7 * 24 * 3600

HEALTH = "/api/health"
"""For the probes of a container's host: they name it by its address, and know no token."""

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # With no-referrer a form of ours would say that its origin is null.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-DNS-Prefetch-Control": "off",
}


class Guard:
    """ASGI middleware that refuses what is not allowed, and sets the headers of all answers."""

    def __init__(
        self, app: ASGIApp, token: str | None, path: str = "", host_names: Sequence[str] = ()
    ) -> None:
        """Guard *app*, which is also below *path*, and is called by *host_names*, too."""
        self._app = app
        self._token = token
        self._path = path
        self._host_names = host_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if self._path and scope["path"].startswith(f"{self._path}/"):
            scope = {**scope, "path": scope["path"][len(self._path) :]}
        answer = self._refusal(scope)
        if answer is None and self._path and scope["path"] == self._path:
            answer = RedirectResponse(_last_part(scope) + "/", 303)  # what addresses rest on
        await (answer or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        is_probe = scope["path"] == HEALTH
        if self._token is None and not self._is_ours(host) and not is_probe:
            return Problem(
                421,
                f"this is no name of this computer: {host!r}; ask for localhost, or have "
                "--host-name (web_host_name=) name it",
            )
        if _is_from_elsewhere(scope, host, headers):
            return Problem(403, "pages of other sites, and mail, may not ask here")
        return self._stranger(scope, headers) if self._token and not is_probe else None

    def _is_ours(self, host: str) -> bool:
        return _is_this_computer(host) or _name_of(host) in self._host_names

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to one who doesn't know the token, or shows it in the address."""
        cookie = f"mailhandlers-{(scope.get('server') or ['', 0])[1]}"
        given = headers.get("authorization", "").partition(" ")
        if given[0].lower() == "bearer" and self._knows(given[2].strip()):
            return None
        if given[0].lower() == "basic" and self._knows(_password(given[2].strip())):
            return None
        if any(map(self._knows, _cookies(headers, cookie))):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not self._knows(dict(query).get("token", "")):
            refusal = Problem(
                401,
                "a token is needed: open the address that 'mailhandlers web' printed, send it "
                "as 'Authorization: Bearer TOKEN', or log in with any name and the token as "
                "the password",
            )
            # Each on a line of its own: browsers know no list of them.
            refusal.headers.append("WWW-Authenticate", 'Basic realm="mailhandlers"')
            refusal.headers.append("WWW-Authenticate", "Bearer")
            return refusal
        if scope["path"].startswith("/api/") or scope["method"] != "GET":
            return None
        # Out of the address, where it would be seen and kept.
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = _last_part(scope)
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        answer.set_cookie(
            cookie,
            self._token or "",
            max_age=_WEEK,
            path=self._path or "/",
            httponly=True,
            samesite="lax",
        )
        return answer

    def _knows(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())


class CancelOnDisconnect:
    """ASGI middleware: work ends when its client leaves, and HEAD is GET without a body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as long as somebody wants the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = asyncio.Event()
        is_head = scope["method"] == "HEAD"

        async def cancel_when_left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass  # nothing here reads a body
            left.set()
            work.cancel()

        async def receive_nothing() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                return
            await send({"type": "http.response.body"})
            work.cancel()  # it may have no end
            await sleep(0)

        watching = asyncio.create_task(cancel_when_left())
        try:
            with CancelScope() as work:
                if is_head:
                    await self._app({**scope, "method": "GET"}, receive_nothing, send_head)
                else:
                    await self._app(scope, receive_nothing, send)
        finally:
            watching.cancel()


def _name_of(host: str) -> str:
    """Return the name in a Host header, without the port; empty where there is none."""
    match = _HOST.fullmatch(host)
    return match["name"].lower() if match else ""


def _last_part(scope: Scope) -> str:
    """Return the address of a request as seen from itself, whatever a proxy has before it."""
    # "./": what stands there may look like a scheme, or like a host.
    path: bytes = scope["raw_path"]
    return "./" + path.rpartition(b"/")[2].decode("ascii")


def _password(given: str) -> str:
    """Return the password of HTTP's basic login (RFC 7617)."""
    try:
        return b64decode(given, validate=True).partition(b":")[2].decode()
    except ValueError:  # UnicodeDecodeError and binascii.Error are such
        return ""


def _is_this_computer(host: str) -> bool:
    name = _name_of(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_from_elsewhere(scope: Scope, host: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a browser says so; a link there may be followed to a page for people.

    The frame that shows a mail is another site, too.
    """
    is_change = scope["method"] not in _SAFE_METHODS
    is_api = scope["path"].startswith("/api/")
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_page = headers.get("sec-fetch-dest") == "document"
        if site == "same-origin":
            # Our pages show links of a mail as well: those send no Referer, and ours do.
            return is_api and is_page and "referer" not in headers
        follows_link = is_page and headers.get("sec-fetch-mode") == "navigate" and not is_api
        return site != "none" and (is_change or not follows_link)
    origin = headers.get("origin")
    # A proxy may speak TLS for us.
    return is_change and origin not in (None, f"http://{host}", f"https://{host}")


def _cookies(headers: Headers, name: str) -> list[str]:
    """Return the cookies of that name, among those of all servers of this host.

    :class:`http.cookies.SimpleCookie` finds none behind one that it doesn't understand.
    """
    pairs = [pair.partition("=") for pair in ";".join(headers.getlist("cookie")).split(";")]
    return [value.strip() for key, _, value in pairs if key.strip() == name]
