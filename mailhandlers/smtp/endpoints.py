"""Where a server listens, and a client is: ``HOST:PORT`` as text.

For all who read or show one; the page and the shell need no server for it.
"""

from __future__ import annotations

import ipaddress
import re

_ENDPOINT = re.compile(r"(?:(?P<host>\[[^\[\]]+\]|[^:\[\]]*):)?(?P<port>[0-9]{1,5})")
_LAST_PORT = 65535


def shown(name: object) -> str:
    """Return a socket's name as text, such as ``[::1]:8025``; a Unix socket's is its path."""
    if isinstance(name, tuple) and len(name) >= 2:
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(name or "")


def parsed(text: str) -> tuple[str, int]:
    """Return host and port of ``[HOST:]PORT``; raises ValueError. No host is localhost."""
    match = _ENDPOINT.fullmatch(text)
    host = ((match and match["host"]) or "localhost").strip("[]")
    if match is None or int(match["port"]) > _LAST_PORT or not _may_be_host(host):
        raise ValueError(f"{text!r} is no address: write HOST:PORT, or PORT alone")
    return host, int(match["port"])


def _may_be_host(name: str) -> bool:
    """Tell whether a socket takes *name*: for ``a..b`` it raises an error of codecs."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


def is_loopback(name: object) -> bool:
    """Tell whether a socket's name is one that this computer alone can reach."""
    if not isinstance(name, tuple):  # a Unix socket
        return True
    address = ipaddress.ip_address(str(name[0]).partition("%")[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
