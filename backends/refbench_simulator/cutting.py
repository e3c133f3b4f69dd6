"""Where rows begin: the pages that the steps of a program, and the kernel, tell apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from refbench import program as p
from refbench.errors import Unsupported
from refbench_simulator.arrays import ascending, joined
from refbench_simulator.detail import Detail
from refbench_simulator.places import MOST_ORDERED, Pages, Reach, reach
from refbench_simulator.regions import RANGED, Region, everything
from refbench_simulator.scattering import Scatter, lone_touch, scattered, touched

MOST_ROWS = 1 << 23
"""Rows that one program may have: some 300 MB of columns."""
LEVELS = 3
"""Levels of page tables below the top one."""
MOST_SINGLE = 1 << 18
"""Pages of a region that are told apart one by one where MADV_PAGEOUT meets blocks of a file."""
MOST_CHAIN = 16
"""Moves of a program up to which all their combinations are followed."""
FOLD_FROM = 1 << 15
"""Places of one regular touch from which a region is folded."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a mechanism adds to what a program tells apart."""

    block: int = 0
    """Pages of the file that it maps again and again; 0: it does not."""
    file: bool = False
    """Whether loads map several pages of a file at once (fault-around)."""
    apart: bool = False
    """Whether the first and the last page of a run fare differently from those between."""
    pageless: bool = False  # the kernel's own loads of a run end at its first page
    ordered: bool = False
    """Whether much depends on the order of touches."""
    most: int = 0
    """Touches of random pages behind which it is likely to be at its end; 0: any number."""
    fold: bool = True
    """Whether all copies of a repeating stretch fare alike."""


@dataclass(frozen=True, slots=True)
class Grain:
    """What the modelled kernel adds to what a program tells apart, in pages."""

    page_size: int
    around: int
    entries: int
    huge: int = 0
    """Pages of a huge page when they may be used, else 0."""
    most: int = 0
    """The most pages that a row may have, where memory can run out; 0: any number."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of one region, as :class:`refbench_simulator.rows.Rows` has them."""

    region: int
    page: Pages
    length: Pages
    copies: Pages
    period: Pages


def reach_of(
    traits: Traits, fold_from: int, detail: Detail
) -> Callable[[p.Touch | p.Expect], Reach]:
    """How the places of steps are found: :func:`refbench_simulator.places.reach`."""
    ordered = MOST_ORDERED if detail.ordered else min(fold_from, MOST_ORDERED)
    most = 0 if detail.whole else traits.most
    return partial(reach, most_ordered=ordered, most=most)


