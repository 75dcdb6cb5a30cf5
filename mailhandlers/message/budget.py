"""How much of a message may be interpreted while others wait.

What reads mail takes two microseconds at most for an octet that it looks at in Python, and a
few nanoseconds where C looks at it. So a budget is one of octets, whatever the machine, and
the same message always gives the same result.
"""

from __future__ import annotations

import math

LINE = 1 << 19
"""The budget of a line of JSON Lines: a second at most, for ordinary mail 0.1 to 0.2."""

_C_OCTETS = 512


class OverBudgetError(Exception):
    """Something needs more than is left."""


class Budget:
    """A number of octets that may be looked at; without *octets* any number."""

    def __init__(self, octets: float = math.inf) -> None:
        self._left = octets

    def takes(self, octets: float) -> bool:
        """Take *octets* from what is left, and tell whether there were so many."""
        if octets > self._left:
            return False
        self._left -= octets
        return True

    def spend(self, octets: float) -> None:
        """Take *octets*; raise OverBudgetError, and leave none, where there are fewer."""
        if not self.takes(octets):
            self._left = -1
            raise OverBudgetError

    @property
    def is_over(self) -> bool:
        """Whether something needed more than was left: what it would tell is unknown."""
        return self._left < 0


def in_c(octets: int) -> float:
    """Return what *octets* cost that only functions in C look at."""
    return octets / _C_OCTETS
