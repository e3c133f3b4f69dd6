"""The model of ``native/mechanisms/ranges.c``: which rows a mechanism's handler feels bound to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench.errors import LimitHit

MOST_RANGES = 65536
"""``RB_MOST_RANGES`` of ``native/mechanisms/ranges.h``."""


class Ranges:
    """Whether each row is in one, and where ranges begin."""

    def __init__(self, rows: int) -> None:
        self.inside = np.zeros(rows, np.bool_)
        self.begins = np.zeros(rows, np.bool_)

    def copy(self) -> Ranges:
        """A forked child's own."""
        other = Ranges(0)
        other.inside, other.begins = self.inside.copy(), self.begins.copy()
        return other

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.begins.sum())

    def add(self, rows: slice) -> None:
        """:raises LimitHit: when the table is full."""
        if self.count >= MOST_RANGES:
            raise LimitHit(
                f"This mechanism's table has room for {MOST_RANGES} mappings at a time.",
                wanted=MOST_RANGES + 1,
                limit=MOST_RANGES,
                remedy="Map fewer and larger regions.",
            )
        self.inside[rows] = True
        self.begins[rows.start] = True

    def remove(self, rows: slice) -> None:
        """What is left of a range behind the removed part begins anew."""
        after = rows.stop
        if after < self.inside.size and self.inside[after] and self.inside[after - 1]:
            self.begins[after] = True
        self.inside[rows] = False
        self.begins[rows] = False

    def slices(self) -> list[slice]:
        """Every range as rows."""
        found = []
        starts = np.flatnonzero(self.begins).tolist()
        for start in starts:
            ends = ~self.inside[start + 1 :] | self.begins[start + 1 :]
            length = int(ends.argmax()) if ends.any() else ends.size
            found.append(slice(start, start + 1 + length))
        return found

    def contain(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each row is in one."""
        return np.asarray(self.inside[rows])
