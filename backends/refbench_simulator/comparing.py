"""Counting the wrong bytes of many pages without looking at each of them.

A check reads every so-many-th byte of a range, its *probes*. What should be there repeats with
the page, what is there is a base page with stamps on it (:mod:`refbench_simulator.stamps`).
Between the borders of stamps the bytes have one source, so the wrong ones among any number of
probes are a difference of two prefix sums over one page; and where all stamps are regular, a
stretch of the least common multiple of the strides stands for all that follow it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd, lcm
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refbench_simulator.stamps import Addresses, Stamp

Bytes = NDArray[np.uint8]


BASE = -1
"""The source of a byte that no stamp stored."""
MOST_BORDERS = 1 << 18
"""Borders of stamps that are worked out at a time: some 20 MB of columns."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The bytes that are looked at: every ``stride``-th from address ``start`` up to ``end``."""

    start: int
    stride: int
    end: int


class Wrong(NamedTuple):
    """How many bytes are wrong, and the first of them; ``address`` is None when none is."""

    errors: int
    address: int | None = None
    got: int = 0
    wanted: int = 0


class Windows(NamedTuple):
    """Ranges of addresses, ``low`` up to ``high``, that each stand for ``weight`` such ranges."""

    low: Addresses
    high: Addresses
    weight: Addresses

    def where(self, those: NDArray[np.bool_] | slice) -> Windows:
        """Some of them."""
        return Windows(self.low[those], self.high[those], self.weight[those])

    def within(self, low: int, high: int) -> Windows:
        """What of them lies in a range."""
        lows, highs = np.maximum(self.low, low), np.minimum(self.high, high)
        return Windows(lows, highs, self.weight).where(lows < highs)


def joined(parts: Sequence[Wrong]) -> Wrong:
    """All together, and the first by address."""
    bad = [(part.address, part) for part in parts if part.address is not None]
    if not bad:
        return Wrong(0)
    return min(bad)[1]._replace(errors=sum(part.errors for part in parts))


