"""Pages out of memory and back: swap, and what MADV_FREE gave up. mm/vmscan.c, mm/memory.c.

A row goes out and comes back as a whole. Of anonymous pages the folio says that they are in swap
(``swapped``), and entries say SWAP; of a file's pages the file keeps which are (``File.out``),
and their entries are gone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.model import huge
from refbench_simulator.model.accounting import entries_of
from refbench_simulator.model.folios import KEPT, LAZY
from refbench_simulator.model.machine import File, Machine
from refbench_simulator.model.mapping import count_file, zap
from refbench_simulator.model.space import AddressSpace, Prot, Pte

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


def slots(machine: Machine) -> int:
    """Pages that swap has room for."""
    used = machine.folios.out + sum(file.away for file in machine.files)
    return machine.kernel.swap // machine.kernel.page_size - used


def page_out(space: AddressSpace, rows: Index) -> None:
    """MADV_PAGEOUT: ``madvise_cold_or_pageout_pte_range()`` and ``reclaim_pages()``.

    What several processes show is passed over. A huge page is broken up first, as it is on swap
    without room for it in one piece.
    """
    machine, folios = space.machine, space.machine.folios
    huge.break_up(space, rows, wholly=False)
    discard(space, rows)
    huge.break_up(space, rows, wholly=True)
    if not machine.kernel.swap:
        _unmap_single(space, rows[space.pte[rows] == Pte.FILE])
        return
    shown = rows[space.pte[rows] == Pte.ANON]
    ids = space.folio[shown]
    good = (folios.mapcount[ids] == 1) & (folios.merged[ids] == 0) & (folios.group[ids] == 0)
    # A page that was stored to after MADV_FREE is found dirty, and stays this time.
    good &= folios.lazy[ids] != KEPT
    folios.lazy[ids] = 0
    out(machine, ids[good])
    _files_out(space, rows[space.pte[rows] == Pte.FILE])


def _unmap_single(space: AddressSpace, rows: Index) -> None:
    """File pages that one entry alone shows lose it, though they have nowhere to go then:
    ``shrink_folio_list()`` unmaps a page before it looks for a place to write it to."""
    for number in np.unique(space.file[rows]).tolist():
        if space.machine.files[number].kind != "shmem":
            continue
        mine = rows[space.file[rows] == number]
        at, levels = entries_of(space.machine, number)
        shared = np.concatenate(([0], np.cumsum(levels > 1)))
        low = np.searchsorted(at, space.pgoff[mine])
        high = np.searchsorted(at, space.pgoff[mine] + space.rows.length[mine])
        space.note_peak()
        zap(space, mine[shared[high] == shared[low]], rules.UNMAP_FILE)


def discard(space: AddressSpace, rows: Index) -> int:
    """Free what MADV_FREE gave up and nobody stored to since: ``try_to_unmap_one()``. Pages."""
    folios = space.machine.folios
    shown = rows[space.pte[rows] == Pte.ANON]
    ids = space.folio[shown]
    gone = folios.lazy[ids] == LAZY
    if space.given is not None:
        gone |= space.given[shown] & (folios.lazy[ids] == 0)
    gone &= huge.alone(space, ids)
    group = folios.group[ids]
    if group.any():
        whole = np.bincount(folios.group, folios.weight, folios.groups)
        weights = np.where(gone, folios.weight[ids], 0)
        gone &= (group == 0) | (np.bincount(group, weights, folios.groups) == whole)[group]
    if not gone.any():
        return 0
    space.note_peak()
    # The entry of a huge page is split first, so that its table stays: TTU_SPLIT_HUGE_PMD.
    big = shown[gone & space.huge[shown]]
    huge.split(space, *huge.runs(space, big))
    return zap(space, shown[gone], rules.DISCARD)


def fitting(machine: Machine, weight: Index) -> Mask:
    """Which of runs of pages, taken in their order, swap has room for."""
    return np.asarray(np.cumsum(weight) <= slots(machine), dtype=np.bool_)


def out(machine: Machine, ids: Index) -> int:
    """Write anonymous pages to swap as far as there is room: ``try_to_unmap_one()``. Pages."""
    folios = machine.folios
    ids = ids[fitting(machine, folios.weight[ids])]
    if not ids.size:
        return 0
    chosen = np.zeros(folios.mapcount.size, np.bool_)
    chosen[ids] = True
    for space in machine.spaces:
        rows = np.flatnonzero(space.pte == Pte.ANON)
        rows = rows[chosen[space.folio[rows]]]
        if not rows.size:
            continue
        space.note_peak()
        pages = space.pages(rows)
        space.pte[rows] = Pte.SWAP
        space.writable[rows] = False
        space.anon -= pages
        space.swapped += pages
        machine.ledger.add(rules.SWAP_OUT, rows, zap=pages)
    pages = int(folios.weight[ids].sum())
    folios.swapped[ids] = True
    folios.out += pages
    machine.ledger.add(rules.SWAP_OUT, swap=pages, free=pages)
    return pages


def swap_in(space: AddressSpace, rows: Index) -> Index:
    """``do_swap_page()``; the rows that came back, each page by a fault.

    A major one, unless another process has brought the page back already.
    """
    found: Index = rows[space.pte[rows] == Pte.SWAP]
    if not found.size:
        return found
    machine, folios, ids = space.machine, space.machine.folios, space.folio[found]
    away = folios.swapped[ids]
    pages, read = space.pages(found), space.pages(found[away])
    alone = folios.exclusive[ids] | (folios.mapcount[ids] == 1)
    folios.swapped[ids] = False
    folios.exclusive[ids] = alone
    folios.out -= read
    space.pte[found] = Pte.ANON
    space.writable[found] = alone & ((space.prot[found] & Prot.WRITE) != 0)
    space.swapped -= pages
    space.anon += pages
    machine.counters.major += read
    machine.counters.minor += pages - read
    machine.ledger.add(
        rules.SWAP_IN, found, fault=pages, alloc=read, swap=read, rmap=pages, pte=pages
    )
    return found


# -- files ---------------------------------------------------------------------------------


def _files_out(space: AddressSpace, rows: Index) -> None:
    """The pages of files that no other entry shows."""
    for number in np.unique(space.file[rows]).tolist():
        file = space.machine.files[number]
        mine = rows[space.file[rows] == number]
        if file.kind == "shmem" and not file.repeats:
            shown = [_pages_shown(other, number) for other in space.machine.spaces]
            found, times = np.unique(np.concatenate(shown), return_counts=True)
            single = np.isin(space.pgoff[mine], found[times == 1])
            mine = mine[single]
            file_out(space.machine, number, space.pgoff[mine], space.rows.length[mine])


def _pages_shown(space: AddressSpace, number: int) -> Index:
    return np.asarray(space.pgoff[(space.pte == Pte.FILE) & (space.file == number)])


def file_out(machine: Machine, number: int, pgoff: Index, length: Index) -> int:
    """Write runs of a file's pages to swap as far as there is room: ``shmem_writeout()``. Pages."""
    file = machine.files[number]
    good = fitting(machine, length)
    pgoff, pages = pgoff[good], int(length[good].sum())
    if not pages:
        return 0
    for space in machine.spaces:
        rows = np.flatnonzero((space.pte == Pte.FILE) & (space.file == number))
        rows = rows[np.isin(space.pgoff[rows], pgoff)]
        space.note_peak()
        space.pte[rows] = Pte.NONE
        machine.ledger.add(rules.SWAP_OUT, rows, zap=-count_file(space, rows, -1))
    file.out.update(pgoff.tolist())
    file.away += pages
    machine.ledger.add(rules.SWAP_OUT, swap=pages, free=pages)
    return pages


