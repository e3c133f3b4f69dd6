"""Anonymous pages: a table with one line for each run of them.

Rows are the same in every address space and are moved whole, so the pages behind a row are one
run everywhere: ``mapcount`` is the number of address spaces (or rows) whose entries show it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

_FIRST = 1024
LAZY = 1
"""Given up by MADV_FREE."""
KEPT = 2
"""The same, but stored to since."""


class Folios:
    """Columns: ``mapcount``, ``exclusive`` (PageAnonExclusive), ``content`` (an id of
    :mod:`refbench_simulator.content`), ``home`` (the page number at which it was made, the
    coordinate of its stamps), ``weight`` (pages), ``lazy`` (MADV_FREE: :data:`LAZY` or
    :data:`KEPT`), ``merged`` (a KSM page's number, 0: none), ``swapped`` (in swap alone),
    ``group`` (of a part of a huge page: the number of the huge page, or of a run of them; else
    0), ``seen`` (when it was accessed last, by :attr:`clock`)."""

    def __init__(self) -> None:
        self.mapcount = np.zeros(_FIRST, np.int32)
        self.exclusive = np.zeros(_FIRST, np.bool_)
        self.content = np.zeros(_FIRST, np.int32)
        self.home = np.zeros(_FIRST, np.int64)
        self.weight = np.zeros(_FIRST, np.int64)
        self.lazy = np.zeros(_FIRST, np.uint8)
        self.merged = np.zeros(_FIRST, np.int32)
        self.swapped = np.zeros(_FIRST, np.bool_)
        self.group = np.zeros(_FIRST, np.int64)
        self.seen = np.zeros(_FIRST, np.int64)
        self.clock = 0
        self._free: Ids = np.arange(_FIRST, dtype=np.int64)[::-1]
        self._left = _FIRST
        self.pages = 0
        """Pages that are shown by something, those in swap too."""
        self.out = 0
        """Those in swap."""
        self.deferred = 0
        """Pages of huge pages that nothing shows any more, while it does show other parts:
        ``deferred_split_folio()`` of mm/huge_memory.c keeps them until memory is short."""
        self.groups = 1
        """One behind the highest number of a huge page."""
        self.alive = np.zeros(_FIRST, np.int64)
        """For each huge page: lines of it that are still there, and ..."""
        self.held = np.zeros(_FIRST, np.int64)
        """... pages of it among :attr:`deferred`."""

    def make(self, content: NDArray[np.int32] | int, home: Ids, weight: Ids) -> Ids:
        """New exclusive folios, mapped once; their ids."""
        count = home.size
        if count > self._left:
            self._grow(count)
        ids = self._free[self._left - count : self._left][::-1].copy()
        self._left -= count
        self.mapcount[ids] = 1
        self.exclusive[ids] = True
        self.content[ids] = content
        self.home[ids] = home
        self.weight[ids] = weight
        self.lazy[ids] = 0
        self.merged[ids] = 0
        self.swapped[ids] = False
        self.group[ids] = 0
        self.seen[ids] = self.clock
        self.pages += int(weight.sum())
        return ids

    def share(self, ids: Ids) -> None:
        """One more mapping of each: what fork(2) does to a page that it copies the entry of."""
        self.mapcount[ids] += 1
        self.exclusive[ids] = False

    def drop(self, ids: Ids) -> int:
        """One mapping less of each; how many pages that frees."""
        self.mapcount[ids] -= 1
        dead = ids[self.mapcount[ids] == 0]
        if not dead.size:
            return 0
        self._free[self._left : self._left + dead.size] = dead[::-1]
        self._left += dead.size
        weight = self.weight[dead]
        self.pages -= int(weight.sum())
        away = self.swapped[dead]
        if away.any():
            self.out -= int(weight[away].sum())
            weight = np.where(away, 0, weight)
        group = self.group[dead]
        if not group.any():
            return int(weight.sum())
        self.group[dead] = 0
        np.subtract.at(self.alive, group[group > 0], 1)
        np.add.at(self.held, group[group > 0], weight[group > 0])
        self.deferred += int(weight[group > 0].sum())
        gone = np.unique(group[group > 0])
        return int(weight[group == 0].sum()) + self._let_go(gone[self.alive[gone] == 0])

    def bind(self, ids: Ids, counts: Ids) -> None:
        """Make huge pages of ``ids``: as many of them at a time as ``counts`` says."""
        numbers = np.arange(self.groups, self.groups + counts.size)
        self.groups += counts.size
        if self.groups > self.alive.size:
            more = np.zeros(2 * self.groups - self.alive.size, np.int64)
            self.alive = np.concatenate((self.alive, more))
            self.held = np.concatenate((self.held, more))
        self.alive[numbers] = counts
        self.held[numbers] = 0
        self.group[ids] = np.repeat(numbers, counts)

    def unbind(self, ids: Ids) -> int:
        """Break up the huge pages that ``ids``, all lines of them, are parts of; how many pages
        that frees."""
        gone = np.unique(self.group[ids])
        self.group[ids] = 0
        self.alive[gone] = 0
        return self._let_go(gone)

    def _let_go(self, groups: Ids) -> int:
        freed = int(self.held[groups].sum())
        self.held[groups] = 0
        self.deferred -= freed
        return freed

    def _grow(self, count: int) -> None:
        old = self.mapcount.size
        size = max(2 * old, old + count)
        for name in _COLUMNS:
            column = getattr(self, name)
            wider = np.zeros(size, column.dtype)
            wider[:old] = column
            setattr(self, name, wider)
        free = np.zeros(size, np.int64)
        fresh = np.arange(size - 1, old - 1, -1, dtype=np.int64)
        free[: fresh.size] = fresh
        free[fresh.size : fresh.size + self._left] = self._free[: self._left]
        self._free = free
        self._left += fresh.size


_COLUMNS = (
    "mapcount",
    "exclusive",
    "content",
    "home",
    "weight",
    "lazy",
    "merged",
    "swapped",
    "group",
    "seen",
)
