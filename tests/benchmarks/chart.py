"""A bar chart of throughput over Sink's, as SVG."""

from __future__ import annotations

import statistics

_WIDTH, _ROW, _LEFT, _SCALE = 640, 22, 130, 400
_COLOURS = {50: "#2a6f97", 1: "#a9d6e5"}


def draw(results: dict[int, dict[str, list[float]]]) -> str:
    """Return the chart of *results*: ratios by handler, by number of sessions."""
    names = list(next(iter(results.values())))
    top = 50
    height = top + len(names) * (2 * _ROW + 10) + 20
    end = _LEFT + _SCALE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        '<text x="10" y="20" font-weight="bold">Messages a second, each on disk before its '
        "250, over Sink, which stores nothing</text>",
        f'<line x1="{end}" y1="32" x2="{end}" y2="{height - 10}" stroke="#888"'
        ' stroke-dasharray="4"/>',
        f'<text x="{end}" y="44" text-anchor="middle" fill="#555">Sink</text>',
    ]
    for row, name in enumerate(names):
        y = top + row * (2 * _ROW + 10)
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + _ROW + 4}" text-anchor="end">{name}</text>'
        )
        for bar, sessions in enumerate(results):
            ratio = statistics.median(results[sessions][name])
            at = y + bar * _ROW
            parts.append(
                f'<rect x="{_LEFT}" y="{at}" width="{ratio * _SCALE:.0f}" height="{_ROW - 3}"'
                f' fill="{_COLOURS[sessions]}"/>'
            )
            label = f"{ratio:.2f}, {sessions} session{'s' * (sessions > 1)}"
            inside = _LEFT + 8
            colour = "white" if sessions > 1 else "black"
            parts.append(f'<text x="{inside}" y="{at + 15}" fill="{colour}">{label}</text>')
    return "\n".join([*parts, "</svg>", ""])
