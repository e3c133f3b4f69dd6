"""A million pages here and there, as two rows: those that one random touch reaches, and the rest.

Where nothing depends on which page lies beside which, it is enough to know how many there are. So
the touched pages of a range are taken to lie at its beginning, end to end, and the untouched ones
behind them. What does depend on it, the page tables above them, is counted from where the pages
really are. Signals, checks that fail and the order of touches raise
:class:`~refbench_simulator.detail.Finer`, and every page gets its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refbench import program as p
from refbench_simulator.arrays import ascending
from refbench_simulator.places import Pages, Reach, reach

FEWEST = 1024
"""Touched pages of a range for which it is worth it."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """A range of a region, ``low`` to ``high``: pages from the region's start. ``pages`` of it
    are touched; ``tables``: how many page tables of each level show any of those."""

    region: int
    low: int
    high: int
    pages: int
    tables: tuple[int, ...]


def lone_touch(
    steps: Sequence[p.Step], region: int, page_size: int, *, by_window: bool
) -> p.Touch | None:
    """The one random touch of a region, where no other step of it tells its pages apart.

    ``by_window``: loads map the pages around a page as well, so that there must be none.
    """
    mine = [step for step in steps if getattr(step, "region", None) == region]
    touches = [step for step in mine if isinstance(step, p.Touch) and step.order == "random"]
    if not touches or any(touch != touches[0] for touch in touches):
        return None
    touch = touches[0]
    if touch.shared or touch.stride % page_size:
        return None
    if touch.offset % page_size + touch.size > page_size:
        return None
    if not all(_alike(step, page_size, by_window) for step in mine if step != touch):
        return None
    return None if by_window and touch.access != "write" else touch


def _alike(step: p.Step, page_size: int, by_window: bool) -> bool:
    """Whether a step does the same to every page of its range."""
    match step:
        case p.Unmap():
            return True
        case p.Map():
            return not (by_window and step.populate)
        case p.Touch():
            whole = page_size % step.stride == 0 and step.size <= step.stride
            return whole and (not by_window or step.access == "write")
        case p.Expect():
            return not by_window and page_size % step.stride == 0
        case p.Advise() | p.Protect() | p.Lock() | p.KernelWrites() | p.KernelReads():
            return not by_window
        case _:
            return False


def touched(touch: p.Touch, page_size: int) -> Pages:
    """The pages of :func:`lone_touch`, from the region's start, in ascending order."""
    found = reach(touch)
    assert found.chosen is not None
    return ascending((found.offset + found.chosen * found.stride) // page_size)


def scattered(
    region: int, base: int, low: int, high: int, pages: Pages, spans: Sequence[int]
) -> Scatter | None:
    """The largest part of [low, high) that may be taken so. ``pages``: the touched ones, from the
    region's start, which begins at page ``base``; ``spans``: pages under a table of each level.

    Tables that reach beyond the part must all be touched: what lies outside shows them, too.
    """
    for unit in (spans[1], spans[0]):
        begin = -(-(base + low) // unit) * unit - base
        end = (base + high) // unit * unit - base
        first, behind = np.searchsorted(pages, (begin, end)).tolist()
        if end <= begin or behind - first < FEWEST:
            continue
        mine = pages[first:behind] + base
        tables = []
        for span in spans:
            numbers = mine // span
            count = 1 + int(np.count_nonzero(numbers[1:] != numbers[:-1]))
            all_of_them = -(-(base + end) // span) - (base + begin) // span
            if count != all_of_them and unit % span:
                break
            tables.append(count)
        else:
            return Scatter(region, begin, end, behind - first, tuple(tables))
    return None


def inside(
    found: Reach, scatter: Scatter, page_size: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of the chosen places lie in a scattered range."""
    assert found.chosen is not None
    start = found.offset + found.chosen * found.stride
    return (start >= scatter.low * page_size) & (start < scatter.high * page_size)


def gathered(found: Reach, scatters: Sequence[Scatter], page_size: int) -> list[Reach]:
    """The places of :func:`lone_touch` where its pages are taken to be."""
    assert found.chosen is not None
    parts, rest = [], np.ones(found.chosen.size, np.bool_)
    for scatter in scatters:
        rest &= ~inside(found, scatter, page_size)
        start = scatter.low * page_size + found.offset % page_size
        end = (scatter.low + scatter.pages) * page_size
        parts.append(Reach(start, page_size, found.size, end, 0, scatter.pages))
    if rest.any():
        left = found.chosen[rest]
        parts.append(Reach(found.offset, found.stride, found.size, found.end, 0, found.last, left))
    return parts
