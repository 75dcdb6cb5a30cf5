"""The commands that wait: expect for mail that a command sends, ready for a server."""

from __future__ import annotations

import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence

from ..disk import system
from ..disk.processes import rival
from ..inbox.inbox import Inbox
from ..inbox.misses import line_of
from ..message.message import StoredMessage
from ..message.visible import visible_line
from ..smtp import endpoints
from . import arguments
from .printing import INTERRUPTED, complain
from .reading import FOR_PEOPLE, show

# As a shell has it.
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SIGNAL = 128

_UNKNOWN, _ALIVE = 30, 60  # seconds for a server of which nothing is known, or its process
_PAUSE = 0.02
_LONGEST_LINE = 512  # RFC 5321 section 4.5.3.1.5


def expect(parser: ArgumentParser, argv: Sequence[str]) -> int:
    """Show the first message that arrives after the command was started, or so many."""
    parser.usage = "mailhandlers expect STORE [options] [-- COMMAND [ARGUMENT ...]]"
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_timeout(
        parser,
        None,
        "how long to wait for mail once COMMAND has ended (default: 30; with --none 1)",
    )
    arguments.add_print(parser, FOR_PEOPLE, "print nothing, and fail if such a message arrives")
    parser.add_argument(
        "--exactly",
        metavar="N",
        type=_number,
        help="expect N messages and no more, for which it waits another half second; print all",
    )
    parser.add_argument_group(
        "COMMAND",
        "Only mail that arrives after COMMAND starts counts. What COMMAND prints goes to "
        "standard error. If it fails, its exit status is ours. Without COMMAND, mail counts "
        "from now on.",
    )
    own, command = _split(argv)
    options = parser.parse_args(own)
    inbox = Inbox(options.store)
    wanted = arguments.criteria(options)
    came = inbox.follow(timeout=0, **wanted)
    timeout = options.timeout
    if options.none and options.exactly:
        parser.error("--none is for no message, --exactly for some: give one")
    try:
        if options.none:
            with inbox.expect_none(within=1 if timeout is None else timeout, **wanted):
                _run(command, came)
            return 0
        with inbox.expect(
            timeout=30 if timeout is None else timeout, exactly=options.exactly, **wanted
        ) as expected:
            _run(command, came)
    except AssertionError as error:  # one came that wasn't expected
        complain(f"mailhandlers: {error}")
        return 1
    return max(show(message, options.view) for message in expected.messages)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"{text!r} is no number of messages, such as 1 or 2")
    return int(text)


def _run(command: Sequence[str], came: Iterator[StoredMessage]) -> None:
    """Run *command*, if there is one; raises SystemExit if it fails."""
    status = _status_of(command) if command else 0
    if status:
        message = next(came, None)
        mail = f"a message came {line_of(message)}" if message else "no message came"
        complain(f"mailhandlers: {command[0]} {_ending(status)}, and {mail}")
        raise SystemExit(status)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what stands before ``--``, and what behind it."""
    end = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:end]), list(argv[end + 1 :])


def _status_of(command: Sequence[str]) -> int:
    """Run *command*; return its exit status, as a shell would."""
    try:
        # Our own output is the message alone, for $(mailhandlers expect ...). Windows looks for
        # programs alone by itself, and for no script such as npm.cmd.
        name = shutil.which(command[0]) or command[0]
        process = subprocess.Popen([name, *command[1:]], stdout=sys.stderr)
    except FileNotFoundError:
        return _NOT_FOUND
    except OSError:
        return _NOT_EXECUTABLE
    interrupted = False
    while True:
        try:
            status = process.wait()
            break
        except KeyboardInterrupt:  # the command got it, too, and may have to tidy up
            interrupted = True
    if interrupted:
        return INTERRUPTED
    return status if status >= 0 else _SIGNAL - status


def _ending(status: int) -> str:
    if status == _NOT_FOUND:
        return "was not found (127)"
    if status == _NOT_EXECUTABLE:
        return "could not be run (126)"
    if status > _SIGNAL:
        try:
            return f"was ended by {signal.Signals(status - _SIGNAL).name} ({status})"
        except ValueError:  # no signal, but a status of its own
            pass
    return f"failed with exit status {status}"


def ready(
    parser: ArgumentParser,
    argv: Sequence[str],
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Wait for the greeting of a server; return 1 where none comes.

    The clock is for a server that isn't there. One that has taken a connection is, however
    slow: its greeting has as much time again. So is a process that lives: nearly always its
    end tells that no server will come, so that it may be given longer.
    """
    parser.add_argument(
        "address",
        metavar="[HOST:]PORT",
        type=arguments.address,
        help="where the server listens",
    )
    arguments.add_timeout(
        parser,
        None,
        f"how long to wait for a server, and then for its greeting (default: {_UNKNOWN}; "
        f"with --pid {_ALIVE})",
    )
    parser.add_argument(
        "--pid", type=_pid, help="the server's process: if it ends, so does the wait"
    )
    options = parser.parse_args(argv)
    server = system.Process(options.pid) if options.pid else None
    timeout = options.timeout
    if timeout is None:
        timeout = _ALIVE if server else _UNKNOWN
    deadline = clock() + timeout
    while True:
        problem = _problem(options.address, deadline - clock(), timeout, server, clock)
        if server and not problem:
            problem = _rivalry(server, options.address[1])
        # Asked last: a server that is dead by now is not the one that greeted.
        if server and server.has_ended():
            because = f"; {problem}" if problem else ""
            complain(f"mailhandlers: process {server.pid} has ended{because}")
            return 1
        if not problem:
            return 0
        if clock() >= deadline:
            complain(f"mailhandlers: {problem} (waited {timeout:g} s)")
            return 1
        if server:
            server.has_ended(_PAUSE)
        else:
            time.sleep(_PAUSE)


def _rivalry(server: system.Process, port: int) -> str:
    """Return that another server has the port, or nothing.

    One that an earlier run left would make this one look ready, until it finds its port
    taken and ends.
    """
    other = rival(server.pid, port)
    return "" if other is None else f"it is process {other} that listens at port {port}"


def _problem(
    address: tuple[str, int],
    remaining: float,
    timeout: float,
    server: system.Process | None,
    clock: Callable[[], float],
) -> str:
    """Return in a sentence what is wrong with the server, or nothing.

    A connection may take *remaining* seconds, and the greeting then *timeout*.
    """
    place = endpoints.shown(address)
    try:
        with socket.create_connection(address, max(_PAUSE, remaining)) as connection:
            connection.settimeout(max(_PAUSE, timeout))
            deadline = clock() + timeout
            while not select.select([connection], [], [], _PAUSE)[0]:
                # Whoever has the port may be another program than ours, and silent.
                if clock() >= deadline or (server and server.has_ended()):
                    return f"the server at {place} sends no greeting"
            greeting = connection.makefile("rb").readline(_LONGEST_LINE)
            if re.match(rb"220[ -]", greeting):
                connection.sendall(b"QUIT\r\n")
                return ""
    except socket.gaierror:
        return f"nobody here knows an address of {address[0]!r}"
    except ConnectionRefusedError:
        return f"no server listens at {place}"
    except OSError as error:
        return f"the server at {place} can't be reached: {error.strerror or error}"
    said = visible_line(greeting.decode("ascii", "backslashreplace"))
    if not said:
        return f"the server at {place} hangs up without a greeting"
    return f"the server at {place} says {said!r}: a mail server would begin with 220"


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 31):
        raise ArgumentTypeError(f"{text!r} is no number of a process")
    return int(text)
