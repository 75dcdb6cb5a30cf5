"""``mailhandlers expect``: run a command, and show the mail that it sends."""

from __future__ import annotations

import signal
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Sequence

from ..inbox.inbox import Inbox
from ..inbox.misses import line_of
from . import arguments
from .commands import parser_of
from .outcome import INTERRUPTED, NO_MESSAGE
from .showing import FOR_PEOPLE, show
from .terminal import complain

# As a shell has it.
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_SIGNAL = 128

_USAGE = "mailhandlers expect STORE [options] [-- COMMAND [ARGUMENT ...]]"


def run(argv: Sequence[str]) -> int:
    """Show the first message that arrives after the command was started, or so many."""
    parser = parser_of("expect", _USAGE)
    arguments.add_store(parser)
    arguments.add_criteria(parser)
    arguments.add_timeout(
        parser, 30, "how long to wait for mail once COMMAND has ended (default: 30)"
    )
    arguments.add_print(parser, FOR_PEOPLE)
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
    try:
        with inbox.expect(
            timeout=options.timeout, exactly=options.exactly, **wanted
        ) as expected:
            status = _status_of(command) if command else 0
            if status:
                message = next(came, None)
                mail = f"a message came {line_of(message)}" if message else "no message came"
                complain(f"mailhandlers: {command[0]} {_ending(status)}, and {mail}")
                raise SystemExit(status)
    except AssertionError as error:  # more than exactly so many came
        complain(str(error))
        return NO_MESSAGE
    return max(show(message, options.view) for message in expected.messages)


def _number(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"{text!r} is no number of messages, such as 1 or 2")
    return int(text)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what stands before ``--``, and what behind it."""
    end = argv.index("--") if "--" in argv else len(argv)
    return list(argv[:end]), list(argv[end + 1 :])


def _status_of(command: Sequence[str]) -> int:
    """Run *command*; return its exit status, as a shell would."""
    try:
        # Our own output is the message alone, for $(mailhandlers expect ...).
        process = subprocess.Popen(command, stdout=sys.stderr)
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
