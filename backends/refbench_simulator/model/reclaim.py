"""A limit on memory: what the kernel takes back when it is reached. mm/vmscan.c, mm/oom_kill.c.

First goes what costs nothing (pages given up by MADV_FREE, parts of huge pages that nothing
shows), then, as far as there is swap, what was accessed longest ago; KSM's pages, locked ones and
files that are mapped again and again stay. Where memory is limited rows are short (``Grain.most``),
and reclaim takes whole rows: up to one row more than is needed. The kernel's own lists
tell the order of accesses less well than a clock on each row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench.errors import LimitHit
from refbench.grammar import format_size
from refbench_simulator.knobs import UNLIMITED, Kernel
from refbench_simulator.model import accounting, swapping
from refbench_simulator.model.machine import Machine
from refbench_simulator.model.space import AddressSpace, Flag, Pte

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
_PARTS = 128
"""Into how many rows at least the memory is cut."""
_TABLES = 4
"""Page tables that one more row may need at most, beside one for each table's worth of it."""


def grain(kernel: Kernel) -> int:
    """The most pages that a row may have, a power of two; 0: any number."""
    if kernel.memory >= UNLIMITED and not kernel.swap:
        return 0
    least = min(size for size in (kernel.memory, kernel.swap or UNLIMITED))
    pages = max(1, least // kernel.page_size // _PARTS)
    return int(1 << (pages.bit_length() - 1))


def limited(machine: Machine) -> bool:
    """Whether memory can run out."""
    return machine.kernel.memory < UNLIMITED


def slices(space: AddressSpace, rows: Index) -> list[Index]:
    """``rows`` in parts for which room is made one after the other."""
    weight = np.cumsum(need(space, rows))
    most = max(grain(space.machine.kernel), space.rows.huge)
    cuts = np.flatnonzero(np.diff(weight // most)) + 1
    return np.split(rows, cuts)


def need(space: AddressSpace, rows: Index) -> Index:
    """Pages that a first access to each of ``rows`` may take."""
    pages = space.rows.weight[rows]
    return np.maximum(pages, space.rows.huge) + pages // space.machine.kernel.entries + _TABLES


def seen(space: AddressSpace, rows: Index) -> None:
    """``rows`` were accessed just now."""
    machine = space.machine
    machine.folios.clock += 1
    ids = space.folio[rows[space.pte[rows] == Pte.ANON]]
    machine.folios.seen[ids] = machine.folios.clock
    for row in rows[space.pte[rows] == Pte.FILE].tolist():
        machine.files[space.file[row]].seen[int(space.pgoff[row])] = machine.folios.clock


def room(machine: Machine, pages: int = 0) -> None:
    """See to it that ``pages`` more fit into memory.

    :raises LimitHit: when the kernel would kill for it.
    """
    size = machine.kernel.page_size
    limit = machine.kernel.memory // size
    for take in (_freely, _to_swap):
        short = accounting.current(machine) // size + pages - limit
        if short <= 0:
            return
        take(machine, short)
    used = accounting.current(machine) // size
    # What was asked for is the most that an access could take; the rest will do for less.
    if used > limit or (pages and used + 1 > limit):
        raise LimitHit(
            f"The kernel killed the agent because memory ran out; the machine has"
            f" {format_size(limit * size)} and {format_size(machine.kernel.swap)} of swap.",
            wanted=(used + pages) * size,
            limit=limit * size,
            remedy="Take a smaller size, or give more: memory=SIZE, swap=SIZE.",
        )


def _freely(machine: Machine, _short: int) -> None:
    """``deferred_split_scan()``, and what MADV_FREE gave up."""
    folios = machine.folios
    if folios.deferred:
        held = np.flatnonzero(folios.held[: folios.groups])
        folios.unbind(np.flatnonzero(np.isin(folios.group, held)))
    for space in list(machine.spaces):
        rows = np.flatnonzero((space.pte == Pte.ANON) & ((space.flags & Flag.LOCKED) == 0))
        swapping.discard(space, rows)


def _to_swap(machine: Machine, short: int) -> None:
    """What was accessed longest ago, until enough is free or swap is full."""
    if not machine.kernel.swap:
        return
    folios = machine.folios
    lines = np.flatnonzero((folios.mapcount > 0) & ~folios.swapped & (folios.merged == 0))
    lines = lines[~_locked(machine)[lines]]
    ages = [folios.seen[lines]]
    weights = [folios.weight[lines]]
    keys = [np.stack((np.full(lines.size, -1), lines, folios.home[lines]))]
    for number, pgoff, length, age in _file_rows(machine):
        keys.append(np.stack((np.full(pgoff.size, number), pgoff, pgoff)))
        ages.append(age)
        weights.append(length)
    key, age, weight = np.concatenate(keys, axis=1), np.concatenate(ages), np.concatenate(weights)
    order = np.lexsort((key[2], age))
    taken = order[: int(np.searchsorted(np.cumsum(weight[order]), short)) + 1]
    ids = key[1][taken[key[0][taken] < 0]]
    _unbind(machine, ids)
    swapping.out(machine, ids)
    for number in np.unique(key[0][taken][key[0][taken] >= 0]).tolist():
        mine = taken[key[0][taken] == number]
        swapping.file_out(machine, number, key[1][mine], weight[mine])


def _locked(machine: Machine) -> Mask:
    """Which folios some locked VMA shows."""
    found = np.zeros(machine.folios.mapcount.size, np.bool_)
    for space in machine.spaces:
        rows = (space.pte == Pte.ANON) & ((space.flags & Flag.LOCKED) != 0)
        found[space.folio[rows]] = True
    return found


def _unbind(machine: Machine, ids: Index) -> None:
    """Huge pages that go to swap are broken up."""
    folios = machine.folios
    groups = np.unique(folios.group[ids])
    groups = groups[groups > 0]
    if not groups.size:
        return
    lines = np.flatnonzero(np.isin(folios.group, groups))
    for space in machine.spaces:
        rows = np.flatnonzero(space.huge & (space.pte == Pte.ANON))
        space.huge[rows[np.isin(space.folio[rows], lines)]] = False
    folios.unbind(lines)


def _file_rows(machine: Machine) -> list[tuple[int, Index, Index, Index]]:
    """Of each file, the runs of pages that are in memory: number, first page, length, last seen."""
    found = []
    for number, file in enumerate(machine.files):
        if file.kind != "shmem" or file.repeats or not file.allocated:
            continue
        pgoff, length, kept = [], [], set()
        for space in machine.spaces:
            rows = np.flatnonzero(space.mapped & (space.file == number))
            inside = rows[space.pgoff[rows] < file.pages]
            pgoff.append(space.pgoff[inside])
            length.append(space.rows.length[inside])
            locked = inside[(space.flags[inside] & Flag.LOCKED) != 0]
            kept.update(space.pgoff[locked].tolist())
        if not pgoff:
            continue
        first, index = np.unique(np.concatenate(pgoff), return_index=True)
        lengths = np.concatenate(length)[index]
        good = ~swapping.away(file, first) & ~np.isin(first, np.array(sorted(kept), np.int64))
        age = np.array([file.seen.get(page, 0) for page in first[good].tolist()], np.int64)
        found.append((number, first[good], lengths[good], age))
    return found
