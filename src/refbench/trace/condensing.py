"""What of a heap trace a program needs, as operations in the order in which they happened.

Most hand-outs reach pages that the program has stored to before: whoever fills them changes no
page's state. Only their bytes are counted (:class:`Again`). Of the others, ranges that follow one
another without a change of the memory in between are put together, ahead of the first touches
among which they happened, unless such a touch was a load of the same page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench.program import Past
from refbench.trace.format import Events, Kind
from refbench.trace.heap import NEVER, Heap

Index = NDArray[np.int64]

READ, WRITTEN, FRESH, REUSED, PURGED, AFTER = 1, 2, 4, 8, 16, 32
"""What happened to a page since it was clean: touched, and handed out with that past. Bits;
``AFTER``: it was purged since it was mapped."""
_PASTS: tuple[Past, ...] = ("fresh", "purged", "reused")
"""In this order they are told, so that none makes a later one superfluous."""
_FRESH, _PURGED, _REUSED = range(3)
_FILLED = np.array([FRESH, PURGED, REUSED], np.uint8)
_ENOUGH = np.array(
    [WRITTEN | FRESH | PURGED | REUSED, WRITTEN | PURGED | REUSED, WRITTEN | REUSED], np.uint8
)
"""By past: the bits of which one means that every mechanism which would fill the page now has
stored to it already."""
_PASTS_OF = np.full(max(Kind) + 1, -1, np.int64)
"""The past of what each kind of event hands out; -1: it hands out nothing that is filled. That of
fresh memory is :data:`_PURGED` where it was purged."""
_PASTS_OF[[Kind.BLOCK_FRESH, Kind.SPAN_FRESH, Kind.AGAIN_FRESH]] = _FRESH
_PASTS_OF[[Kind.BLOCK_REUSED, Kind.SPAN_REUSED, Kind.AGAIN_REUSED]] = _REUSED
_PASTS_OF[Kind.AGAIN_PURGED] = _PURGED
_TURNS = (Kind.MAP, Kind.MAP_ZERO, Kind.UNMAP, Kind.PURGE)
_AGAIN_FROM = 16
"""Pages' worth of bytes from which repeated filling is told."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """Region ``region`` of ``size`` bytes is mapped; numbers are used again. ``zero``: it is no
    mechanism's, but plain memory for large callocs."""

    region: int
    size: int
    zero: bool


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A range of a region is unmapped; ``whole``: nothing is left of it."""

    region: int
    offset: int
    length: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Purged:
    """The pages of a range are clean again."""

    region: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Touched:
    """First touches of ``pages`` pages from ``page`` on, upwards or downwards."""

    region: int
    page: int
    pages: int
    store: bool
    backward: bool = False


@dataclass(frozen=True, slots=True)
class HandedOut:
    """A range whose pages nobody has stored to for all mechanisms."""

    region: int
    offset: int
    length: int
    past: Past


@dataclass(frozen=True, slots=True)
class Again:
    """``size`` bytes of hand-outs that reach stored-to pages alone; ``page`` is one such page."""

    region: int
    page: int
    size: int
    past: Past


@dataclass(frozen=True, slots=True)
class Peak:
    """Here ``pages`` pages are stored to: more than ever before."""

    pages: int


@dataclass(frozen=True, slots=True)
class Barrier:
    """Nothing from behind may come before what is in front."""


Operation = Mapped | Unmapped | Purged | Touched | HandedOut | Again | Peak | Barrier


def condense(blocks: Iterable[Events], page_size: int) -> Iterator[list[Operation]]:
    """The operations of a trace, block by block, for pages of ``page_size`` bytes."""
    condenser = _Condenser(page_size)
    for events in blocks:
        condenser.block(events)
        yield condenser.taken()
    condenser.end()
    yield condenser.taken()


class _Condenser:
    """Pages are numbered by the :class:`Heap`; ``low`` and ``high`` are bytes of these."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.heap = Heap(page_size)
        self.told: list[Operation] = []
        self.owed = [0, 0, 0]
        """Bytes of hand-outs to pages that are stored to, by past."""
        self.window = -1
        """A page that is stored to."""
        self.resident = self.most = 0
        self.ranges: list[tuple[int, int, int]] = []
        """Hand-outs that are not told yet: past, low, high."""
        self.touches: list[tuple[int, bool]] = []
        """First touches that are not: page, whether it was a store."""
        self.loaded: set[int] = set()
        """Pages among these that were loaded from alone."""

    def taken(self) -> list[Operation]:
        """What was told since the last call."""
        told, self.told = self.told, []
        return told

    def block(self, events: Events) -> None:
        """One block: its segments, between which the mapped memory changes."""
        turns = np.isin(events.kind, _TURNS)
        at = 0
        for turn in [*np.flatnonzero(turns).tolist(), len(events)]:
            if turn > at:
                self._segment(events, slice(at, turn))
            self._flush()
            if turn < len(events):
                kind = Kind(int(events.kind[turn]))
                self._turn(kind, int(events.address[turn]), int(events.length[turn]))
            at = turn + 1

    def end(self) -> None:
        """What is still owed."""
        self._pay(1)

    # -- the memory as such ----------------------------------------------------------------

    def _turn(self, kind: Kind, address: int, length: int) -> None:
        if kind == Kind.PURGE:
            for region, first, behind in self.heap.inside(address, length):
                self._clean(region.start + first, region.start + behind)
                self.heap.bits[region.start + first : region.start + behind] = AFTER
                self.told.append(Purged(region.number, *self._bytes(first, behind)))
            return
        for region, first, behind in self.heap.inside(address, length):
            self._clean(region.start + first, region.start + behind)
            whole = self.heap.remove(region, first, behind)
            self.told.append(Unmapped(region.number, *self._bytes(first, behind), whole))
        if kind != Kind.UNMAP:
            zero = kind == Kind.MAP_ZERO
            region = self.heap.add(address, length, zero=zero)
            self.told.append(Mapped(region.number, region.pages * self.page_size, zero))

    def _bytes(self, first: int, behind: int) -> tuple[int, int]:
        return first * self.page_size, (behind - first) * self.page_size

    def _clean(self, first: int, behind: int) -> None:
        bits = self.heap.bits[first:behind]
        self.resident -= int(np.count_nonzero(bits & WRITTEN))
        bits[:] = 0
        if first <= self.window < behind:
            self.window = -1

    # -- what happens in it ----------------------------------------------------------------

    def _segment(self, events: Events, part: slice) -> None:
        kind, address, length = events.kind[part], events.address[part], events.length[part]
        at, page, store = self._touches(kind, address, length)
        # Of several stores to a page the first one stays.
        self.heap.stamp[page[store][::-1]] = at[store][::-1]
        order = 0
        for when, past, low, high in self._cold(kind, address, length):
            while order < at.size and at[order] < when:
                self._touch(int(page[order]), store=bool(store[order]))
                order += 1
            self._hand_out(past, low, high)
        for number, stores in zip(page[order:].tolist(), store[order:].tolist(), strict=True):
            self._touch(number, store=stores)
        self.heap.stamp[page[store]] = NEVER

    def _touches(
        self, kind: NDArray[np.uint8], address: Index, length: Index
    ) -> tuple[Index, Index, NDArray[np.bool_]]:
        """When, which page, and whether it was a store."""
        at = np.flatnonzero((kind == Kind.READ) | (kind == Kind.WRITE))
        page, mapped = self.heap.find(address[at])
        at, page = at[mapped], page[mapped]
        counts = np.maximum(length[at] // self.page_size, 1)
        if counts.size and int(counts.max()) > 1:
            inside = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            at, page = np.repeat(at, counts), np.repeat(page, counts) + inside
        return at, page, kind[at] == Kind.WRITE

    def _cold(
        self, kind: NDArray[np.uint8], address: Index, length: Index
    ) -> list[tuple[int, int, int, int]]:
        """Hand-outs that may reach a page which is not stored to: when, past, low, high. The
        bytes of the others are counted."""
        pasts = _PASTS_OF[kind]
        at = np.flatnonzero((pasts >= 0) & (length > 0))
        again = kind[at] >= Kind.AGAIN_FRESH
        self._owe(pasts[at[again]], length[at[again]])
        at = at[~again]
        low, mapped = self.heap.find_byte(address[at])
        high, ends = self.heap.find_byte(address[at] + length[at] - 1)
        high += 1
        good = mapped & ends & (high - low == length[at])
        purged = (self.heap.bits[low // self.page_size] & AFTER) != 0
        pasts[at[good & purged & (pasts[at] == _FRESH)]] = _PURGED
        odd = at[~good].tolist()
        at, low, high = at[good], low[good], high[good]
        hot = self._hot(at, pasts[at], low // self.page_size, (high - 1) // self.page_size)
        self._owe(pasts[at[hot]], (high - low)[hot])
        columns = (at, pasts[at], low, high)
        cold = list(zip(*(column[~hot].tolist() for column in columns), strict=True))
        if odd:
            # They reach over the end of a mapping.
            for i in odd:
                pieces = self.heap.pieces(int(address[i]), int(length[i]))
                cold += [(i, int(pasts[i]), *piece) for piece in pieces]
            cold.sort()
        return cold

    def _hot(self, at: Index, pasts: Index, first: Index, last: Index) -> NDArray[np.bool_]:
        """Whether all pages of hand-outs are stored to when they happen."""
        bits, stamp, enough = self.heap.bits, self.heap.stamp, _ENOUGH[pasts]
        hot = ((bits[first] & enough) != 0) | (stamp[first] < at)
        hot &= ((bits[last] & enough) != 0) | (stamp[last] < at)
        for i in np.flatnonzero(hot & (last - first > 1)).tolist():
            inside = slice(int(first[i]), int(last[i]))
            there = ((bits[inside] & enough[i]) != 0) | (stamp[inside] < at[i])
            hot[i] = bool(there.all())
        return np.asarray(hot, dtype=np.bool_)

    def _owe(self, pasts: Index, sizes: Index) -> None:
        for number in range(3):
            self.owed[number] += int(sizes[pasts == number].sum())

    def _hand_out(self, past: int, low: int, high: int) -> None:
        first, behind = low // self.page_size, -(-high // self.page_size)
        bits = self.heap.bits[first:behind]
        if past != _REUSED and behind - first > 1:
            turns = np.flatnonzero(np.diff(bits & AFTER))
            if turns.size:
                # Purged pages and others.
                cut = (first + int(turns[0]) + 1) * self.page_size
                self._hand_out(past, low, cut)
                past = _PURGED if int(self.heap.bits[cut // self.page_size]) & AFTER else _FRESH
                self._hand_out(past, cut, high)
                return
        if ((bits & _ENOUGH[past]) != 0).all():
            self.owed[past] += high - low
            return
        if self.loaded and not self.loaded.isdisjoint(range(first, behind)):
            self._settle()
            self._note_peak()
            self.told.append(Barrier())
        bits |= _FILLED[past]
        self.ranges.append((past, low, high))

    def _touch(self, page: int, *, store: bool) -> None:
        bits = int(self.heap.bits[page])
        if bits & WRITTEN or (not store and bits & READ):
            return
        self.heap.bits[page] = bits | (WRITTEN if store else READ)
        if store:
            self.resident += 1
            self.window = page
            self.loaded.discard(page)
        else:
            self.loaded.add(page)
        self.touches.append((page, store))

    # -- telling ---------------------------------------------------------------------------

    def _settle(self) -> None:
        """Tell what is pending, ahead of all that is still to come."""
        for past, low, high in _merged(self.ranges, self.page_size):
            region = self.heap.region_of(low // self.page_size)
            offset = low - region.start * self.page_size
            size = min(high - low, region.pages * self.page_size - offset)
            self.told.append(HandedOut(region.number, offset, size, _PASTS[past]))
        for page, count, store, backward in _runs(self.touches):
            region = self.heap.region_of(page)
            first = page - region.start
            self.told.append(Touched(region.number, first, count, store, backward))
        self.ranges.clear()
        self.touches.clear()
        self.loaded.clear()

    def _flush(self) -> None:
        self._settle()
        self._pay(_AGAIN_FROM * self.page_size)
        self._note_peak()

    def _note_peak(self) -> None:
        if self.resident > self.most:
            self.most = self.resident
            self.told.append(Peak(self.most))

    def _pay(self, least: int) -> None:
        """Tell of hand-outs to stored-to pages, when there is one and it is worth it."""
        if self.window < 0:
            return
        for past, owed in enumerate(self.owed):
            if owed >= least:
                region = self.heap.region_of(self.window)
                page = self.window - region.start
                self.told.append(Again(region.number, page, owed, _PASTS[past]))
                self.owed[past] = 0


def _merged(ranges: list[tuple[int, int, int]], page_size: int) -> Iterator[tuple[int, int, int]]:
    """Ranges of one past that overlap, or between which no page lies, as one."""
    current: tuple[int, int, int] | None = None
    for past, low, high in sorted(ranges):
        if current and past == current[0] and low // page_size <= -(-current[2] // page_size):
            current = (past, current[1], max(high, current[2]))
            continue
        if current:
            yield current
        current = (past, low, high)
    if current:
        yield current


def _runs(touches: list[tuple[int, bool]]) -> Iterator[tuple[int, int, bool, bool]]:
    """Lowest page, count, store, backward of touches that go up or down page by page."""
    at = 0
    while at < len(touches):
        page, store = touches[at]
        end = at + 1
        step = 0
        if end < len(touches) and touches[end][1] == store:
            step = touches[end][0] - page
        if step in (1, -1):
            while end < len(touches) and touches[end] == (page + step * (end - at), store):
                end += 1
        count = end - at
        backward = step == -1 and count > 1
        yield page - (count - 1 if backward else 0), count, store, backward
        at = end
