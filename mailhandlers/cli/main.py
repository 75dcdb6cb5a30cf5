"""The command ``mailhandlers``: which of its commands to run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from .commands import COMMANDS
from .outcome import MISUSE, status_of
from .terminal import complain


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv*, or the command line, names; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where a test takes its place
            stream.reconfigure(errors="backslashreplace")
    return status_of(partial(_run, sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        from .overview import overview

        print(overview())
        return 0
    if name == "--version":
        from .. import __version__

        print(f"mailhandlers {__version__}")
        return 0
    if name not in COMMANDS:
        complain(
            f"mailhandlers: there is no command {name!r}: choose from {', '.join(COMMANDS)}"
        )
        return MISUSE
    try:
        module = import_module(COMMANDS[name].module, __package__)
    except ModuleNotFoundError:
        if name != "web":
            raise
        complain("mailhandlers: web needs more packages: pip install 'mailhandlers[web]'")
        return MISUSE
    status: int = module.run(rest)
    return status
