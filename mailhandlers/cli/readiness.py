"""``mailhandlers ready``: wait until a mail server answers."""

from __future__ import annotations

import re
import select
import socket
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence

from ..message.visible import visible_line
from ..smtp import endpoints
from . import arguments
from .commands import parser_of
from .processes import Process
from .terminal import complain

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
    server = Process(options.pid) if options.pid else None
    deadline = time.monotonic() + options.timeout
    host, port = options.address
    while True:
        problem = _problem(host, port, max(_PAUSE, deadline - time.monotonic()), server)
        if server is not None and not problem:
            problem = _rivalry(server, port)
        # Asked last: a server that is dead by now is not the one that greeted.
        if server is not None and server.has_ended():
            complain(f"mailhandlers: process {server.pid} has ended{_because(problem)}")
            return 1
        if not problem:
            return 0
        if time.monotonic() >= deadline:
            complain(f"mailhandlers: {problem} (waited {options.timeout:g} s)")
            return 1
        if server is None:
            time.sleep(_PAUSE)
        else:
            server.has_ended(_PAUSE)


def _because(problem: str) -> str:
    return f"; {problem}" if problem else ""


def _rivalry(server: Process, port: int) -> str:
    """Return that another server has the port, or nothing.

    One that an earlier run left would make this one look ready, until it finds its port
    taken and ends.
    """
    rival = server.rival(port)
    return "" if rival is None else f"it is process {rival} that listens at port {port}"


def _problem(host: str, port: int, timeout: float, server: Process | None) -> str:
    """Return in a sentence what is wrong with the server, or nothing."""
    place = endpoints.shown((host, port))
    try:
        with socket.create_connection((host, port), timeout) as connection:
            _wait_for_octets(connection, timeout, server)
            greeting = connection.makefile("rb").readline(_LONGEST_LINE)
            if re.match(rb"220[ -]", greeting):
                connection.sendall(b"QUIT\r\n")
                return ""
    except socket.gaierror:
        return f"nobody here knows an address of {host!r}"
    except ConnectionRefusedError:
        return f"no server listens at {place}"
    except TimeoutError:
        return f"the server at {place} sends no greeting"
    except OSError as error:
        return f"the server at {place} can't be reached: {error.strerror or error}"
    said = visible_line(greeting.decode("ascii", "backslashreplace"))
    if not said:
        return f"the server at {place} hangs up without a greeting"
    return f"the server at {place} says {said!r}: a mail server would begin with 220"


def _wait_for_octets(connection: socket.socket, timeout: float, server: Process | None) -> None:
    """Wait until something is said; raises TimeoutError, also when *server* ends.

    Whoever has the port may be another program, which says nothing.
    """
    deadline = time.monotonic() + timeout
    while not select.select([connection], [], [], _PAUSE)[0]:
        if time.monotonic() >= deadline or (server is not None and server.has_ended()):
            raise TimeoutError


def _address(text: str) -> tuple[str, int]:
    try:
        host, port = endpoints.parsed(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    if not port:
        raise ArgumentTypeError(f"{text!r} is no address: port 0 is nobody's")
    return host, port


def _pid(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text!r} is no number of a process")
    return int(text)
