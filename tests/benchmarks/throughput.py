"""The parts that measure messages a second, each on disk before its 250."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import chart
import ratios
import servers
import slow_disk
from loads import OCTETS, Load


def throughput(options: argparse.Namespace) -> None:
    """Print messages a second over Sink's, with kept connections and with one a message."""
    drawn: dict[Load, ratios.Ratios] = {}
    for is_kept in (False, True):
        for sessions, messages in ((50, options.messages), (1, options.messages // 3)):
            load = Load(sessions, messages, is_kept)
            targets = [servers.SINK, servers.MAILBOX, *servers.handlers(options.beside)]
            if sessions == 1:
                targets += servers.BARE
            measured = ratios.speeds(targets, options.rounds, load)
            over_sink = ratios.over("Sink", measured)
            mailbox = statistics.median(over_sink["Mailbox"])
            print(f"\nThroughput over Sink, {OCTETS} octets, {load}:")
            for name, values in over_sink.items():
                times = statistics.median(values) / mailbox
                print(f"  {name:24} {ratios.spread(values)}  {times:.1f} x Mailbox", flush=True)
            ours = [target.name for target in targets if not target.is_beside]
            drawn[load] = {name: over_sink[name] for name in over_sink if name in ours}
    if options.svg:
        Path(options.svg).write_text(chart.draw(drawn))


def uvloop(options: argparse.Namespace) -> None:
    """Print messages a second with loop=uvloop, over plain Sink's."""
    targets = [servers.SINK, *servers.with_uvloop(servers.handlers(options.beside))]
    load = Load(50, options.messages, is_kept=False)
    measured = ratios.speeds(targets, options.rounds, load)
    print(f"\nThroughput with loop=uvloop over plain Sink, {load}:")
    for name, values in ratios.over("Sink", measured).items():
        print(f"  {name:24} {ratios.spread(values)}", flush=True)


def slow(options: argparse.Namespace) -> None:
    """Print messages a second on a disk whose flush takes 3 ms, over MboxSink's."""
    load = Load(50, options.messages, is_kept=True)
    with slow_disk.mounted() as disk, slow_disk.working_in(disk.folder):
        measured = ratios.speeds(servers.handlers(options.beside), options.rounds, load)
    over_mbox = ratios.over("MboxSink", measured)
    print(f"\nA flush takes {1000 * slow_disk.FLUSH_SECONDS:.0f} ms; {load}; over MboxSink:")
    for name in measured[0]:
        rate = statistics.median(result[name] for result in measured)
        values = over_mbox.get(name)
        print(f"  {name:24} {rate:5.0f} a second  {ratios.spread(values) if values else ''}")
