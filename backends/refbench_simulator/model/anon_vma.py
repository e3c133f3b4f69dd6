"""``anon_vma_prepare()`` of mm/rmap.c: a VMA gets its ``anon_vma`` with its first own page.

It matters twice: fork(2) copies the entries of VMAs that have one, and VMAs with different ones
do not merge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.detail import Finer
from refbench_simulator.model.space import AddressSpace

Index = NDArray[np.int64]


def prepare(space: AddressSpace, rows: Index) -> None:
    """Give the VMAs of ``rows``, in that order, an ``anon_vma`` where they have none."""
    bare = rows[space.anon_vma[rows] == 0]
    if not bare.size:
        return
    head = space.vma(int(bare[0]))
    if bare.size == 1 or bool(((bare >= head.start) & (bare < head.stop)).all()):
        _reuse_or_give(space, head.start)
        return
    starts = np.flatnonzero(space.start)
    of_row = np.searchsorted(starts, bare, side="right") - 1
    unique, index = np.unique(of_row, return_index=True)
    firsts = starts[unique[np.argsort(index)]]
    may_reuse = _has_neighbour(space, firsts)
    if space.machine.disordered and may_reuse.any():
        raise Finer
    fresh = firsts[~may_reuse]
    _give(space, fresh)
    for first in firsts[may_reuse].tolist():
        _reuse_or_give(space, first)


def _has_neighbour(space: AddressSpace, firsts: Index) -> NDArray[np.bool_]:
    """Whether some neighbour of each VMA might lend its own, now or when it has got one."""
    joined = np.zeros(len(space.rows) + 1, np.bool_)
    edges = np.flatnonzero(space.start)
    edges = edges[edges > 0]
    before = edges - 1
    linear = space.pgoff[edges] - space.pgoff[before] == (
        space.rows.page[edges] - space.rows.page[before]
    )
    same = space.mapped[before] & (space.file[before] == space.file[edges]) & linear
    same &= space.rows.last[before] == space.rows.page[edges]
    all_starts = np.flatnonzero(space.start)
    gets = np.zeros(len(space.rows), np.bool_)
    gets[firsts] = True
    head = all_starts[np.searchsorted(all_starts, before, side="right") - 1]
    lends = (space.anon_vma[before] > 0) | gets[head]
    asks = (space.anon_vma[edges] > 0) | gets[edges]
    joined[edges] = same & lends & asks
    following = np.append(all_starts[1:], len(space.rows))
    after = following[np.searchsorted(all_starts, firsts)]
    return np.asarray(joined[firsts] | joined[after])


def _give(space: AddressSpace, firsts: Index) -> None:
    """A new one for each VMA that begins at ``firsts``."""
    if not firsts.size:
        return
    if firsts.size == 1:
        vma = space.vma(int(firsts[0]))
        space.machine.ledger.add(rules.ANON_VMA, firsts, anon_vma=int(space.rows.copies[vma.start]))
        space.anon_vma[vma], space.chain[vma] = space.machine.new_anon_vmas(1)[0], 1
        return
    numbers = np.zeros(len(space.rows), np.int32)
    numbers[firsts] = space.machine.new_anon_vmas(firsts.size)
    space.machine.ledger.add(rules.ANON_VMA, firsts, anon_vma=int(space.rows.copies[firsts].sum()))
    starts = np.flatnonzero(space.start)
    mapped = np.flatnonzero(space.mapped)
    begins = starts[np.searchsorted(starts, mapped, side="right") - 1]
    given = numbers[begins]
    chosen = mapped[given > 0]
    space.anon_vma[chosen] = given[given > 0]
    space.chain[chosen] = 1


def _reuse_or_give(space: AddressSpace, first: int) -> None:
    """``find_mergeable_anon_vma()``: the next VMA's first, then the previous one's."""
    vma = space.vma(first)
    if vma.stop < len(space.rows) and _compatible(space, vma.stop) and _lends(space, vma.stop):
        space.anon_vma[vma], space.chain[vma] = space.anon_vma[vma.stop], 1
    elif first > 0 and _compatible(space, first) and _lends(space, first - 1):
        space.anon_vma[vma], space.chain[vma] = space.anon_vma[first - 1], 1
    else:
        _give(space, np.array([first]))


def _compatible(space: AddressSpace, row: int) -> bool:
    """``anon_vma_compatible()``: alike but for their permissions, across the edge at ``row``."""
    a, b = row - 1, row
    return bool(
        space.joins(row)
        and space.file[a] == space.file[b]
        and space.flags[a] == space.flags[b]
        and space.pgoff[b] - space.pgoff[a] == space.rows.page[b] - space.rows.page[a]
    )


def _lends(space: AddressSpace, row: int) -> bool:
    return bool(space.anon_vma[row]) and space.chain[row] == 1
