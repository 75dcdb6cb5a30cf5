"""The part that measures the page and the HTTP API over a large store."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import large_stores
import servers

_COUNTS = (100_000, 1_000_000)
_WAITING = 100
_WATCHED = 3.0  # seconds
_BUSY = 0.05  # of a processor: some clients are still looking at what is there
_TICKS = os.sysconf("SC_CLK_TCK")


def page(options: argparse.Namespace) -> None:
    """Print what the page takes over 100,000 messages and a million, and with 100 that wait."""
    for count in sorted({min(options.most, count) for count in _COUNTS}):
        print(f"\nThe page over {count:,} messages, and with {_WAITING} clients that wait:")
        print(f"  {'':16}  first page    API, 50  first search   again     ", end="")
        print("memory   a client begins   memory   waits")
        for target in servers.handlers(None):
            with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
                store = Path(folder) / "store"
                if target.name == "MailFile":
                    large_stores.make(target.name, store, count)
                else:
                    large_stores.spread(target.name, store, count)
                command = (sys.executable, "-m", "mailhandlers", "web", str(store))
                listen = ("--listen", f"{servers.HOST}:PORT")
                with servers.running(target._replace(command=command + listen)) as server:
                    print(f"  {target.name:16}{_row(server)}", flush=True)


def _row(server: servers.Running) -> str:
    address = f"http://{servers.HOST}:{server.port}"
    first = _seconds(f"{address}/")
    listed = _seconds(f"{address}/api/messages?limit=50")
    search = f"{address}/api/messages?limit=1&to={large_stores.recipient(0)}"
    searched = [_seconds(search) for _ in range(3)]
    memory = _mib(server)
    with urllib.request.urlopen(f"{address}/api/messages?limit=1") as answer:
        newest = json.load(answer)[0]["id"]
    with ExitStack() as stack:
        before = _processor_seconds(server)
        for _ in range(_WAITING):
            client = stack.enter_context(socket.create_connection((servers.HOST, server.port)))
            request = f"GET /api/messages/latest?after={newest}&timeout=60 HTTP/1.1"
            client.sendall(f"{request}\r\nHost: localhost\r\n\r\n".encode())
        while (waiting := _processor_share(server)) > _BUSY:
            pass
        begun = (_processor_seconds(server) - before) / _WAITING
        more = _mib(server) - memory
    times = f"{1000 * first:9.0f} ms {1000 * listed:7.0f} ms"
    times += f"{1000 * searched[0]:11.0f} ms {1000 * searched[2]:5.0f} ms"
    clients = f"{1000 * begun:13.1f} ms {more:6.0f} MiB {100 * waiting:6.1f} %"
    return f"{times} {memory:6.0f} MiB {clients}"


def _processor_share(server: servers.Running) -> float:
    """Return how much of a processor the server takes for the next seconds."""
    before, begun = _processor_seconds(server), time.monotonic()
    time.sleep(_WATCHED)
    return (_processor_seconds(server) - before) / (time.monotonic() - begun)


def _seconds(address: str) -> float:
    begun = time.perf_counter()
    with urllib.request.urlopen(address) as answer:
        answer.read()
    return time.perf_counter() - begun


def _mib(server: servers.Running) -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def _processor_seconds(server: servers.Running) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
