"""``mailhandlers ready``: wait until a mail server answers."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence

from . import arguments
from .commands import parser_of
from .terminal import complain, visible_line

_ADDRESS = re.compile(r"(?:(?P<host>[^:\[\]]*|\[[^\]]*\]):)?(?P<port>[0-9]{1,5})")
_PAUSE = 0.02
_LONGEST_LINE = 512  # RFC 5321 section 4.5.3.1.5


def run(argv: Sequence[str]) -> int:
    """Wait for the greeting of a server; return 1 where none comes."""
    parser = parser_of("ready")
    parser.add_argument(
        "address", metavar="[HOST:]PORT", type=_address, help="where the server listens"
    )
    arguments.add_timeout(parser, 10, "how long to wait (default: 10)")
    parser.add_argument(
        "--pid", type=_pid, help="the server's process: if it ends, so does the wait"
    )
    options = parser.parse_args(argv)
    server = _Process(options.pid) if options.pid else None
    deadline = time.monotonic() + options.timeout
    host, port = options.address
    while True:
        # In this order: a server that is dead by now is not the one that greets.
        problem = _problem(host, port, max(_PAUSE, deadline - time.monotonic()))
        if server is not None and server.has_ended(_PAUSE if problem else 0):
            complain(f"mailhandlers: process {options.pid} has ended, no server is ready")
            return 1
        if not problem:
            return 0
        if time.monotonic() >= deadline:
            complain(f"mailhandlers: {host}:{port} {problem}, in {options.timeout:g} s")
            return 1
        if server is None:
            time.sleep(_PAUSE)


def _problem(host: str, port: int, timeout: float) -> str:
    """Return what is wrong with the server, as the end of a sentence, or nothing."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            greeting = connection.makefile("rb").readline(_LONGEST_LINE)
            if re.match(rb"220[ -]", greeting):
                connection.sendall(b"QUIT\r\n")
                return ""
    except socket.gaierror:
        return "is no address that this machine knows"
    except ConnectionRefusedError:
        return "is open to nobody: no server listens there"
    except TimeoutError:
        return "sends no greeting"
    except OSError as error:
        return f"can't be reached ({error.strerror or error})"
    said = visible_line(greeting.decode("ascii", "backslashreplace"))
    if not said:
        return "hangs up without a greeting"
    return f"says {said!r}, which is no mail server's 220"


class _Process:
    """The process of the server, which may end before it is ready."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = None
        # Linux: true also of a process that its parent has not waited for yet.
        if hasattr(os, "pidfd_open") and self._is_there():
            self._ended = select.poll()
            self._ended.register(os.pidfd_open(pid), select.POLLIN)

    def has_ended(self, seconds: float) -> bool:
        """Tell whether the process ends within *seconds*."""
        if self._ended is not None:
            return bool(self._ended.poll(seconds * 1000))
        time.sleep(seconds)
        return not self._is_there()

    def _is_there(self) -> bool:
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            return True
        return True


def _address(text: str) -> tuple[str, int]:
    parts = _ADDRESS.fullmatch(text)
    if parts is None or not 0 < int(parts["port"]) < 1 << 16:
        raise ArgumentTypeError(f"{text!r} is no address such as localhost:8025")
    return (parts["host"] or "localhost").strip("[]"), int(parts["port"])


def _pid(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is no number of a process")
    return int(text)
