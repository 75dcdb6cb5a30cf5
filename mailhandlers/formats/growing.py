"""Files that grow at their end, read from there: where each entry begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def backwards(
    read: Callable[[int, int], bytes], size: int, mark: bytes
) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each entry of a file of *size* octets, last first.

    An entry begins with *mark* at the beginning of a line. ``read(start, end)`` returns
    octets of the file; it is asked for blocks from the end, so that the last entry of
    a large file costs no more than that of a small one.
    """
    needle = b"\n" + mark
    end = high = size
    block = 1 << 16
    while high > 0:
        low = max(0, high - block)
        data = read(low, min(size, high + len(mark)))
        at = data.rfind(needle)
        while at >= 0:
            start = low + at + 1
            if start < end:
                yield start, end
                end = start
            at = data.rfind(needle, 0, at + len(mark))
        high = low
        block = min(block * 2, 1 << 20)
    if end > 0:
        yield 0, end


def begins(before: bytes, data: bytes, mark: bytes) -> bool:
    """Tell whether one entry begins where *data* does, and none within it.

    *before* is the octet before it, or empty at the beginning of the file, where anything may
    stand above the first entry.
    """
    is_first = not before or (before == b"\n" and data.startswith(mark))
    return is_first and data.find(b"\n" + mark, 0, len(data) - 1) < 0


def ends(data: bytes, rest: bytes, mark: bytes) -> bool:
    """Tell whether an entry ends where *data* does: *rest* are the octets behind, if any."""
    # The next append may have begun: of its mark, only a part may be there.
    is_marked = rest.startswith(mark) or mark.startswith(rest)
    return not rest or (data.endswith(b"\n") and is_marked)
