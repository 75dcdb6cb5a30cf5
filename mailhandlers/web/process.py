"""The page beside the stock command: a process of its own, which ends with the server.

The command starts it while Python's files can be read: the server may become ``nobody``, who
may be unable to. It opens its port and imports all it needs, takes the server's rights before
the mail port opens, and ends when its standard input does, which is when the server is gone.

Each tells the other a line of JSON: the page its address, or the error for which it ends; then
the server its rights; then the page an empty object when it has taken them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from io import FileIO
from typing import IO, Any

from ..disk import system

_MISSING = "web= needs more packages: pip install 'mailhandlers[web]'"
# With "-m", Python would import from the working folder, in which others may write.
_START = """
import sys
sys.path[:] = sys.argv[3:]
from mailhandlers.web.process import main
main(*sys.argv[1:3])
"""


class PageProcess:
    """The process that shows the store at *path* on ``[HOST:]PORT``."""

    def __init__(self, path: str, listen: str) -> None:
        """Start it, and wait until its port is open. Raises ValueError in one sentence."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, path, listen, *sys.path],
            bufsize=0,
            stdin=subprocess.PIPE,  # never closed: it ends when this process does
            stdout=subprocess.PIPE,
            **system.APART,  # Ctrl-C is the server's, which has mail to answer
        )
        told = self._hear() or {"error": f"web={listen}: the process of the page has failed"}
        if "error" in told:
            self._process.communicate()
            raise ValueError(told["error"])
        self.address: str = told["address"]
        """What to open in a browser."""

    def take_rights(self) -> None:
        """Have it take the rights of this process, which ends if it can't."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended; then nothing is heard, either
            _tell(self._process.stdin, system.rights())
        if self._hear() is None:
            sys.exit("aiosmtpd: web=: the process of the page has failed")

    def _hear(self) -> dict[str, str] | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        told: dict[str, str] | None = json.loads(line) if line else None
        return told


def main(path: str, listen: str) -> None:
    """Be that process."""
    try:
        from .server import Site

        site = Site(path, listen)
    except ModuleNotFoundError:
        return _tell(sys.stdout.buffer, {"error": _MISSING})
    except ValueError as error:
        return _tell(sys.stdout.buffer, {"error": str(error)})
    except OSError as error:
        reason = f"web={listen}: {error.strerror}: take another port"
        return _tell(sys.stdout.buffer, {"error": reason})
    _tell(sys.stdout.buffer, {"address": site.address})
    # Without its buffer, whose lock Python would wait for in vain when it ends.
    server = FileIO(sys.stdin.fileno(), closefd=False)
    rights = server.readline()
    if not rights:
        return None
    system.take_rights(json.loads(rights))
    _tell(sys.stdout.buffer, {})

    def end_with_server() -> None:
        server.read(1)  # nothing more is ever written
        site.server.handle_exit(signal.SIGTERM, None)

    threading.Thread(target=end_with_server, daemon=True).start()
    site.run()
    return None


def _tell(pipe: IO[bytes], told: dict[str, Any]) -> None:
    pipe.write(json.dumps(told).encode() + b"\n")
    pipe.flush()
