"""Steps that are taken back where a later one fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Undo:
    """What to take back, the last step first, where a ``with`` block ends with an error."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def add(self, step: Callable[..., object], *args: Any) -> None:
        """Call *step* with *args* where the block fails."""
        self._steps.append((step, args))

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        for step, args in reversed(self._steps) if error_type else ():
            # What may be taken back is; the error that led here counts more.
            with suppress(OSError, MemoryError):
                step(*args)
