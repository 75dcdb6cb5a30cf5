"""What storing and reading cost, as ratios: ``python tests/benchmarks [PART ...]``.

Rounds are interleaved: each handler's number is divided by that of aiosmtpd's Sink a moment
before or after it, so that a machine which slows down for a minute slows down both.

The stores are made in the working directory, and removed in the end alone: for six minutes
after an inode was freed, ext4 without a journal passes it over, one by one, each time it
makes a file nearby, which can halve the speed of the next store.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import chart
import fixture
import servers
import stores

_LARGE = 30 * servers.MIB
_TURNS = 6  # a round


def spread(values: Iterable[float]) -> str:
    """Return the median of some ratios, and between what the middle half of them lies."""
    low, median, high = statistics.quantiles(values, method="inclusive")
    return f"{median:5.2f}  ({low:.2f} to {high:.2f})"


def over_sink(
    targets: list[servers.Target], rounds: int, measure: Callable[[servers.Target], float]
) -> dict[str, list[float]]:
    """Return the ratios of each target to the Sinks around it."""
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        before = measure(servers.SINK)
        for target in targets:
            value = measure(target)
            after = measure(servers.SINK)
            ratios.setdefault(target.name, []).append(value / ((before + after) / 2))
            before = after
    return ratios


def throughput_over_sink(
    targets: list[servers.Target], rounds: int, sessions: int, messages: int
) -> dict[str, list[float]]:
    """Return the ratios of each target's messages a second to Sink's in the same turn.

    All servers wait while one has its turn, which is short, in an order that changes. Each
    round has new servers: by where its memory lies, one is up to 7 % faster than the next.
    """
    ratios: dict[str, list[float]] = {target.name: [] for target in targets}
    turns = [servers.SINK, *targets]
    for _ in range(rounds):
        with ExitStack() as stack:
            ports = {t.name: stack.enter_context(servers.running(t)).port for t in turns}
            for turn in range(_TURNS + 1):
                random.shuffle(turns)
                speed = {
                    t.name: servers.throughput(ports[t.name], sessions, messages // _TURNS)
                    for t in turns
                }
                for name, values in ratios.items() if turn else ():  # they make the stores
                    values.append(speed[name] / speed[servers.SINK.name])
    return ratios


def throughput(options: argparse.Namespace) -> None:
    """Print messages a second, durable, over Sink's."""
    results: dict[int, dict[str, list[float]]] = {}
    for sessions, messages in ((50, options.messages), (1, options.messages // 3)):
        targets = [servers.MAILBOX, *servers.HANDLERS, *(servers.BARE if sessions == 1 else ())]
        ratios = throughput_over_sink(targets, options.rounds, sessions, messages)
        print(f"\nThroughput over Sink, {servers.OCTETS} octets, {sessions} session(s):")
        mailbox = statistics.median(ratios["Mailbox"])
        for name, values in ratios.items():
            times = statistics.median(values) / mailbox
            print(f"  {name:16} {spread(values)}  {times:.1f} x Mailbox")
        results[sessions] = ratios
    if options.svg:
        Path(options.svg).write_text(chart.draw(results))


def uvloop(options: argparse.Namespace) -> None:
    """Print messages a second with loop=uvloop, over plain Sink's."""
    targets = [servers.with_uvloop(target) for target in servers.HANDLERS]
    ratios = throughput_over_sink(targets, options.rounds, 50, options.messages)
    print("\nThroughput with loop=uvloop over plain Sink, 50 sessions:")
    for name, values in ratios.items():
        print(f"  {name:16} {spread(values)}")


def large(options: argparse.Namespace) -> None:
    """Print what one message of 30 MiB costs, against Sink's."""
    print("\nOne message of 30 MiB, against Sink: time, memory, longest wait of a NOOP:")
    for target in servers.HANDLERS:
        rows = []
        for _ in range(options.rounds):
            sink, ours = servers.large(servers.SINK, _LARGE), servers.large(target, _LARGE)
            rows.append(
                (
                    ours.seconds / sink.seconds,
                    ours.peak_mib - sink.peak_mib,
                    1000 * (ours.noop_seconds - sink.noop_seconds),
                )
            )
        time, memory, wait = map(statistics.median, zip(*rows, strict=True))
        print(f"  {target.name:16} x {time:.2f}  {memory:+5.0f} MiB  {wait:+5.0f} ms")


def start(options: argparse.Namespace) -> None:
    """Print what importing and starting take, against Sink's."""

    code = (
        "import aiosmtpd.main, aiosmtpd.handlers, time; begun = time.perf_counter();"
        "import mailhandlers; print(time.perf_counter() - begun)"
    )
    extra = [
        float(subprocess.check_output([sys.executable, "-c", code], env=servers.ENVIRONMENT))
        for _ in range(options.rounds * 3)
    ]
    print(f"\nImport: {1000 * statistics.median(extra):.1f} ms more than aiosmtpd itself")
    ratios = over_sink(servers.HANDLERS, options.rounds, servers.start_seconds)
    print("Start of the command, time over Sink's:")
    for name, values in ratios.items():
        print(f"  {name:16} {spread(values)}")


def latest(options: argparse.Namespace) -> None:
    """Print how long read_latest takes in stores of growing size."""
    counts = [count for count in (100, 10_000, 1_000_000) if count <= options.most]
    print("\nread_latest, in milliseconds (the standard library's mailbox in brackets):")
    print(f"  {'messages':16}" + "".join(f"{count:>22,}" for count in counts))
    for target in servers.HANDLERS:
        row = f"  {target.name:16}"
        for count in counts:
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                path = Path(folder) / "store"
                stores.make(target.name, path, count)
                cell = f"{1000 * stores.seconds(stores.ours, path):.2f}"
                if other := stores.STANDARD_LIBRARY.get(target.name):
                    cell += f" [{1000 * stores.seconds(other, path, repeat=1):.2f}]"
            row += f"{cell:>22}"
        print(row, flush=True)


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    part.__name__: part for part in (throughput, uvloop, large, start, latest, fixture.fixture)
}


def main() -> None:
    """Run the parts asked for, or all."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=6000, help="a round, at 50 sessions")
    parser.add_argument("--most", type=int, default=1_000_000, help="messages in a store")
    parser.add_argument("--svg", type=os.path.abspath, help="where to draw the throughput")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}: choose from {', '.join(PARTS)}")
    if options.rounds < 2:
        parser.error("--rounds is 2 at least: one tells no spread")
    home = Path.cwd()
    with tempfile.TemporaryDirectory(dir=home) as folder:
        os.chdir(folder)
        # Tell ext4 to put each store far from the others; other file systems don't mind.
        subprocess.run(["chattr", "+T", folder], check=False, stderr=subprocess.DEVNULL)
        for part in options.parts or PARTS:
            PARTS[part](options)
        os.chdir(home)


if __name__ == "__main__":
    main()
