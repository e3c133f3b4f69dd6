"""Rows told as people say it: "every 16th page from 0 to 64MiB of region 0"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench.grammar import format_size
from refbench_simulator.rows import Rows

Index = NDArray[np.int64]
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Span:
    """Pages of one region: ``pages`` of them, between ``start`` and ``end`` (bytes from the
    region's start).

    They lie in stretches of ``run`` pages of which one begins every ``every`` pages; 0: they do
    so irregularly. One stretch: ``every`` is ``run``.
    """

    region: int
    start: int
    end: int
    pages: int
    every: int
    run: int

    @property
    def text(self) -> str:
        """In words."""
        where = f"region {self.region}, {_exact(self.start)} to {_exact(self.end)}"
        count = "1 page" if self.pages == 1 else f"{self.pages} pages"
        if self.every == self.run and self.every:
            return f"{where}: {count}"
        if not self.every:
            return f"{where}: {count} here and there"
        if self.run == 1:
            return f"{where}: every {_ordinal(self.every)} page, {count}"
        return f"{where}: {self.run} of every {self.every} pages, {count}"


def spans_of(rows: Rows, index: Index) -> tuple[Span, ...]:
    """The pages of the rows ``index`` (ascending), region by region in the order of addresses."""
    regions = rows.region[index]
    return tuple(
        _span(rows, number, index[regions == number])
        for number in rows.regions
        if (regions == number).any()
    )


def _span(rows: Rows, region: int, index: Index) -> Span:
    size = rows.page_size
    base = rows.regions[region].base
    every, run = _rhythm(*_stretches(rows, index))
    return Span(
        region=region,
        start=int(rows.page[index[0]]) * size - base,
        end=int(rows.last[index].max()) * size - base,
        pages=int(rows.weight[index].sum()),
        every=every,
        run=run,
    )


def _stretches(rows: Rows, index: Index) -> tuple[Index, Index]:
    """Where pages that touch one another begin and end, with folds cut short.

    What repeats itself does so after three copies too: the rest of a fold is left out, and what
    lies behind it comes that much nearer.
    """
    low, length = rows.page[index], rows.length[index]
    copies, period = rows.copies[index], rows.period[index]
    if (copies > 1).any():
        breaks = (np.diff(copies) != 0) | (np.diff(period) != 0) | (np.diff(low) >= period[:-1])
        fold = np.cumsum(np.concatenate(([0], breaks)))
        heads = np.concatenate(([True], breaks))
        left_out = np.maximum(copies - _SHOWN, 0) * period
        low = low - (np.cumsum(left_out * heads)[fold.searchsorted(fold)] - left_out)
        shown = np.minimum(copies, _SHOWN)
        which = np.repeat(np.arange(low.size), shown)
        number = np.arange(which.size) - np.repeat(np.cumsum(shown) - shown, shown)
        low, length = low[which] + number * period[which], length[which]
        order = np.argsort(low)
        low, length = low[order], length[order]
    behind = low + length
    apart = np.flatnonzero(behind[:-1] != low[1:])
    first, last = np.concatenate(([0], apart + 1)), np.concatenate((apart, [low.size - 1]))
    return low[first], behind[last]


def _rhythm(low: Index, behind: Index) -> tuple[int, int]:
    """``every`` and ``run`` of a :class:`Span`."""
    lengths, steps = behind - low, np.diff(low)
    if low.size == 1:
        return int(lengths[0]), int(lengths[0])
    if (lengths == lengths[0]).all() and (steps == steps[0]).all():
        return int(steps[0]), int(lengths[0])
    return 0, 0


def _exact(size: int) -> str:
    """``64MiB``, ``65476KiB``, ``0``."""
    text = format_size(size)
    return (f"{size // 1024}KiB" if "." in text else text) if size else "0"


def _ordinal(number: int) -> str:
    """``2nd``, ``16th``."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number // 10 % 10 == 1 else ending}"
