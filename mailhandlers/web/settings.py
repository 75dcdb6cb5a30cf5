"""Where the page is and who may ask it: checked the same for the command and for the shell."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..smtp import endpoints

_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?", re.ASCII)
_HOST_NAME = re.compile(
    r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?\.?|[0-9.]+|\[[0-9a-f:.]+\]", re.ASCII
)
_TOKEN = re.compile(r"[!-~]{8,200}", re.ASCII)


@dataclass(frozen=True)
class WebSettings:
    """What is known beside the store. Raises ValueError in one sentence, for the user."""

    listen: str = "localhost:8026"
    """Where to listen, as ``[HOST:]PORT``."""
    path: str = ""
    """The path below which a proxy shows the page, such as ``/mail``; empty for none."""
    host_names: tuple[str, ...] = ()
    """The names that a proxy is asked by."""
    token: str | None = None
    """What all who ask must know; None leaves it to the address that is listened at."""

    via: str = ""
    """The server, as ``HOST:PORT``, through which a message may be sent on; empty for none."""
    via_user: str | None = None
    """``USER:PASSWORD`` for that server."""
    via_tls: str = "starttls"
    """How the connection to it is encrypted."""
    redirect_to: tuple[str, ...] = ()
    """The addresses to which a message may be sent on."""

    def __post_init__(self) -> None:
        endpoints.parsed(self.listen)
        if not _PATH.fullmatch(self.path):
            raise ValueError(f"{self.path!r} is no path of an address, such as /mail")
        object.__setattr__(self, "path", self.path.rstrip("/"))
        names = tuple(name.lower() for name in self.host_names)  # a list, out of JSON
        object.__setattr__(self, "host_names", names)
        for name in names:
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a host, such as mail.example.com")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            # What it is isn't repeated.
            raise ValueError("a token has 8 to 200 letters, digits or signs, and no space")
