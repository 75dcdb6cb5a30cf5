"""Open files: write all of something, close them all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

_MOST_PIECES = 1024  # IOV_MAX of Linux and macOS
_MOST_OCTETS = 1 << 20


def write_all(fd: int, pieces: Iterable[bytes]) -> None:
    """Write all *pieces*; a nearly full disk takes a part without an error."""
    for portion in _portions(pieces):
        done = os.writev(fd, portion)
        if done < sum(map(len, portion)):
            whole = memoryview(b"".join(portion))
            while done < len(whole):
                done += os.write(fd, whole[done:])


def _portions(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield *pieces* by as many as one call writes.

    What is formed only when it is to be written is in memory for as long, and in a cache.
    """
    portion: list[bytes] = []
    size = 0
    for piece in pieces:
        portion.append(piece)
        size += len(piece)
        if size >= _MOST_OCTETS or len(portion) == _MOST_PIECES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def close_all(fds: list[int]) -> None:
    """Close all *fds*, also where one fails, as a full disk of another machine makes it."""
    if fds:
        try:
            os.close(fds.pop())
        finally:
            close_all(fds)
