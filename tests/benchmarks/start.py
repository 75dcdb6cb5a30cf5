"""The part that measures what importing the package and starting the command take."""

from __future__ import annotations

import argparse
import statistics
import subprocess

import ratios
import servers

_IMPORT = """
import aiosmtpd.main, aiosmtpd.handlers, time
begun = time.perf_counter()
import mailhandlers
mailhandlers.MailFile
print(time.perf_counter() - begun)
"""


def start(options: argparse.Namespace) -> None:
    """Print what importing and starting take, against Sink's."""
    targets = servers.handlers(options.beside)
    print()
    for target in targets:
        if target.handler == "MailFile":
            command = [target.python, "-c", _IMPORT]
            extra = [
                float(subprocess.check_output(command, env=servers.ENVIRONMENT))
                for _ in range(options.rounds * 3)
            ]
            median = 1000 * statistics.median(extra)
            print(f"Import of {target.name}: {median:.1f} ms more than aiosmtpd itself")
    print("Start of the command, time over Sink's:")
    for name, values in ratios.over_sink(targets, options.rounds, _start_seconds).items():
        print(f"  {name:24} {ratios.spread(values)}", flush=True)


def _start_seconds(target: servers.Target) -> float:
    """Return how long *target* takes to open its port."""
    with servers.running(target) as server:
        return server.start_seconds
