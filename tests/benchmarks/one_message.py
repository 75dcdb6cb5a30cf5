"""The parts that measure what one message costs: a large one, a huge one, a lone one."""

from __future__ import annotations

import argparse
import os
import smtplib
import statistics
import time

import loads
import servers
import slow_disk

_LARGE = 30 * loads.MIB
_HUGE = 300 * loads.MIB
_MESSAGE = loads.OCTETS // 80 * (78 * b"x" + b"\r\n")
_Row = tuple[float, float, float]


def large(options: argparse.Namespace) -> None:
    """Print what one message of 30 MiB costs, against Sink's."""
    _against_sink(options, _LARGE)


def huge(options: argparse.Namespace) -> None:
    """Print what one message of 300 MiB costs, against Sink's."""
    _against_sink(options, _HUGE)


def _against_sink(options: argparse.Namespace, octets: int) -> None:
    print(
        f"\nOne message of {octets // loads.MIB} MiB, against Sink: time, memory, and the"
        " longest wait of a NOOP on another connection:"
    )
    sink_waits = []
    for name in dict.fromkeys(target.handler for target in servers.handlers(options.beside)):
        versions = [t for t in servers.handlers(options.beside) if t.handler == name]
        rows: dict[str, list[_Row]] = {target.name: [] for target in versions}
        for _ in range(options.rounds):
            sink = loads.large(servers.SINK, octets)
            sink_waits.append(sink.noop_seconds)
            for target in versions:
                rows[target.name].append(_against(sink, loads.large(target, octets)))
        for title, differences in rows.items():
            ratio, memory, wait = map(statistics.median, zip(*differences, strict=True))
            print(
                f"  {title:24} x {ratio:5.2f}  {memory:+6.0f} MiB  {1000 * wait:+6.0f} ms",
                flush=True,
            )
    print(f"  of Sink itself the NOOP waited {1000 * statistics.median(sink_waits):.0f} ms")


def _against(sink: loads.Large, ours: loads.Large) -> _Row:
    return (
        ours.seconds / sink.seconds,
        ours.peak_mib - sink.peak_mib,
        ours.noop_seconds - sink.noop_seconds,
    )


def flushes(options: argparse.Namespace) -> None:
    """Print how often a lone message has a disk flush, and how long its reply takes."""
    print("\nA lone message: flushes of the disk before its 250, and its time in flushes:")
    with slow_disk.mounted() as disk, slow_disk.working_in(disk.folder):
        for target in servers.handlers(options.beside):
            with servers.running(target) as server:
                rows = [_lone(disk, server.port) for _ in range(5 * options.rounds)][2:]
            count, duration = map(statistics.median, zip(*rows, strict=True))
            print(f"  {target.name:24} {count:4.0f}  {duration:6.1f}", flush=True)


def _lone(disk: slow_disk.SlowDisk, port: int) -> tuple[int, float]:
    """Send one message; return the flushes until its reply, and its time in flushes."""
    with smtplib.SMTP(servers.HOST, port) as client:
        client.ehlo()
        client.mail("eva@example.com")
        client.rcpt("bob@example.com")
        os.sync()  # what the last message left in memory is not this one's to flush
        before, begun = disk.flushes(), time.perf_counter()
        code, _ = client.data(_MESSAGE)
        seconds, after = time.perf_counter() - begun, disk.flushes()
    if code != 250:
        raise SystemExit(f"a server on port {port} answered {code}")
    return after - before, seconds / slow_disk.FLUSH_SECONDS
