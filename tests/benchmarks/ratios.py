"""Numbers of many servers over those of one, measured in turns.

A machine that slows down for a minute slows down both.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable
from contextlib import ExitStack

import servers
from loads import Load, speed

Ratios = dict[str, list[float]]  # by the name of the target
_TURNS = 6  # a round


def spread(values: Iterable[float]) -> str:
    """Return the median of some ratios, and between what the middle half of them lies."""
    low, median, high = statistics.quantiles(values, method="inclusive")
    return f"{median:5.2f}  ({low:.2f} to {high:.2f})"


def over_sink(
    targets: list[servers.Target], rounds: int, measure: Callable[[servers.Target], float]
) -> Ratios:
    """Return the ratios of each target to the Sinks around it."""
    ratios: Ratios = {}
    for _ in range(rounds):
        before = measure(servers.SINK)
        for target in targets:
            value = measure(target)
            after = measure(servers.SINK)
            ratios.setdefault(target.name, []).append(value / ((before + after) / 2))
            before = after
    return ratios


def speeds(targets: list[servers.Target], rounds: int, load: Load) -> list[dict[str, float]]:
    """Return for each turn the messages a second of each target.

    All servers wait while one has its turn, which is short, in an order that changes. Each
    round has new servers: by where its memory lies, one is up to 7 % faster than the next.
    """
    results = []
    portion = load._replace(messages=load.messages // _TURNS)
    turns = list(targets)
    for _ in range(rounds):
        with ExitStack() as stack:
            ports = {t.name: stack.enter_context(servers.running(t)).port for t in turns}
            for turn in range(_TURNS + 1):
                random.shuffle(turns)
                result = {t.name: speed(ports[t.name], portion) for t in turns}
                if turn:  # in the first they make the stores
                    results.append({t.name: result[t.name] for t in targets})
    return results


def over(base: str, results: list[dict[str, float]]) -> Ratios:
    """Return the ratios of each target to the one named *base*, in the same turn."""
    return {
        name: [result[name] / result[base] for result in results]
        for name in results[0]
        if name != base
    }