class Comparison:
    """One check: its probes and what they should find, one page of ``wanted`` bytes."""

    def __init__(self, page_size: int, probe: Probe, wanted: Bytes) -> None:
        self.size, self.probe = page_size, probe
        self.probes = max(0, -(-(probe.end - probe.start) // probe.stride))
        # Probes up to where they meet a page at the same byte again.
        self.cycle = page_size // gcd(page_size, probe.stride)
        where = np.arange(self.cycle, dtype=np.int64) * (probe.stride % page_size)
        self.offsets = (probe.start + where) % page_size
        self.wanted = wanted[self.offsets]
        self.base = self.wanted
        self._sums: dict[int, Addresses] = {}

    def of(
        self,
        base: Bytes,
        stamps: Sequence[Stamp],
        first_page: Addresses,
        pages: Addresses,
        copies: Addresses,
        period: Addresses,
    ) -> Wrong:
        """The wrong bytes of runs of pages that all hold ``stamps`` on the page ``base``."""
        self.base = base[self.offsets]
        self._sums.pop(BASE, None)
        low = first_page * self.size
        high = low + pages * self.size
        plain = copies == 1
        parts = [self._count(BASE, stamps, Windows(low[plain], high[plain], copies[plain]))]
        if not plain.all():
            combs = ~plain
            found = self._unfold_all(
                stamps, low[combs], high[combs], copies[combs], period[combs] * self.size
            )
            parts += [self._count(BASE, stamps, windows) for windows in found]
        return joined(parts)

    # -- windows -------------------------------------------------------------------------

    def _unfold_all(
        self,
        stamps: Sequence[Stamp],
        low: Addresses,
        high: Addresses,
        copies: Addresses,
        apart: Addresses,
    ) -> Iterator[Windows]:
        """Folded runs as windows: those at once that no edge cuts and that no edge parts."""
        ends = {self.probe.start, self.probe.end}
        ends |= {edge for stamp in stamps for edge in (stamp.low, stamp.high)}
        edges = np.array(sorted(ends), np.int64)
        behind = (copies - 1) * apart + high
        before = np.searchsorted(edges, low, side="right")
        alone = np.ones(low.size, np.bool_)
        whole = np.flatnonzero(before == np.searchsorted(edges, behind))
        groups = np.stack((before, copies, apart))[:, whole]
        for group in np.unique(groups, axis=1).T:
            mine = whole[(groups == group[:, None]).all(axis=0)]
            one = self._unfold(stamps, *(int(x[mine[0]]) for x in (low, high, copies, apart)))
            if one.low.size * mine.size > MOST_BORDERS:
                continue
            alone[mine] = False
            starts = (one.low - one.low[0])[None, :] + low[mine][:, None]
            lengths = (high - low)[mine][:, None]
            weights = np.broadcast_to(one.weight, starts.shape)
            yield Windows(starts.ravel(), (starts + lengths).ravel(), weights.ravel())
        for comb in np.flatnonzero(alone).tolist():
            yield self._unfold(stamps, *(int(x[comb]) for x in (low, high, copies, apart)))

    def _unfold(
        self, stamps: Sequence[Stamp], low: int, high: int, copies: int, apart: int
    ) -> Windows:
        """A folded run as windows: equal copies once, with their weight."""
        behind = low + (copies - 1) * apart + high - low
        edges = {self.probe.start, self.probe.end}
        edges |= {edge for stamp in stamps for edge in (stamp.low, stamp.high)}
        # The first copy that lies wholly behind an edge, and the one that it cuts, alone.
        cuts = {0, copies}
        for edge in edges:
            if low < edge < behind:
                cuts |= {max(0, -(-(edge - high + 1) // apart)), -(-(edge - low) // apart)}
        order = sorted(cut for cut in cuts if 0 <= cut <= copies)
        starts: list[Addresses] = []
        weights: list[Addresses] = []
        for first, past in pairwise(order):
            from_, to = low + first * apart, low + (past - 1) * apart + high - low
            whole = self._cycle(_over(stamps, from_, to))
            cycle = past - first if whole is None else whole // gcd(whole, apart)
            number = np.arange(min(cycle, past - first), dtype=np.int64)
            starts.append(from_ + number * apart)
            weights.append((past - first - number + cycle - 1) // cycle)
        found = np.concatenate(starts)
        return Windows(found, found + (high - low), np.concatenate(weights))

    def _cycle(self, stamps: Sequence[Stamp]) -> int | None:
        """Bytes after which probes, pages and stamps repeat; None when chosen places do not."""
        cycle = lcm(self.size, self.probe.stride)
        for stamp in stamps:
            if stamp.places is not None:
                return None
            if not stamp.solid:
                cycle = lcm(cycle, stamp.stride)
        return cycle

    # -- counting ------------------------------------------------------------------------

    def _count(self, source: int, stamps: Sequence[Stamp], windows: Windows) -> Wrong:
        """The wrong bytes where ``stamps`` lie on ``source`` (BASE, or the value of a byte)."""
        windows = windows.within(self.probe.start, self.probe.end)
        windows = windows.where(self._index(windows.low) < self._index(windows.high))
        if not windows.low.size:
            return Wrong(0)
        stamps = _over(stamps, int(windows.low.min()), int(windows.high.max()))
        if _borders(stamps, windows) <= MOST_BORDERS:
            return self._sweep(source, stamps, windows)
        edges = sorted({edge for stamp in stamps for edge in (stamp.low, stamp.high)})
        parts = [
            self._reduce(source, _over(stamps, low, high), part)
            for low, high, part in _cut(windows, edges)
        ]
        return joined(parts)

    def _reduce(self, source: int, stamps: Sequence[Stamp], windows: Windows) -> Wrong:
        """The same for windows that lie within the extent of every stamp."""
        cycle = self._cycle(stamps)
        length = windows.high - windows.low
        if cycle is None or 2 * cycle > int(length.sum()) or cycle > int(length.max()):
            return self._divide(source, stamps, windows)
        whole = length // cycle
        times = int((whole * windows.weight).sum())
        start = windows.low[whole > 0].min(keepdims=True)
        one = Windows(start, start + cycle, np.ones(1, np.int64))
        repeated = self._divide(source, stamps, one)
        rest = windows._replace(low=windows.low + whole * cycle)
        others = self._divide(source, stamps, rest.where(rest.low < rest.high))
        return joined([repeated._replace(errors=repeated.errors * times), others])

    def _divide(self, source: int, stamps: Sequence[Stamp], windows: Windows) -> Wrong:
        """The same, for windows that hold too many borders: in parts, or without one stamp."""
        if not windows.low.size:
            return Wrong(0)
        if _borders(stamps, windows) <= MOST_BORDERS:
            return self._sweep(source, stamps, windows)
        counts = [int(_places(stamp, windows).sum()) for stamp in stamps]
        if len(stamps) < 2 or min(counts) + windows.low.size > MOST_BORDERS:
            parts = [self._sweep(source, stamps, part) for part in _pieces(stamps, windows)]
            return joined(parts)
        at = counts.index(min(counts))
        which, low, high = _spans(stamps[at], windows)
        covered = Windows(low, high, windows.weight[which])
        others = [*stamps[:at], *stamps[at + 1 :]]
        return joined(
            [
                self._count(stamps[at].value, stamps[at + 1 :], covered),
                self._count(source, others, _between(windows, which, low, high)),
            ]
        )

    def _sweep(self, source: int, stamps: Sequence[Stamp], windows: Windows) -> Wrong:
        """The same, interval by interval: between two borders all bytes have one source."""
        count = np.arange(windows.low.size, dtype=np.int64)
        points, owners = [windows.low, windows.high], [count, count]
        for stamp in stamps:
            which, low, high = _spans(stamp, windows)
            points += [low, high]
            owners += [which, which]
        point, owner = np.concatenate(points), np.concatenate(owners)
        order = np.lexsort((point, owner))
        point, owner = point[order], owner[order]
        kept = (owner[:-1] == owner[1:]) & (point[:-1] < point[1:])
        low, high, owner = point[:-1][kept], point[1:][kept], owner[:-1][kept]
        sources = np.full(low.size, source, np.int64)
        for stamp in stamps:
            sources[stamp.stores(low)] = stamp.value
        begin, past = self._index(low), self._index(high)
        errors = np.zeros(low.size, np.int64)
        for kind in np.unique(sources).tolist():
            mine = sources == kind
            errors[mine] = self._before(kind, past[mine]) - self._before(kind, begin[mine])
        total = int((errors * windows.weight[owner]).sum())
        bad = np.flatnonzero(errors)
        if not bad.size:
            return Wrong(0)
        first = bad[np.argmin(low[bad])]
        return self._first(total, int(sources[first]), int(begin[first]))

    # -- probes --------------------------------------------------------------------------

    def _index(self, address: Addresses) -> Addresses:
        """How many probes lie below an address."""
        far = -(-(address - self.probe.start) // self.probe.stride)
        return np.clip(far, 0, self.probes)

    def _got(self, source: int) -> Bytes:
        """What the probes of one cycle find in bytes of a source."""
        return self.base if source == BASE else np.full(self.cycle, source, np.uint8)

    def _before(self, source: int, index: Addresses) -> Addresses:
        """How many of the first ``index`` probes are wrong, were all bytes of one source."""
        if source not in self._sums:
            bad = self._got(source) != self.wanted
            self._sums[source] = np.concatenate(([0], np.cumsum(bad)))
        sums = self._sums[source]
        whole, rest = np.divmod(index, self.cycle)
        return np.asarray(whole * sums[-1] + sums[rest], dtype=np.int64)

    def _first(self, errors: int, source: int, index: int) -> Wrong:
        """The first wrong probe from number ``index`` on; there is one."""
        got = np.roll(self._got(source), -(index % self.cycle))
        wanted = np.roll(self.wanted, -(index % self.cycle))
        ahead = int(np.argmax(got != wanted))
        address = self.probe.start + (index + ahead) * self.probe.stride
        return Wrong(errors, address, int(got[ahead]), int(wanted[ahead]))


def _over(stamps: Sequence[Stamp], low: int, high: int) -> list[Stamp]:
    """Those that reach into a range."""
    return [stamp for stamp in stamps if stamp.low < high and low < stamp.high]


def _range(stamp: Stamp, windows: Windows) -> tuple[Addresses, Addresses]:
    """For each window the first place, and one behind the last, that may reach into it.

    They are indices into the chosen places where a stamp has such.
    """
    first = (windows.low - stamp.start - stamp.size) // stamp.stride + 1
    past = -(-(windows.high - stamp.start) // stamp.stride)
    if stamp.places is None:
        return np.clip(first, 0, stamp.count), np.clip(past, 0, stamp.count)
    numbers = stamp.places.numbers
    return np.searchsorted(numbers, first), np.searchsorted(numbers, past)


def _places(stamp: Stamp, windows: Windows) -> Addresses:
    """How many places of a stamp reach into each window, at most."""
    first, past = _range(stamp, windows)
    return np.asarray(np.maximum(past - first, 0), dtype=np.int64)


def _borders(stamps: Sequence[Stamp], windows: Windows) -> int:
    """How many borders a sweep meets, at most."""
    places = sum(int(_places(stamp, windows).sum()) for stamp in stamps)
    return 2 * (windows.low.size + places)


def _spans(stamp: Stamp, windows: Windows) -> tuple[Addresses, Addresses, Addresses]:
    """What a stamp stores to in each window: numbers of windows, first bytes, ends."""
    first, past = _range(stamp, windows)
    count = np.maximum(past - first, 0)
    which = np.repeat(np.arange(count.size, dtype=np.int64), count)
    number = np.arange(which.size, dtype=np.int64)
    number += np.repeat(first - (np.cumsum(count) - count), count)
    if stamp.places is not None:
        number = stamp.places.numbers[number]
    low = stamp.start + number * stamp.stride
    high = np.minimum(np.minimum(low + stamp.size, stamp.end), windows.high[which])
    low = np.maximum(low, windows.low[which])
    there = low < high
    return which[there], low[there], high[there]


def _between(windows: Windows, which: Addresses, low: Addresses, high: Addresses) -> Windows:
    """What spans, as :func:`_spans` gives them, leave over of their windows."""
    count = np.arange(windows.low.size, dtype=np.int64)
    owner = np.concatenate((count, which))
    starts, stops = np.concatenate((windows.low, high)), np.concatenate((low, windows.high))
    by_start = np.lexsort((starts, owner))
    by_stop = np.lexsort((stops, np.concatenate((which, count))))
    found = Windows(starts[by_start], stops[by_stop], windows.weight[owner[by_start]])
    return found.where(found.low < found.high)


def _cut(windows: Windows, edges: Sequence[int]) -> Iterator[tuple[int, int, Windows]]:
    """The parts of the windows between neighbouring edges, with these."""
    first, last = int(windows.low.min()), int(windows.high.max())
    inner = [edge for edge in edges if first < edge < last]
    bounds = [first, *inner, last]
    for low, high in pairwise(bounds):
        part = windows.within(low, high)
        if part.low.size:
            yield low, high, part


def _pieces(stamps: Sequence[Stamp], windows: Windows) -> Iterator[Windows]:
    """Windows in parts that a sweep can take, long ones cut."""
    borders = np.full(windows.low.size, 2, np.int64)
    for stamp in stamps:
        borders += 2 * _places(stamp, windows)
    parts = -(-borders // MOST_BORDERS)
    which = np.repeat(np.arange(parts.size, dtype=np.int64), parts)
    number = np.arange(which.size, dtype=np.int64) - np.repeat(np.cumsum(parts) - parts, parts)
    length = -(-(windows.high - windows.low) // parts)
    low = windows.low[which] + number * length[which]
    high = np.minimum(low + length[which], windows.high[which])
    there = low < high
    cut = Windows(low, high, windows.weight[which]).where(there)
    filled = np.cumsum((borders // parts)[which][there]) // MOST_BORDERS
    bounds = [0, *(np.flatnonzero(np.diff(filled)) + 1).tolist(), filled.size]
    for begin, past in pairwise(bounds):
        yield cut.where(slice(begin, past))
