"""The pages of a program's regions as *rows*: runs of pages that no step of it tells apart.

A program is known before it runs, so the pages that its steps distinguish are known too: the
kernel's state is a few NumPy columns over rows, and its cost grows with the number of distinct
ranges, not with the size of the mappings. A long stretch that repeats itself (every 16th page
of 8 TiB touched) is *folded*: one period of it stands for all ``copies``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from refbench import program as p
from refbench.errors import Unsupported
from refbench_simulator.arrays import joined, slim, sorted_search
from refbench_simulator.cutting import (
    FOLD_FROM,
    MOST_ROWS,
    Cutter,
    Grain,
    Traits,
    reach_of,
)
from refbench_simulator.detail import Detail
from refbench_simulator.places import Pages, Reach
from refbench_simulator.regions import find_regions
from refbench_simulator.scattering import gathered


@dataclass(frozen=True, slots=True)
class Visit:
    """The rows that a step reaches, in the order of the first access to each."""

    rows: Pages
    reach: Reach
    places: int


class Rows:
    """The partition of all regions of a program, in the order of their addresses.

    Columns, one entry a row: ``page`` (number of its first page in the address space),
    ``length`` (pages), ``copies`` (how many equal rows it stands for, ``period`` pages apart)
    and ``region``. ``weight`` is length times copies.
    """

    def __init__(
        self,
        program: p.Program,
        grain: Grain,
        traits: Traits,
        fold_from: int = FOLD_FROM,
        detail: Detail = Detail(),  # noqa: B008 - it is frozen
    ) -> None:
        self.page_size = grain.page_size
        self.regions = find_regions(program, grain.page_size)
        if traits.ordered:
            detail = replace(detail, ordered=True)
        self.ordered = detail.ordered
        self._reach = reach_of(traits, fold_from, detail)
        cutter = Cutter(program, self.regions, grain, traits, fold_from, detail)
        pieces = [cutter.cut(region) for region in self.regions.values()]
        self.scatters = cutter.scatters
        """Ranges whose touched pages are taken to lie end to end."""
        self.first: dict[int, int] = {}
        self.behind: dict[int, int] = {}
        at = 0
        for region, piece in zip(self.regions.values(), pieces, strict=True):
            self.first[region.number] = at
            at += piece.page.size
            self.behind[region.number] = at
        if at > MOST_ROWS:
            raise Unsupported(
                f"The program tells {at} runs of pages apart; the model takes {MOST_ROWS}.",
                remedy="Use fewer random touches, or strides that are a power of two.",
            )
        self.page: Pages = joined([piece.page for piece in pieces])
        self.length: Pages = joined([piece.length for piece in pieces])
        self.copies: Pages = slim(joined([piece.copies for piece in pieces]))
        self.period: Pages = slim(joined([piece.period for piece in pieces]))
        self.folded = bool(self.copies.size) and int(self.copies.max()) > 1
        """Whether any row stands for several."""
        self.weight: Pages = self.length * self.copies if self.folded else self.length
        numbers = [np.broadcast_to(piece.region, piece.page.shape) for piece in pieces]
        self.region: Pages = joined(numbers)
        self.last = self._behind()
        """One behind the last page of the last copy."""
        self.huge = grain.huge
        self.unit: Pages = self.page // (grain.huge or 1)
        """The aligned range, as long as a huge page, that a row lies in, or the first of them."""
        self._visits: dict[int, tuple[object, Visit]] = {}

    def __len__(self) -> int:
        return int(self.page.size)

    def _behind(self) -> Pages:
        if self.folded or len(self.regions) != 1:
            return self.page + self.length + (self.copies - 1) * self.period
        # Each row ends where the next one begins: one column is enough for both.
        edges = np.append(self.page, self.page[-1:] + self.length[-1:])
        self.page = edges[:-1]
        return edges[1:]

    def of(self, region: int) -> slice:
        """All rows of a region."""
        return slice(self.first[region], self.behind[region])

    def between(self, region: int, offset: int, length: int) -> slice:
        """The rows of a range of a region, in bytes; a part of a page counts as a whole."""
        base = self.regions[region].base // self.page_size
        low = base + offset // self.page_size
        high = base - (-(offset + length) // self.page_size)
        mine = self.page[self.of(region)]
        found = np.searchsorted(mine, (low, high))
        return slice(self.first[region] + int(found[0]), self.first[region] + int(found[1]))

    def visit(self, step: p.Touch | p.Expect) -> Visit:
        """The rows of a touch or a check."""
        known = self._visits.get(id(step))
        if known is None:
            # The step is kept with its visit, so that its id stays its own.
            known = self._visits[id(step)] = (step, self._find(step))
        return known[1]

    def _find(self, step: p.Touch | p.Expect) -> Visit:
        return self.reached(step.region, self._reach(step))

    def parts(self, region: int, found: Reach) -> list[Reach]:
        """Places in a region, where their pages are taken to lie."""
        scatters = [scatter for scatter in self.scatters if scatter.region == region]
        if found.chosen is None or not scatters:
            return [found]
        return gathered(found, scatters, self.page_size)

    def reached(self, region: int, found: Reach) -> Visit:
        """The rows of places in a region."""
        parts = self.parts(region, found)
        if len(parts) == 1 and parts[0] is found:
            return self._reached(region, found)
        rows = np.concatenate([self._reached(region, part).rows for part in parts])
        return Visit(rows, replace(found, sorted=True), found.count)

    def _reached(self, region: int, found: Reach) -> Visit:
        base = self.regions[region].base // self.page_size
        mine = self.of(region)
        pages = self.page[mine] - base
        if found.chosen is not None:
            rows = self._in_order(pages, found)
        else:
            low, high = found.bounds(self.page_size)
            start, stop = np.searchsorted(pages, (low, high))
            hit = found.touches(pages[start:stop], self.page_size)
            rows = int(start) + np.flatnonzero(hit)
            if found.backward:
                behind = pages[rows] + self.length[mine][rows]
                # The bytes of one place are accessed by ascending address all the same.
                place = -(-(behind * self.page_size - found.offset) // found.stride)
                rows = rows[np.lexsort((rows, -np.minimum(place, found.last)))]
        return Visit(mine.start + rows, found, found.short or found.count)

    def _in_order(self, pages: Pages, found: Reach) -> Pages:
        assert found.chosen is not None
        low, high = found.pages_of(found.chosen, self.page_size)
        start = sorted_search(pages, low + 1) - 1
        stop = sorted_search(pages, high)
        if np.all(stop - start == 1):
            rows = start
        else:
            counts = stop - start
            inside = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            rows = np.repeat(start, counts) + inside
        first = np.full(pages.size, rows.size, np.int32)
        number = np.arange(rows.size, dtype=np.int32)
        first[rows[::-1]] = number[::-1]
        return np.asarray(rows[first[rows] == number], dtype=np.int64)
