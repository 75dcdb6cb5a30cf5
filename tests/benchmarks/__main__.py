"""What storing and reading cost, as ratios: ``python tests/benchmarks [PART ...]``.

Rounds are interleaved: each handler's number is divided by that of aiosmtpd's Sink a moment
before or after it. Another version of the package can be measured in the same rounds: make it
an environment (``git worktree add``, ``python -m venv``, ``pip install``), and give
``--beside ENVIRONMENT/bin/python``.

The stores are made in the working directory, and removed in the end alone: for six minutes
after an inode was freed, ext4 without a journal passes it over, one by one, each time it
makes a file nearby, which can halve the speed of the next store.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import servers
from bucket import bucket
from fixture import fixture
from large_stores import keep, latest, questions
from one_message import flushes, huge, large
from others import others
from page import page
from slow_disk import NoSlowDiskError
from start import start
from throughput import slow, throughput, uvloop

_PARTS = (
    throughput,
    slow,
    flushes,
    uvloop,
    large,
    huge,
    start,
    latest,
    questions,
    keep,
    bucket,
    page,
    fixture,
    others,
)
PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    part.__name__: part for part in _PARTS
}


def main() -> None:
    """Run the parts asked for, or all."""
    parser = argparse.ArgumentParser(
        prog="python tests/benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{name:12}{part.__doc__}" for name, part in PARTS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=6000, help="a round, at 50 sessions")
    parser.add_argument("--most", type=int, default=1_000_000, help="messages in a store")
    parser.add_argument("--svg", type=os.path.abspath, help="where to draw the throughput")
    parser.add_argument(
        "--beside",
        type=os.path.abspath,
        metavar="PYTHON",
        help="the interpreter of an environment with another version of mailhandlers",
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    if options.rounds < 2:
        parser.error("--rounds is 2 at least: one tells no spread")
    _tell_versions(options.beside)
    # Servers are ended and the slow disk is unmounted on SIGTERM too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    home = Path.cwd()
    with tempfile.TemporaryDirectory(dir=home) as folder:
        os.chdir(folder)
        # Tell ext4 to put each store far from the others; other file systems don't mind.
        subprocess.run(["chattr", "+T", folder], check=False, stderr=subprocess.DEVNULL)
        for part in options.parts or PARTS:
            try:
                PARTS[part](options)
            except NoSlowDiskError as error:
                if options.parts:
                    raise SystemExit(f"{part}: {error}") from error
                print(f"\n{part} is left out: {error}")
        os.chdir(home)


def _tell_versions(beside: str | None) -> None:
    """Print what is measured; exit if the two are one."""
    file, runs_on = servers.version(sys.executable)
    print(f"{file}, {runs_on}")
    if beside is not None:
        file_beside, runs_on_beside = servers.version(beside)
        print(f"beside: {file_beside}, {runs_on_beside}")
        if file_beside == file:
            raise SystemExit(f"{beside} has the same mailhandlers: install the other one there")


if __name__ == "__main__":
    main()
