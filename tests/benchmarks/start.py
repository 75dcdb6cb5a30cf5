"""The part that measures what importing the package and starting its commands take."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import ratios
import servers

_IMPORT_READER = """
import time
begun = time.perf_counter()
from mailhandlers import read_latest
print(time.perf_counter() - begun)
"""
_IMPORT = """
import aiosmtpd.main, aiosmtpd.handlers, time
begun = time.perf_counter()
import mailhandlers
mailhandlers.MailFile
print(time.perf_counter() - begun)
"""


def start(options: argparse.Namespace) -> None:
    """Print what importing and starting take, against Sink's and Python's own."""
    targets = servers.handlers(options.beside)
    print()
    for target in targets:
        if target.handler == "MailFile":
            for text, program in (
                ("from mailhandlers import read_latest", _IMPORT_READER),
                ("MailFile, beyond aiosmtpd", _IMPORT),
            ):
                command = [target.python, "-c", program]
                told = [
                    float(subprocess.check_output(command, env=servers.ENVIRONMENT))
                    for _ in range(options.rounds * 3)
                ]
                median = 1000 * statistics.median(told)
                print(f"Import of {target.name}: {text}: {median:.1f} ms")
    Path("empty.mbox").touch()
    shell = ("-m", "mailhandlers", "list", "empty.mbox")
    extra = [_seconds(*shell) - _seconds("-c", "pass") for _ in range(options.rounds * 3)]
    median = 1000 * statistics.median(extra)
    print(f"mailhandlers list, beyond python -c pass: {median:.1f} ms")
    print("Start of the command, time over Sink's:")
    for name, values in ratios.over_sink(targets, options.rounds, _start_seconds).items():
        print(f"  {name:24} {ratios.spread(values)}", flush=True)


def _seconds(*args: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *args], check=True, env=servers.ENVIRONMENT)
    return time.perf_counter() - begun


def _start_seconds(target: servers.Target) -> float:
    """Return how long *target* takes to open its port."""
    with servers.running(target) as server:
        return server.start_seconds
