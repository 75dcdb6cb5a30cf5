"""What a test pays for the fixture, against those of pytest-localserver and of smtpdfix.

Each round is a run of pytest a fixture: 200 tests that send one message and look at it.
Theirs keep mail in memory; ours has a store on disk.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import servers

_TESTS = 200
_OTHERS = ("pytest-localserver", "smtpdfix")


class Fixture(NamedTuple):
    """A fixture, the plugin it is from, and how a test uses it."""

    package: str
    plugin: str
    name: str
    address: str
    latest: str


class _Seconds(NamedTuple):
    wall: float
    processor: float


FIXTURES = [
    Fixture("pytest-localserver", "localserver", "smtpserver", "*it.addr", "it.outbox[-1]"),
    Fixture("smtpdfix", "smtpd", "smtpd", "it.hostname, it.port", "it.messages[-1]"),
    Fixture("mailhandlers", "mailcatcher", "mailcatcher", "it.host, it.port", "it.latest()"),
]
_BASE, *_ = FIXTURES

_TEST = """
import smtplib
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test_one({name}, number):
    it = {name}
    with smtplib.SMTP({address}, local_hostname="laptop") as client:
        client.sendmail("eva@example.com", ["bob@example.com"], f"Subject: {{number}}\\n\\nHi")
    assert {latest}["Subject"] == str(number)
"""

# The time of the tests, without what pytest takes to start and to report.
_CONFTEST = """
import pytest, time

@pytest.hookimpl(hookwrapper=True)
def pytest_runtestloop(session):
    begun, used = time.perf_counter(), time.process_time()
    yield
    print("\\nSECONDS", time.perf_counter() - begun, time.process_time() - used)
"""


def fixture(options: argparse.Namespace) -> None:
    """Print the time of a test with each fixture, over pytest-localserver's."""
    print(f"\n{_TESTS} tests that send a message and look at it, over {_BASE.package}")
    print("(of the processor alone in brackets: no other load changes that):")
    with tempfile.TemporaryDirectory() as packages:
        command = [sys.executable, "-m", "pip", "-qq", "install", "--target", packages]
        if subprocess.run([*command, *_OTHERS], check=False).returncode:
            print(f"  skipped: pip can't install {' and '.join(_OTHERS)}")
            return
        seconds: dict[str, list[_Seconds]] = {each.package: [] for each in FIXTURES}
        for _ in range(options.rounds):
            for each in random.sample(FIXTURES, len(FIXTURES)):
                seconds[each.package].append(_run(each, packages))
    for package, rounds in seconds.items():
        wall, processor = (
            [one[i] / base[i] for one, base in zip(rounds, seconds[_BASE.package], strict=True)]
            for i in range(2)
        )
        low, ratio, high = statistics.quantiles(wall, method="inclusive")
        milliseconds = 1000 * statistics.median(one.wall for one in rounds) / _TESTS
        print(
            f"  {package:18} {ratio:.2f}  ({low:.2f} to {high:.2f})  "
            f"[{statistics.median(processor):.2f}]  {milliseconds:.2f} ms a test"
        )


def _run(each: Fixture, packages: str) -> _Seconds:
    """Return the seconds that the tests of *each* take."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        Path(folder, "conftest.py").write_text(_CONFTEST)
        Path(folder, "test_it.py").write_text(_TEST.format(tests=_TESTS, **each._asdict()))
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
        told = subprocess.run(
            [*command, "-p", each.plugin, "--basetemp", f"{folder}/temporary"],
            cwd=folder,
            env={
                **servers.ENVIRONMENT,
                "PYTHONPATH": packages,
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONWARNINGS": "ignore",
            },
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        return _Seconds(*map(float, told.partition("SECONDS ")[2].split()[:2]))
