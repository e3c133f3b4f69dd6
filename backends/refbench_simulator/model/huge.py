"""Transparent huge pages of anonymous memory: mm/huge_memory.c.

A *unit* is an aligned range that one PMD entry maps. Where huge pages may be used, rows are cut
so that a unit is one or several rows, or one row several units. The column ``huge`` of an address
space tells where a PMD entry shows a huge page; a page table lies in deposit for each, which
VmPTE counts as any other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.content import ZERO
from refbench_simulator.model import anon_vma
from refbench_simulator.model.folios import KEPT, LAZY
from refbench_simulator.model.space import NO_FILE, AddressSpace, Flag, Pte

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
_NEVER = Flag.REFERENCE | Flag.NOHUGEPAGE


def runs(space: AddressSpace, rows: Index) -> tuple[Index, Index]:
    """The units that ``rows`` lie in, each once, by the order of ``rows``: the first row of each,
    and one behind its last. A row of several units is one of them here."""
    unit = space.rows.unit
    numbers, index = np.unique(unit[rows], return_index=True)
    numbers = numbers[np.argsort(index)]
    return np.searchsorted(unit, numbers), np.searchsorted(unit, numbers, side="right")


def expand(first: Index, behind: Index) -> Index:
    """All rows of units, one unit after the other."""
    counts = behind - first
    if not counts.size:
        return np.zeros(0, np.int64)
    return np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))


def entries(space: AddressSpace, rows: Index) -> int:
    """How many entries show what ``rows`` have: a huge page has one."""
    pages, size = space.pages(rows), space.rows.huge
    if not size:
        return pages
    big = space.pages(rows[space.huge[rows]])
    return pages - big + big // size


# -- faults --------------------------------------------------------------------------------


def fault(space: AddressSpace, rows: Index, *, store: bool) -> None:
    """What PMD entries have to do with loads from ``rows``, or stores to them; the faults that
    are left are those of single pages."""
    if not space.rows.huge:
        return
    _first_touch(space, rows, store=store)
    if store:
        _write_protected(space, rows)
        _keep(space, rows)


def whole(space: AddressSpace, first: Index, behind: Index) -> Mask:
    """Which units lie in one VMA as a whole: ``thp_vma_suitable_order()``."""
    rows, size, last = space.rows, space.rows.huge, behind - 1
    vma = np.cumsum(space.start)
    holes = np.concatenate(([0], np.cumsum(~space.mapped)))
    found = (rows.page[first] % size == 0) & ((rows.page[last] + rows.length[last]) % size == 0)
    found &= (vma[first] == vma[last]) & (holes[first] == holes[behind])
    return np.asarray(found, dtype=np.bool_)


def _permitted(space: AddressSpace, rows: Index) -> Mask:
    """``thp_vma_allowable_order()`` for a fault."""
    thp = space.machine.kernel.thp
    if thp == "never":
        return np.zeros(rows.size, np.bool_)
    flags = space.flags[rows]
    found = (space.file[rows] == NO_FILE) & ((flags & _NEVER) == 0)
    if thp == "madvise":
        found &= (flags & Flag.HUGEPAGE) != 0
    return np.asarray(found, dtype=np.bool_)


def comes(space: AddressSpace, row: int) -> bool:
    """Whether a fault of a missing page in ``row`` is one of a huge page."""
    if not space.rows.huge:
        return False
    mine = np.array([row])
    if not _permitted(space, mine)[0] or space.tables.has(mine)[0]:
        return False
    return bool(whole(space, *runs(space, mine))[0])


def _first_touch(space: AddressSpace, rows: Index, *, store: bool) -> None:
    """``do_huge_pmd_anonymous_page()``: where not even a page table is."""
    empty = rows[(space.pte[rows] == Pte.NONE) & _permitted(space, rows) & ~space.tables.has(rows)]
    if not empty.size:
        return
    first, behind = runs(space, empty)
    suitable = whole(space, first, behind)
    first, behind = first[suitable], behind[suitable]
    if not first.size:
        return
    machine, mine = space.machine, expand(first, behind)
    pages = space.pages(mine)
    faults = pages // space.rows.huge
    # vmf_anon_prepare() comes first, for a load too.
    anon_vma.prepare(space, first)
    made = space.tables.cover(mine)
    space.huge[mine] = True
    machine.counters.minor += faults
    if store:
        _install(space, first, behind)
        machine.ledger.add(
            rules.HUGE_STORE,
            mine,
            fault=faults,
            alloc=faults,
            clear_huge=pages,
            rmap=faults,
            pte=faults,
        )
    else:
        space.pte[mine] = Pte.ZERO
        machine.ledger.add(rules.HUGE_LOAD, mine, fault=faults, pte=faults)
    machine.ledger.add(rules.TABLE, mine, table=made)


def _install(space: AddressSpace, first: Index, behind: Index) -> None:
    """New huge pages of zeroes, writable, for units."""
    mine = expand(first, behind)
    folios, weight = space.machine.folios, space.rows.weight[mine]
    space.folio[mine] = folios.make(ZERO, space.rows.page[mine], weight)
    folios.bind(space.folio[mine], behind - first)
    space.pte[mine] = Pte.ANON
    space.writable[mine] = True
    space.huge[mine] = True
    space.anon += int(weight.sum())


def _write_protected(space: AddressSpace, rows: Index) -> None:
    """``do_huge_pmd_wp_page()``."""
    mine = rows[space.huge[rows] & ~space.writable[rows]]
    if not mine.size:
        return
    first, behind = runs(space, mine)
    zero = space.pte[first] == Pte.ZERO
    if zero.any():
        _store_to_zero(space, first[zero], behind[zero])
    first, behind = first[~zero], behind[~zero]
    if not first.size:
        return
    folios, machine = space.machine.folios, space.machine
    ids, edges = space.folio[expand(first, behind)], np.cumsum(behind - first) - behind + first
    alone = np.logical_and.reduceat(folios.exclusive[ids], edges)
    alone |= np.logical_and.reduceat(folios.mapcount[ids] == 1, edges)
    split(space, first[~alone], behind[~alone])
    reused = expand(first[alone], behind[alone])
    folios.exclusive[space.folio[reused]] = True
    space.writable[reused] = True
    faults = space.pages(reused) // space.rows.huge
    machine.counters.minor += faults
    machine.ledger.add(rules.HUGE_REUSE, reused, fault=faults)


def _keep(space: AddressSpace, rows: Index) -> None:
    """A store to a part of a huge page that MADV_FREE gave up keeps all of it."""
    folios, mine = space.machine.folios, rows[space.huge[rows] & (space.pte[rows] == Pte.ANON)]
    if mine.size and folios.lazy[space.folio[mine]].any():
        ids = space.folio[expand(*runs(space, mine))]
        folios.lazy[ids[folios.lazy[ids] == LAZY]] = KEPT


def _store_to_zero(space: AddressSpace, first: Index, behind: Index) -> None:
    """``do_huge_zero_wp_pmd()``; before Linux 6.13 the entry was split instead."""
    machine = space.machine
    if not machine.kernel.huge_zero_write_allocates:
        split(space, first, behind)
        return
    mine = expand(first, behind)
    pages = space.pages(mine)
    faults = pages // space.rows.huge
    _install(space, first, behind)
    machine.counters.minor += faults
    machine.ledger.add(
        rules.HUGE_STORE,
        mine,
        fault=faults,
        alloc=faults,
        clear_huge=pages,
        rmap=faults,
        pte=faults,
    )
    machine.ledger.add(rules.FLUSH, mine, flush=faults)


def alone(space: AddressSpace, ids: Index) -> Mask:
    """Which anonymous pages a store may take over: nobody else shows them, nor, of a huge page
    that is mapped page by page, any other part of it. ``wp_can_reuse_anon_folio()``; before Linux
    6.15 no part of a huge page was taken over."""
    folios = space.machine.folios
    found = folios.mapcount[ids] == 1
    group = folios.group[ids]
    if not group.any():
        return np.asarray(found, dtype=np.bool_)
    if space.machine.kernel.reuses_huge_parts:
        found = np.where(group > 0, _alone(space)[group], found)
    else:
        found &= group == 0
    return np.asarray(found, dtype=np.bool_)


def _alone(space: AddressSpace) -> Mask:
    """For each huge page, whether this address space shows all of it that is mapped anywhere."""
    folios = space.machine.folios
    size = folios.groups
    total = np.bincount(folios.group, folios.mapcount * folios.weight, size)
    rows = np.flatnonzero(space.pte == Pte.ANON)
    mine = np.bincount(folios.group[space.folio[rows]], space.rows.weight[rows], size)
    return np.asarray(total == mine, dtype=np.bool_)


# -- splitting -----------------------------------------------------------------------------


def split(space: AddressSpace, first: Index, behind: Index) -> None:
    """``__split_huge_pmd_locked()``: the deposited table takes the place of one entry. The huge
    page stays one."""
    mine = expand(first, behind)
    if not mine.size:
        return
    space.huge[mine] = False
    space.machine.ledger.add(rules.HUGE_SPLIT, mine, around=space.pages(mine))


def cut(space: AddressSpace, row: int) -> None:
    """``split_huge_pmd_if_needed()``: a VMA, or a range that moves, begins or ends before
    ``row``."""
    if not space.rows.huge or row >= len(space.rows) or not space.huge[row]:
        return
    if space.rows.page[row] % space.rows.huge:
        split(space, *runs(space, np.array([row])))


def before_move(space: AddressSpace, source: slice, target: slice) -> None:
    """``move_page_tables()``: what does not move as a whole, to an aligned place, is split."""
    if not space.rows.huge:
        return
    cut(space, source.start)
    cut(space, source.stop)
    page = space.rows.page
    if (page[target.start] - page[source.start]) % space.rows.huge:
        mine = source.start + np.flatnonzero(space.huge[source])
        split(space, *runs(space, mine))


def before_zap(space: AddressSpace, rows: Index) -> None:
    """``zap_pmd_range()``: an entry that goes in part is split; one that goes as a whole takes
    its deposited table along."""
    if not space.rows.huge:
        return
    mine = rows[space.huge[rows]]
    if not mine.size:
        return
    first, behind = runs(space, mine)
    inside = np.concatenate(([0], np.cumsum(np.bincount(mine, minlength=len(space.rows)))))
    goes = inside[behind] - inside[first] == behind - first
    split(space, first[~goes], behind[~goes])
    space.tables.drop(expand(first[goes], behind[goes]))


def break_up(space: AddressSpace, rows: Index, *, wholly: bool) -> None:
    """``split_folio()`` of the huge pages that ``rows`` show a part of, and, with ``wholly``, of
    those that they show as a whole. What other processes show too is left alone.

    Pages that hold nothing but zeroes become the zero page:
    ``try_to_map_unused_to_zeropage()`` of mm/migrate.c, from Linux 6.12 on.
    """
    if not space.rows.huge:
        return
    folios = space.machine.folios
    shown = rows[space.pte[rows] == Pte.ANON]
    group = folios.group[space.folio[shown]]
    shown, group = shown[group > 0], group[group > 0]
    if not shown.size:
        return
    size = folios.groups
    chosen = _alone(space)
    inside = np.bincount(group, space.rows.weight[shown], size)
    chosen &= inside > 0
    if not wholly:
        chosen &= inside < np.bincount(folios.group, folios.weight, size) + folios.held[:size]
    mine = np.flatnonzero(space.pte == Pte.ANON)
    mine = mine[chosen[folios.group[space.folio[mine]]]]
    if not mine.size:
        return
    space.huge[mine] = False
    freed = folios.unbind(space.folio[mine])
    zeroes = _unused(space, mine)
    pages = space.pages(zeroes)
    freed += folios.drop(space.folio[zeroes])
    space.pte[zeroes] = Pte.ZERO
    space.writable[zeroes] = False
    space.anon -= pages
    space.machine.ledger.add(rules.HUGE_BREAK_UP, mine, around=space.pages(mine), free=freed)


def _unused(space: AddressSpace, rows: Index) -> Index:
    """Those of ``rows`` that hold nothing but zeroes and are not locked."""
    if not space.machine.kernel.drops_unused_parts:
        return rows[:0]
    contents, ids = space.machine.contents, space.machine.folios.content[space.folio[rows]]
    found = np.zeros(rows.size, np.bool_)
    for one in np.unique(ids).tolist():
        stored = any(stamp.value for stamp in contents.stamps(one))
        if not stored and not contents.base(one).any():
            found |= ids == one
    found &= (space.flags[rows] & Flag.LOCKED) == 0
    return rows[found]
