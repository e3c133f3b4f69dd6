"""Loads from file mappings: ``do_read_fault()`` and fault-around of mm/memory.c.

A fault maps the cached pages of an aligned window around it, as far as the VMA and the page table
reach. A window that the VMA's start cuts short is as long as any other, so that it overlaps the
next one: there, the order of the loads decides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.detail import Finer
from refbench_simulator.model import swapping
from refbench_simulator.model.mapping import count_file
from refbench_simulator.model.space import AddressSpace, Pte

Index = NDArray[np.int64]


def load(space: AddressSpace, rows: Index) -> None:
    """Show file pages in ``rows``, which have no entries and are not behind the file's end."""
    if not rows.size:
        return
    kinds = np.array([file.kind == "shmem" for file in space.machine.files])
    cached = kinds[space.file[rows]]
    _one_by_one(space, rows[~cached], rules.LOAD_DEVICE)
    rows = rows[cached]
    if space.machine.kernel.around == 1:
        _one_by_one(space, rows, rules.LOAD_FILE)
        return
    first = _starts(space, rows)
    size = space.machine.kernel.around
    page, start, behind = space.rows.page[rows], space.rows.page[first], _ends(space, first)
    # Up to the end of the second window, what is mapped depends on the order.
    odd = (start % size != 0) & (page < -(-start // size) * size + size)
    odd &= start // size != (behind - 1) // size
    _one_by_one_in_each(space, rows[odd])
    _windows(space, rows[~odd])


def _one_by_one_in_each(space: AddressSpace, rows: Index) -> None:
    """Windows that may overlap, in the order of ``rows``; a VMA does not care about another's."""
    if rows.size > 1 and space.machine.disordered:
        raise Finer
    while rows.size:
        rows = rows[space.pte[rows] == Pte.NONE]
        _, index = np.unique(_starts(space, rows), return_index=True)
        now = rows[index]
        _around(space, now, faults=int(space.rows.copies[now].sum()))


def look(space: AddressSpace, row: int) -> None:
    """What a load behind the end of a file maps around itself before it fails."""
    if space.machine.kernel.around > 1 and space.machine.files[space.file[row]].kind == "shmem":
        _around(space, np.array([row]), faults=0)


def _starts(space: AddressSpace, rows: Index) -> Index:
    """The first row of each row's VMA."""
    starts = np.flatnonzero(space.start)
    return np.asarray(starts[np.searchsorted(starts, rows, side="right") - 1])


def _ends(space: AddressSpace, first: Index) -> Index:
    """One behind the last page of the VMA that begins at each of ``first``."""
    edges = np.flatnonzero(space.start | ~space.mapped)
    after = np.searchsorted(edges, first, side="right")
    last = np.append(edges, len(space.rows))[after] - 1
    columns = space.rows
    # What begins in a fold ends in the same copy.
    own = columns.page[last] + columns.length[last]
    return np.asarray(np.where(columns.copies[first] > 1, own, columns.last[last]))


def _one_by_one(space: AddressSpace, rows: Index, rule: rules.Rule) -> None:
    if rows.size:
        _show(space, rows, faults=space.pages(rows), rule=rule)


def _around(space: AddressSpace, rows: Index, *, faults: int) -> None:
    """``do_fault_around()`` for a fault in each of ``rows``, which are in different VMAs."""
    size, entries = space.machine.kernel.around, space.machine.kernel.entries
    page, first = space.rows.page, _starts(space, rows)
    edges = np.append(np.flatnonzero(space.start | ~space.mapped), len(space.rows))
    behind = edges[np.searchsorted(edges, first, side="right")]
    low = np.maximum(page[rows] // size * size, page[first])
    high = np.minimum(low + size, (page[rows] // entries + 1) * entries)
    begin = np.maximum(np.searchsorted(page, low), first)
    counts = np.minimum(np.searchsorted(page, high), behind) - begin
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    _show(space, _mappable(space, np.repeat(begin, counts) + number), faults=faults)


def _windows(space: AddressSpace, rows: Index) -> None:
    """Windows that do not overlap, all at once."""
    if not rows.size:
        return
    size = space.machine.kernel.around
    mapped = np.flatnonzero(space.mapped)
    window = space.rows.page[mapped] // size
    vma = np.cumsum(space.start[mapped])
    # A row of several windows is cut at their bounds, and so lies in none partly.
    keys = vma * (int(window.max()) + 1) + window
    mine = keys[np.searchsorted(mapped, rows)]
    hit = np.unique(mine)
    shown = mapped[np.isin(keys, hit)]
    single = np.searchsorted(hit, mine)
    lengths = np.zeros(hit.size, np.int64)
    spans = -(-space.rows.length[rows] // size) * space.rows.copies[rows]
    np.maximum.at(lengths, single, spans)
    _show(space, _mappable(space, shown), faults=int(lengths.sum()))


def _mappable(space: AddressSpace, rows: Index) -> Index:
    """Rows without an entry whose pages the file has."""
    sizes = np.array([file.pages for file in space.machine.files], np.int64)
    inside = space.pgoff[rows] < sizes[space.file[rows]]
    inside &= ~swapping.unmappable(space, rows)
    return np.asarray(rows[(space.pte[rows] == Pte.NONE) & inside])


def _show(
    space: AddressSpace, rows: Index, *, faults: int, rule: rules.Rule = rules.LOAD_FILE
) -> None:
    pages = space.pages(rows)
    machine = space.machine
    space.pte[rows] = Pte.FILE
    count_file(space, rows, +1)
    made = space.tables.cover(rows)
    machine.counters.minor += faults
    machine.ledger.add(
        rule,
        rows,
        fault=faults,
        lookup=faults,
        pte=faults,
        around=pages - faults,
    )
    machine.ledger.add(rules.TABLE, rows, table=made)
