"""The part that measures a bucket: what it costs to store there, and to ask.

The object store is rclone's, a folder on this machine's disk, for all that time is ours and
rclone's: a real one adds its own, and that of the network.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import large_stores
import ratios
import servers
from loads import OCTETS, Load

from mailhandlers import BucketSink, Inbox, read_latest, read_messages
from mailhandlers.mail import Mail

_SINK = servers.Target("BucketSink", "mailhandlers.BucketSink", ("s3://mail/load",))
_COUNTS = (100, 1_000, 10_000)
_QUESTIONS: dict[str, Callable[[str], object]] = {
    "latest": read_latest,
    "latest of one": lambda store: read_latest(store, to="user7@example.com"),
    "len": lambda store: len(Inbox(store)),
    "all read": lambda store: sum(1 for _ in read_messages(store)),
}


def bucket(options: argparse.Namespace) -> None:
    """Print messages a second into a bucket, over Sink's, and what questions to it take: ms."""
    with _rclone(Path.cwd()) as environment:
        servers.ENVIRONMENT.update(environment)
        os.environ.update(environment)
        for is_kept in (False, True):
            load = Load(50, options.messages, is_kept)
            measured = ratios.speeds([servers.SINK, _SINK], options.rounds, load)
            rate = statistics.median(result[_SINK.name] for result in measured)
            over_sink = ratios.spread(ratios.over("Sink", measured)[_SINK.name])
            print(f"\nInto a bucket, {OCTETS} octets, {load}: {rate:.0f} a second, {over_sink}")
        for count in _COUNTS:
            store = f"s3://mail/with-{count}"
            BucketSink(store).store_all([_mail(age) for age in range(count)])
            for question, ask in _QUESTIONS.items():
                took = [_milliseconds(ask, store) for _ in range(options.rounds)]
                print(f"  {count:6} messages, {question:14} {statistics.median(took):8.1f} ms")


def _mail(age: int) -> Mail:
    """Return a message that came so many seconds ago: the newest is looked for by that."""
    mail = large_stores.mail(age)
    name = f"{int(time.time()) - age}.M000000P1Q000001.laptop"
    return Mail(dataclasses.replace(mail.envelope, id=name), mail.content)


def _milliseconds(ask: Callable[[str], object], store: str) -> float:
    begun = time.perf_counter()
    ask(store)
    return 1000 * (time.perf_counter() - begun)


@contextmanager
def _rclone(folder: Path) -> Iterator[dict[str, str]]:
    """Serve a folder in *folder* as S3 with a bucket ``mail``; yield what leads there."""
    (folder / "buckets" / "mail").mkdir(parents=True)
    program = shutil.which("rclone", path=sysconfig.get_path("scripts")) or "rclone"
    address = f"{servers.HOST}:PORT"
    command = (program, "serve", "s3", "--addr", address, "--auth-key", "key,secret")
    target = servers.Target("rclone", "", command=(*command, str(folder / "buckets")))
    with servers.running(target) as server:
        yield {
            "AWS_ENDPOINT_URL": f"http://{servers.HOST}:{server.port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
