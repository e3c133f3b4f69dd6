"""What a heap trace says in numbers: how many blocks, how large, how long they lived."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from refbench.trace.format import Events, Kind
from refbench.trace.reader import Trace

Index = NDArray[np.int64]

_BLOCKS = (Kind.BLOCK_FRESH, Kind.BLOCK_REUSED, Kind.BLOCK, Kind.ZEROED)


@dataclass(slots=True)
class SizeClass:
    """Blocks of more than half of ``most`` bytes, at most ``most``."""

    most: int
    count: int = 0
    size: int = 0
    """Requested bytes."""
    reused: int = 0
    """Blocks of memory that was handed out before, as a whole."""
    freed: int = 0
    lives: Counter[int] = field(default_factory=Counter)
    """By binary logarithm, rounded up: in how many further hand-outs it was freed."""

    @property
    def life(self) -> int | None:
        """The median of freed blocks' lives in hand-outs, rounded up to a power of two."""
        behind = 0
        for power, count in sorted(self.lives.items()):
            behind += count
            if 2 * behind >= self.freed:
                return int(1 << power)
        return None


@dataclass(slots=True)
class Summary:
    """A trace in numbers; sizes are bytes, pages are those of the recorded machine."""

    blocks: int = 0
    size: int = 0
    freed: int = 0
    live: int = 0
    """Blocks that were never freed."""
    threads: int = 0
    forks: int = 0
    mapped: int = 0
    """Bytes of the mechanism's memory that were mapped in all."""
    zero: int = 0
    """Bytes of memory for large callocs that were mapped in all."""
    purged: int = 0
    loads: int = 0
    """Pages whose first touch was a load."""
    stores: int = 0
    """First stores to pages."""
    classes: dict[int, SizeClass] = field(default_factory=dict)


def summarise(trace: Trace) -> Summary:
    """Everything but the program that the trace compiles to."""
    summary, lives = Summary(), _Lives()
    for events in trace.read():
        _count(summary, events, trace.page_size)
        lives.follow(summary, events)
    summary.live = len(lives.live)
    return summary


def _count(summary: Summary, events: Events, page_size: int) -> None:
    sizes = np.bincount(events.kind, events.length, minlength=max(Kind) + 1)
    counts = np.bincount(events.kind, minlength=max(Kind) + 1)
    summary.threads += int(counts[Kind.THREAD_BEGIN])
    summary.forks += int(counts[Kind.FORK])
    summary.mapped += int(sizes[Kind.MAP])
    summary.zero += int(sizes[Kind.MAP_ZERO])
    summary.purged += int(sizes[Kind.PURGE])
    summary.loads += int(sizes[Kind.READ]) // page_size
    summary.stores += int(sizes[Kind.WRITE]) // page_size


class _Lives:
    """Follows blocks from hand-out to free."""

    def __init__(self) -> None:
        self.live: dict[int, tuple[int, int]] = {}
        """By address: the number of the hand-out, and the class."""
        self.handed = 0

    def follow(self, summary: Summary, events: Events) -> None:
        out = np.isin(events.kind, _BLOCKS)
        mine = np.flatnonzero(out | (events.kind == Kind.FREE))
        out, address, length = out[mine], events.address[mine], events.length[mine]
        number = self.handed + np.cumsum(out)
        power = _powers(length)
        self._add(summary, events.kind[mine][out], length[out], power[out])
        self.handed += int(out.sum())
        # Block after block in one place: a free belongs to the hand-out right before it.
        order = np.lexsort((np.arange(mine.size), address))
        before, after = order[:-1], order[1:]
        pair = (address[before] == address[after]) & out[before] & ~out[after]
        begins, ends = before[pair], after[pair]
        self._end(summary, power[begins], number[ends] - number[begins])
        rest = np.ones(mine.size, np.bool_)
        rest[begins] = rest[ends] = False
        for i in np.flatnonzero(rest).tolist():
            if out[i]:
                self.live[int(address[i])] = int(number[i]), int(power[i])
            elif (born := self.live.pop(int(address[i]), None)) is not None:
                self._end(summary, np.array([born[1]]), np.array([int(number[i]) - born[0]]))

    def _add(self, summary: Summary, kind: NDArray[np.uint8], length: Index, power: Index) -> None:
        summary.blocks += int(kind.size)
        summary.size += int(length.sum())
        for one in np.unique(power).tolist():
            here = power == one
            known = summary.classes.setdefault(one, SizeClass(1 << one))
            known.count += int(here.sum())
            known.size += int(length[here].sum())
            known.reused += int((kind[here] == Kind.BLOCK_REUSED).sum())

    def _end(self, summary: Summary, power: Index, life: Index) -> None:
        summary.freed += int(power.size)
        lives = _powers(life)
        for one in np.unique(power).tolist():
            known = summary.classes[one]
            mine = lives[power == one]
            known.freed += int(mine.size)
            known.lives.update(mine.tolist())


def _powers(values: Index) -> Index:
    """The smallest powers of two that are no less: their exponents."""
    return np.ceil(np.log2(np.maximum(values, 1))).astype(np.int64)
