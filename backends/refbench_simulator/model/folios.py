"""Anonymous pages: a table with one line for each run of them.

Rows are the same in every address space and are moved whole, so the pages behind a row are one
run everywhere: ``mapcount`` is the number of address spaces (or rows) whose entries show it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

_FIRST = 1024


class Folios:
    """Columns: ``mapcount``, ``exclusive`` (PageAnonExclusive), ``content`` (an id of
    :mod:`refbench_simulator.content`), ``home`` (the page number at which it was made, the
    coordinate of its stamps), ``weight`` (pages), ``lazy`` (MADV_FREE), ``merged`` (a KSM page's
    number, 0: none), ``swapped``."""

    def __init__(self) -> None:
        self.mapcount = np.zeros(_FIRST, np.int32)
        self.exclusive = np.zeros(_FIRST, np.bool_)
        self.content = np.zeros(_FIRST, np.int32)
        self.home = np.zeros(_FIRST, np.int64)
        self.weight = np.zeros(_FIRST, np.int64)
        self.lazy = np.zeros(_FIRST, np.bool_)
        self.merged = np.zeros(_FIRST, np.int32)
        self.swapped = np.zeros(_FIRST, np.bool_)
        self._free: Ids = np.arange(_FIRST, dtype=np.int64)[::-1]
        self._left = _FIRST
        self.pages = 0
        """Pages that are allocated now."""

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
        self.lazy[ids] = False
        self.merged[ids] = 0
        self.swapped[ids] = False
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
        freed = int(self.weight[dead].sum())
        self.pages -= freed
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


_COLUMNS = ("mapcount", "exclusive", "content", "home", "weight", "lazy", "merged", "swapped")