def file_in(space: AddressSpace, rows: Index, *, store: bool) -> None:
    """``shmem_swapin_folio()``: each page that comes back is a major fault of its own, because
    fault-around maps none that is not there."""
    machine = space.machine
    files = np.array([bool(file.out) for file in machine.files] + [False])
    filed = rows[files[space.file[rows]] & (space.pte[rows] == Pte.NONE)]
    for number in np.unique(space.file[filed]).tolist():
        file = machine.files[number]
        mine = filed[space.file[filed] == number]
        mine = mine[away(file, space.pgoff[mine])]
        if not mine.size:
            continue
        pages = space.pages(mine)
        file.out.difference_update(space.pgoff[mine].tolist())
        file.away -= pages
        machine.counters.major += pages
        machine.ledger.add(rules.SWAP_IN, mine, alloc=pages, swap=pages)
        if store:
            # The copy that follows is the same fault, and is entered as a minor one.
            machine.counters.minor -= pages
            continue
        space.pte[mine] = Pte.FILE
        count_file(space, mine, +1)
        made = space.tables.cover(mine)
        machine.ledger.add(rules.LOAD_FILE, mine, fault=pages, pte=pages)
        machine.ledger.add(rules.TABLE, mine, table=made)


def away(file: File, pgoff: Index) -> Mask:
    """Which of the pages that rows begin with are in swap."""
    return np.isin(pgoff, np.fromiter(file.out, np.int64, len(file.out)))


def unmappable(space: AddressSpace, rows: Index) -> Mask:
    """Which rows of files fault-around leaves out, because their pages are in swap."""
    found = np.zeros(rows.size, np.bool_)
    for number, file in enumerate(space.machine.files):
        if file.out:
            mine = space.file[rows] == number
            found[mine] = away(file, space.pgoff[rows[mine]])
    return found