def _places(touch: p.Touch) -> int:
    return -(-touch.length // touch.stride)


class Cutter:
    """Finds the cuts of every region: page numbers, from the region's start."""

    def __init__(
        self,
        program: p.Program,
        regions: dict[int, Region],
        grain: Grain,
        traits: Traits,
        fold_from: int,
        detail: Detail,
    ) -> None:
        self.grain, self.traits, self.fold_from = grain, traits, fold_from
        self.detail = detail
        self.reach = reach_of(traits, fold_from, detail)
        self.margin = grain.around if traits.file else 0
        """Pages behind a cut in which it makes another."""
        self.regions = regions
        self.fixed: dict[int, list[Pages]] = {number: [] for number in regions}
        self.regular: dict[int, list[Reach]] = {number: [] for number in regions}
        self.scatters: list[Scatter] = []
        self.lone: dict[int, p.Touch] = {}
        self.links: list[p.Remap] = []
        self.moved: set[int] = set()
        # Which pages of a block nothing else shows differs from page to page.
        self.single = any(
            isinstance(step, p.Advise) and step.advice == "pageout"
            for step in everything(program.steps)
        )
        self._find_lone(list(everything(program.steps)))
        for top in program.steps:
            for step in everything((top,)):
                self._note(step)
            if isinstance(top, p.Touch) and self.reach(top).short and not program.observe_all:
                break  # The signal that ends it is likely to end the run, too.
        for region in regions.values():
            pages = [0, *(size // grain.page_size for size in region.sizes)]
            self.fixed[region.number].append(np.array(pages, np.int64))
        for number, page in detail.cuts:
            base = regions[number].base // grain.page_size
            self.fixed[number].append(np.array([page - base], np.int64))
        if self.links:
            self._cut_file_ends()
            self._cut_tables()
            self._follow_links()

    def cut(self, region: Region) -> Piece:
        """The rows of one region."""
        pages = region.most // self.grain.page_size
        bounds = ascending(*self.fixed[region.number])
        bounds = bounds[(bounds >= 0) & (bounds <= pages)]
        parts = list(self._parts(region, bounds, pages))
        page, length, copies, period = (joined(list(x)) for x in zip(*parts, strict=True))
        base = region.base // self.grain.page_size
        return Piece(region.number, base + page, length, copies, period)

    def _parts(self, region: Region, bounds: Pages, pages: int) -> Iterator[tuple[Pages, ...]]:
        if region.number in self.moved:
            # Its cuts are those of the regions that it is moved from and to: no more, no less.
            one = np.ones(bounds.size - 1, np.int64)
            yield bounds[:-1], np.diff(bounds), one, 0 * one
            return
        regular = self.regular[region.number]
        if region.number in self.lone:
            yield from self._scattered(region, bounds)
            return
        folds = self.traits.fold and bounds.size < 4096
        folds = folds and region.number not in self.detail.unfolded and not self.grain.most
        if not folds or not any(found.count >= self.fold_from for found in regular):
            yield self._plain(region.number, 0, pages, bounds)
            return
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            inside = bounds[np.searchsorted(bounds, low - self.margin) :]
            period = self._period(regular, low, high)
            phase = self._phase(region, period)
            start = ((low + self.margin - (phase or 0)) // period + 1) * period + (phase or 0)
            copies = (high - start) // period - 1
            if copies < 2 or phase is None:
                yield self._plain(region.number, low, high, inside)
                continue
            behind = start + copies * period
            yield self._plain(region.number, low, start, inside)
            yield self._plain(region.number, start, start + period, inside, copies, period)
            yield self._plain(region.number, behind, high, inside)

    def _find_lone(self, steps: list[p.Step]) -> None:
        """Regions of whose pages only one large random touch tells some from the others."""
        grain, traits = self.grain, self.traits
        if self.detail.ordered or not traits.fold or traits.block or traits.apart:
            return
        if grain.huge or grain.most:
            return
        for number in self.regions:
            touch = lone_touch(steps, number, grain.page_size, by_window=traits.file)
            if touch is not None and self.fold_from <= touch.count < _places(touch):
                self.lone[number] = touch

    def _scattered(self, region: Region, bounds: Pages) -> Iterator[tuple[Pages, ...]]:
        pages = touched(self.lone[region.number], self.grain.page_size)
        base = region.base // self.grain.page_size
        spans = [int(self.grain.entries**level) for level in range(1, LEVELS + 1)]
        for low, high in pairwise(bounds.tolist()):
            found = scattered(region.number, base, low, high, pages, spans)
            if found is None:
                yield self._around(pages, low, high)
                continue
            self.scatters.append(found)
            yield self._around(pages, low, found.low)
            edges = np.array([found.low, found.low + found.pages, found.high], np.int64)
            one = np.ones(2, np.int64)
            yield edges[:-1], np.diff(edges), one, 0 * one
            yield self._around(pages, found.high, high)

    def _around(self, pages: Pages, low: int, high: int) -> tuple[Pages, ...]:
        """The rows of a range some of whose pages are told apart from the others."""
        mine = pages[slice(*np.searchsorted(pages, (low, high)))]
        cuts = ascending(np.array([low, high], np.int64), mine, mine + 1)
        one = np.ones(cuts.size - 1, np.int64)
        return cuts[:-1], np.diff(cuts), one, 0 * one

    def _period(self, regular: list[Reach], low: int, high: int) -> int:
        size = self.grain.page_size
        period = math.lcm(self.grain.entries, self.traits.block or 1, self.grain.huge or 1)
        for found in regular:
            first, behind = found.bounds(size)
            if first < high and low < behind:
                period = math.lcm(period, math.lcm(found.stride, size) // size)
        # Each table of a higher level must see the same part of a copy, or whole copies.
        for level in range(2, LEVELS + 1):
            span = self.grain.entries**level
            if period > span:
                period = math.lcm(period, span)
        return period

    def _phase(self, region: Region, period: int) -> int | None:
        """Where in a period a copy begins: with a page table of each level that a copy spans
        whole tables of, and with a block; None when these never coincide."""
        entries, block = self.grain.entries, self.traits.block or 1
        spans = [1, *(int(entries**level) for level in range(1, LEVELS + 1))]
        whole = max(span for span in spans if period % span == 0)
        first = -(region.base // self.grain.page_size) % whole
        for number in range(block // math.gcd(block, whole)):
            if (first + number * whole) % block == 0:
                return (first + number * whole) % period
        return None

    def _plain(
        self,
        number: int,
        low: int,
        high: int,
        bounds: Pages,
        copies: int = 1,
        period: int = 0,
    ) -> tuple[Pages, ...]:
        cuts = [np.array([low, high], np.int64), bounds[: np.searchsorted(bounds, high)]]
        near = low - self.margin
        cuts += [self._cuts_of(found, near, high) for found in self.regular[number]]
        if self.traits.block:
            block = self.traits.block
            cuts.append(np.arange(-(-near // block) * block, high, block, dtype=np.int64))
            if self.single and high - low <= MOST_SINGLE:
                cuts.append(np.arange(low, high, dtype=np.int64))
        if most := self.grain.most:
            cuts.append(np.arange(-(-low // most) * most, high, most, dtype=np.int64))
        found = ascending(*cuts)
        if self.traits.apart:
            found = ascending(found, found + 1, found - 1)
        found = self._widened(number, found)
        found = found[np.searchsorted(found, low) : np.searchsorted(found, high, side="right")]
        starts, lengths = found[:-1], np.diff(found)
        same = starts.shape
        return starts, lengths, np.broadcast_to(copies, same), np.broadcast_to(period, same)

    def _cuts_of(self, found: Reach, low: int, high: int) -> Pages:
        """Where touched pages begin and end, within [low, high)."""
        size, stride = self.grain.page_size, found.stride
        first = max(found.first, (low * size - found.offset - found.size) // stride)
        last = min(found.last, (high * size - found.offset) // stride + 1)
        if last <= first:
            return np.zeros(0, np.int64)
        if last - first > MOST_ROWS:
            raise Unsupported(
                f"A stride of {stride} bytes does not repeat itself within {high - low} pages.",
                remedy="Use a stride that is a power of two, or a smaller range.",
            )
        start, behind = found.pages_of(np.arange(first, last, dtype=np.int64), size)
        if self.traits.apart:
            return np.concatenate((start, start + 1, behind - 1, behind))
        return np.concatenate((start, behind))

    def _widened(self, number: int, cuts: Pages) -> Pages:
        """Fault-around maps aligned windows, or from a VMA's start on; huge pages are aligned."""
        more = [cuts]
        if self.traits.file:
            around = self.grain.around
            more += [cuts // around * around, -(-cuts // around) * around]
            odd = cuts[cuts % around != 0] + around
            more += [odd, -(-odd // around) * around]
        if huge := self.grain.huge:
            # A region behind another one may begin anywhere.
            base = self.regions[number].base // self.grain.page_size
            at = cuts + base
            more += [at // huge * huge - base, -(-at // huge) * huge - base]
        return ascending(*more) if len(more) > 1 else cuts

    def _note(self, step: p.Step) -> None:
        match step:
            case p.Touch() if step == self.lone.get(step.region):
                self._range(step.region, step.offset, step.length)
            case p.Touch() | p.Expect():
                both = isinstance(step, p.Touch) and step.access == "readwrite"
                found = self.reach(step)
                self._note_places(step.region, found, edges=both or self.traits.apart)
            case p.Protect() if step.protection == "read":
                # A place that may be loaded from alone ends a touch that does both.
                self._range(step.region, step.offset, step.length, edges=True)
            case p.Remap():
                self._range(step.region, step.offset, step.length)
                self._range(step.target, 0, min(step.length, step.new_length or step.length))
                self.links.append(step)
                self.moved |= {step.region, step.target}
            case p.Handout():
                self._range(step.region, step.offset, step.length, edges=True)
            case _ if isinstance(step, RANGED):
                self._range(step.region, step.offset, step.length)

    def _cut_file_ends(self) -> None:
        """What a range grows by shows a file on, as far as the file goes: to where the end of a
        file, or of any block of it, has been moved."""
        block = self.traits.block
        ends: dict[int, set[int]] = {
            number: {size // self._size for size in region.sizes}
            for number, region in self.regions.items()
        }
        rests = {number: {0} for number in self.regions}
        # Ranges may be moved again and again, in loops too.
        for link in [*self.links] * (len(self.links) if len(self.links) < MOST_CHAIN else 1):
            offset, length = link.offset // self._size, -(-link.length // self._size)
            ends[link.target] |= {end - offset for end in ends[link.region] if end > offset}
            if not block:
                continue
            for rest in tuple(rests[link.region]):
                rests[link.target].add((rest - offset) % block)
                behind = offset + length + (rest - offset - length) % block
                ends[link.target].add(behind - offset)
        for number, found in ends.items():
            self.fixed[number].append(np.array(sorted(found), np.int64))

    def _cut_tables(self) -> None:
        """A page table is moved as one, if it lies in the range as a whole."""
        entries = self.grain.entries
        for number in self.moved:
            region = self.regions[number]
            first = -(region.base // self._size) % entries
            bounds = np.arange(first, region.most // self._size, entries, dtype=np.int64)
            if bounds.size <= MOST_CHAIN * entries:
                self.fixed[number].append(bounds)

    def _range(self, region: int, offset: int, length: int, *, edges: bool = False) -> None:
        size = self.grain.page_size
        pages = [offset // size, -(-(offset + length) // size)]
        if edges:
            pages += [pages[0] + 1, pages[1] - 1]
        self.fixed[region].append(np.array(pages, np.int64))

    def _note_places(self, region: int, found: Reach, *, edges: bool) -> None:
        size = self.grain.page_size
        first, behind = found.bounds(size)
        self.fixed[region].append(np.array([first, behind], np.int64))
        if edges:
            self.fixed[region].append(np.array([first + 1, behind - 1], np.int64))
        if found.chosen is not None:
            low, high = found.pages_of(found.chosen, size)
            self.fixed[region].append(ascending(low, high))
        elif found.stride > size or found.size > found.stride:
            self.regular[region].append(found)

    def _follow_links(self) -> None:
        """What is told apart in a range is told apart where it is moved to, and the other way."""
        cuts = {number: self._all_cuts(number) for number in self.moved}
        changed = True
        while changed:
            changed = False
            for link in self.links:
                for source, target, low, shift in self._ways(link):
                    length = -(-min(link.length, link.new_length or link.length) // self._size)
                    mine = cuts[source]
                    found = mine[(mine >= low) & (mine <= low + length)] + shift
                    union = np.union1d(cuts[target], self._widened(target, found))
                    changed |= union.size != cuts[target].size
                    cuts[target] = union
        for number, found in cuts.items():
            self.fixed[number] = [found]
            self.regular[number] = []

    @property
    def _size(self) -> int:
        return self.grain.page_size

    def _ways(self, link: p.Remap) -> Iterator[tuple[int, int, int, int]]:
        offset = link.offset // self._size
        yield link.region, link.target, offset, -offset
        yield link.target, link.region, 0, offset

    def _all_cuts(self, number: int) -> Pages:
        pages = self.regions[number].most // self._size
        bounds = ascending(*self.fixed[number])
        starts, lengths, _, _ = self._plain(number, 0, pages, bounds)
        return np.append(starts, starts[-1:] + lengths[-1:])
