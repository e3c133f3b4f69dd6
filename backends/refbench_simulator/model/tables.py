"""Page tables: which table pages there are at each level, as columns over runs of tables.

A table page of the lowest level maps ``entries`` pages, one of the next as many tables, and so on
(include/asm-generic/pgtable-*.h). The top level is one page, which is always there and which
``mm_pgtables_bytes()`` does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench_simulator.arrays import ascending
from refbench_simulator.rows import Rows
from refbench_simulator.scattering import Scatter

Index = NDArray[np.int64]
Numbers = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Level:
    """Runs of tables of one level that rows do not tell apart."""

    first: Index
    """The number of the run's first table: page number divided by the pages a table maps."""
    count: Index
    """Tables of the run; for one in a fold, those of all its copies."""
    low: Numbers
    """For each row, the first run that it lies in, and ..."""
    high: Numbers
    """... one behind the last."""


class Layout:
    """The tables that a program's rows can need: below the top level, lowest level first."""

    def __init__(self, rows: Rows, entries: int, levels: int = 3) -> None:
        self.levels = tuple(_level(rows, n, entries ** (n + 1)) for n in range(levels))


def _level(rows: Rows, number: int, span: int) -> Level:
    """Runs of tables, those of level ``number``, that map ``span`` pages each."""
    page, length, last = rows.page, rows.length, rows.last
    if rows.scatters:
        page, last = page.copy(), last.copy()
    for scatter in rows.scatters:
        # The touched pages and the others lie in the same tables, all over the range.
        at, base = _place(rows, scatter)
        last[at], page[at + 1] = base + scatter.high, base + scatter.low
    folded = (rows.copies > 1) & (rows.period % span == 0)
    behind = np.where(folded, page + length, last)
    low, high = page // span, -(-behind // span)
    # The first table under each row stands alone: a fault may end when there is only that. So
    # does one that a row does not fill.
    cuts = ascending(low, low + 1, behind // span, high, -(-page // span))
    first = cuts[:-1]
    count = np.diff(cuts)
    index_low = np.searchsorted(cuts, low).astype(np.int32)
    index_high = np.searchsorted(cuts, high).astype(np.int32)
    if folded.any():
        # What a folded row covers stands for as many tables as it has copies.
        spans = (index_high - index_low)[folded]
        start = np.repeat(index_low[folded], spans)
        number = np.arange(start.size) - np.repeat(np.cumsum(spans) - spans, spans)
        times = np.ones(first.size, np.int64)
        times[start + number] = np.repeat(rows.copies[folded], spans)
        count *= times
    for scatter in rows.scatters:
        at, _ = _place(rows, scatter)
        low_run = int(index_low[at])
        shown, there = scatter.tables[number], int(count[low_run : index_high[at]].sum())
        if shown < there:
            # One run of those that touched pages lie in, and one of all others.
            count[low_run], count[low_run + 1] = shown, there - shown
            index_high[at] = low_run + 1
    # The table at address 0 is there already: the process's own program and heap lie under it.
    count[first == 0] -= 1
    return Level(first, count, index_low, index_high)


def _place(rows: Rows, scatter: Scatter) -> tuple[int, int]:
    """The row of a scattered range's touched pages, and the page that its region begins at."""
    base = rows.regions[scatter.region].base // rows.page_size
    mine = rows.of(scatter.region)
    return mine.start + int(np.searchsorted(rows.page[mine], base + scatter.low)), base


class Tables:
    """Which of them one address space has."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.present = [np.zeros(level.first.size, np.bool_) for level in layout.levels]

    @property
    def count(self) -> int:
        """Table pages, all levels together: VmPTE in pages."""
        levels = zip(self.layout.levels, self.present, strict=True)
        return sum(int(level.count[there].sum()) for level, there in levels)

    def cover(self, rows: Index, lowest: int = 0) -> int:
        """Make what the entries of ``rows`` need, from level ``lowest`` up; how many are new."""
        made = 0
        for level, there in zip(self.layout.levels[lowest:], self.present[lowest:], strict=True):
            wanted = _marked(level.low[rows], level.high[rows], there.size)
            new = wanted & ~there
            made += int(level.count[new].sum())
            there[wanted] = True
        return made

    def cover_first(self, row: int, lowest: int = 0) -> int:
        """The same for the first page of one row: what a fault leaves behind that fails there."""
        made = 0
        for number in range(lowest, len(self.present)):
            level, there = self.layout.levels[number], self.present[number]
            at = int(level.low[row])
            made += 0 if there[at] else int(level.count[at])
            there[at] = True
        return made

    def has(self, rows: Index) -> NDArray[np.bool_]:
        """For each row, whether some lowest table under it is there."""
        level, there = self.layout.levels[0], self.present[0]
        sums = np.concatenate(([0], np.cumsum(there)))
        return np.asarray(sums[level.high[rows]] > sums[level.low[rows]])

    def drop(self, rows: Index) -> None:
        """Free the lowest tables under ``rows``, which lie in nothing else."""
        level, there = self.layout.levels[0], self.present[0]
        there &= ~_marked(level.low[rows], level.high[rows], there.size)

    def inherit(self, parent: Tables, rows: Index) -> int:
        """What fork(2) makes for a child: a table for each that ``rows`` have in the parent."""
        made = 0
        both = zip(self.layout.levels, self.present, parent.present, strict=True)
        for level, mine, theirs in both:
            new = _marked(level.low[rows], level.high[rows], mine.size) & theirs & ~mine
            made += int(level.count[new].sum())
            mine[new] = True
        return made

    def release(self, gone: Index, mapped: Index) -> int:
        """Free the tables under rows ``gone`` that no row of ``mapped`` lies in.

        ``free_pgtables()`` of mm/memory.c: between the VMAs that stay, everything goes.
        """
        freed = 0
        for level, there in zip(self.layout.levels, self.present, strict=True):
            touched = _marked(level.low[gone], level.high[gone], there.size)
            kept = _marked(level.low[mapped], level.high[mapped], there.size)
            dead = there & touched & ~kept
            freed += int(level.count[dead].sum())
            there[dead] = False
        return freed

    def reclaim(self, rows: Index, first: int, behind: int, entries: int) -> int:
        """Free lowest tables that lie as a whole in pages [first, behind), emptied just now.

        CONFIG_PT_RECLAIM, ``try_get_and_clear_pmd()`` of mm/pt_reclaim.c.
        """
        level, there = self.layout.levels[0], self.present[0]
        inside = _marked(level.low[rows], level.high[rows], there.size)
        inside &= (level.first * entries >= first) & ((level.first + 1) * entries <= behind)
        dead = there & inside
        there &= ~dead
        return int(level.count[dead].sum())


def _marked(low: Numbers, high: Numbers, size: int) -> NDArray[np.bool_]:
    """Entries that lie in one of the ranges [low, high)."""
    marks = np.bincount(low, minlength=size + 1) - np.bincount(high, minlength=size + 1)
    return np.asarray(np.cumsum(marks[:-1]) > 0)
