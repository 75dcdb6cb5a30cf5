"""Sizes as people read them."""

from __future__ import annotations


def human_size(octets: int) -> str:
    """Return a size as people read it: ``512 B``, ``2.0 kB``, ``31.5 MB``."""
    size = float(octets)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" else f"{octets} B"
        size /= 1000
    return f"{size:.1f} GB"
