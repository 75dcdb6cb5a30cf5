"""A bar chart of throughput over Sink's, as SVG."""

from __future__ import annotations

import statistics

from loads import Load
from ratios import Ratios

_WIDTH, _ROW, _GAP, _LEFT, _SCALE = 640, 18, 12, 130, 400
# A hue for each number of sessions, darker where connections are kept: fill, text.
_COLOURS = {
    (50, False): ("#2a6f97", "white"),
    (50, True): ("#013a63", "white"),
    (1, False): ("#a9d6e5", "black"),
    (1, True): ("#74b3ce", "black"),
}


def draw(results: dict[Load, Ratios]) -> str:
    """Return the chart of *results*: ratios by handler, by load."""
    # Those measured at every load: the bare handlers are for one session.
    names = [name for name in next(iter(results.values())) if _in_all(name, results)]
    loads = sorted(results, key=lambda load: (-load.sessions, load.is_kept))
    top = 106
    block = len(loads) * _ROW + _GAP
    height = top + len(names) * block
    end = _LEFT + _SCALE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        '<text x="10" y="20" font-weight="bold">Messages a second, each on disk before its '
        "250, over Sink, which stores nothing</text>",
        f'<line x1="{end}" y1="{top - 4}" x2="{end}" y2="{height - _GAP}" stroke="#888"'
        ' stroke-dasharray="4"/>',
        f'<text x="{end}" y="{top - 8}" text-anchor="middle" fill="#555">Sink</text>',
    ]
    for line, load in enumerate(loads):  # the legend
        at = 32 + line * 16
        fill, _ = _COLOURS[load.sessions, load.is_kept]
        parts.append(f'<rect x="{_LEFT}" y="{at}" width="12" height="12" fill="{fill}"/>')
        parts.append(f'<text x="{_LEFT + 20}" y="{at + 11}" font-size="12">{load}</text>')
    for row, name in enumerate(names):
        y = top + row * block
        middle = y + len(loads) * _ROW / 2 + 4
        parts.append(f'<text x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end">{name}</text>')
        for bar, load in enumerate(loads):
            ratio = statistics.median(results[load][name])
            fill, text = _COLOURS[load.sessions, load.is_kept]
            at = y + bar * _ROW
            parts.append(
                f'<rect x="{_LEFT}" y="{at}" width="{ratio * _SCALE:.0f}" height="{_ROW - 2}"'
                f' fill="{fill}"/>'
            )
            parts.append(
                f'<text x="{_LEFT + 8}" y="{at + 13}" fill="{text}" font-size="12">'
                f"{ratio:.2f}</text>"
            )
    return "\n".join([*parts, "</svg>", ""])


def _in_all(name: str, results: dict[Load, Ratios]) -> bool:
    return all(name in ratios for ratios in results.values())
