"""What /proc and the memory cgroup would say: fs/proc/task_mmu.c, mm/memcontrol.c."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench_simulator.model import ksm
from refbench_simulator.model.machine import Machine
from refbench_simulator.model.space import AddressSpace, Pte

Index = NDArray[np.int64]
_PSS_SHIFT = 12
"""Fraction bits of PSS: fs/proc/task_mmu.c."""
_OWNER = 8
"""What the memory cgroup adds to each object: a pointer to who pays, ``obj_full_size()`` of
mm/memcontrol.c."""
VMA_BYTES = 192 + _OWNER
"""A ``vm_area_struct``. Its node of the maple tree is not charged."""
CHAIN_BYTES = 64 + _OWNER
"""An ``anon_vma_chain``: one for each ``anon_vma`` that a VMA's pages may belong to."""
ANON_VMA_BYTES = 104 + _OWNER
"""An ``anon_vma``. These sizes are those of /proc/slabinfo on Linux 6.18, x86_64."""
PROCESS_BYTES = 19 * 4096
"""What a forked child of the agent is charged beside the program's memory: kernel stack,
``task_struct`` and what hangs on it, page tables and VMAs of its own (measured there too)."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Bytes of a process in proportion to who else shows its pages."""

    pss: int
    """Bytes, not rounded down to the KiB that the kernel prints."""
    uss: int
    merged: int
    """Bytes that KSM has merged."""


def shares(space: AddressSpace) -> Shares:
    """PSS, USS and merged memory: ``smaps_account()``."""
    size = space.machine.kernel.page_size
    folios = space.machine.folios
    rows = np.flatnonzero(space.pte == Pte.ANON)
    ids = space.folio[rows]
    weight = space.rows.weight[rows]
    mapcount = _shown(space.machine)[ids]
    merged = folios.merged[ids] > 0
    same = 0
    if merged.any():
        pages, counts, same = ksm.shares(space, rows[merged])
        weight = np.concatenate((weight[~merged], pages))
        mapcount = np.concatenate((mapcount[~merged], counts))
    part = (size << _PSS_SHIFT) // np.maximum(mapcount, 1)
    pss = int((part * weight).sum())
    uss = int(weight[mapcount == 1].sum())
    for pages, count in _file_shares(space):
        pss += int((((size << _PSS_SHIFT) // count) * pages).sum())
        uss += int(pages[count == 1].sum())
    return Shares(pss >> _PSS_SHIFT, uss * size, same * size)


def _shown(machine: Machine) -> Index:
    """How many address spaces show each folio: those in which it is in swap do not."""
    counts = machine.folios.mapcount.astype(np.int64)
    for space in machine.spaces if machine.kernel.swap else ():
        rows = np.flatnonzero(space.pte == Pte.SWAP)
        np.subtract.at(counts, space.folio[rows], 1)
    return counts


def entries_of(machine: Machine, number: int) -> tuple[Index, Index]:
    """How many entries show each page of a file that somebody shows: from page ``at[i]`` up to
    the next, ``levels[i]``."""
    repeats = machine.files[number].repeats
    edges: list[Index] = []
    changes: list[Index] = []
    for space in machine.spaces:
        rows = np.flatnonzero((space.pte == Pte.FILE) & (space.file == number))
        times = space.rows.copies[rows] if repeats else np.ones(rows.size, np.int64)
        low = space.pgoff[rows]
        edges += [low, low + space.rows.length[rows]]
        changes += [times, -times]
    at, inverse = np.unique(np.concatenate(edges), return_inverse=True)
    levels = np.cumsum(np.bincount(inverse, np.concatenate(changes), at.size))
    return at, levels.astype(np.int64)


def _file_shares(space: AddressSpace) -> list[tuple[Index, Index]]:
    """For each file that the process shows: pages, and how many entries show each of them."""
    found = []
    mine = np.flatnonzero(space.pte == Pte.FILE)
    for number in np.unique(space.file[mine]).tolist():
        file = space.machine.files[number]
        if file.single:
            shown = mine[space.file[mine] == number]
            found.append((space.rows.weight[shown], np.full(shown.size, file.entries)))
            continue
        at, levels = entries_of(space.machine, number)
        rows = mine[space.file[mine] == number]
        low = np.searchsorted(at, space.pgoff[rows])
        high = np.searchsorted(at, space.pgoff[rows] + space.rows.length[rows])
        pieces = high - low
        inside = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        index = np.repeat(low, pieces) + inside
        pages = (at[index + 1] - at[index]) * np.repeat(space.rows.copies[rows], pieces)
        found.append((pages, levels[index]))
    return found


def slab(machine: Machine) -> int:
    """Bytes of kernel objects: VMAs and what belongs to them, of all processes."""
    total = 0
    for space in machine.spaces:
        copies = space.rows.copies
        owned = np.flatnonzero(space.start & (space.anon_vma > 0))
        total += space.vmas * VMA_BYTES
        total += int((copies[owned] * space.chain[owned]).sum()) * CHAIN_BYTES
        # VMAs that were one once, or lent theirs to a neighbour, have the same anon_vma.
        _, first = np.unique(space.anon_vma[owned], return_index=True)
        total += int(copies[owned[first]].sum()) * ANON_VMA_BYTES
    return total


def processes(machine: Machine) -> int:
    """Bytes of the processes but the first, beside the program's memory."""
    return max(len(machine.spaces) - 1, 0) * PROCESS_BYTES


def file_pages(machine: Machine) -> int:
    """Pages of files that somebody keeps, in memory."""
    files = (file for file in machine.files if file.kind == "shmem")
    return sum(file.allocated - file.away for file in files)


def kept_pages(machine: Machine) -> int:
    """Pages that the kernel keeps for mappings to show: reference pages."""
    return sum(file.allocated for file in machine.files if file.kind != "shmem")


def table_pages(machine: Machine) -> int:
    """Page table pages of all processes."""
    return sum(space.tables.count for space in machine.spaces)


def anonymous(machine: Machine) -> int:
    """Anonymous pages in memory that something shows."""
    return machine.folios.pages - machine.folios.out + ksm.pages(machine)


def current(machine: Machine) -> int:
    """Bytes that are charged: pages, page tables, slab."""
    pages = anonymous(machine) + machine.folios.deferred + file_pages(machine)
    pages += kept_pages(machine) + table_pages(machine)
    return pages * machine.kernel.page_size + slab(machine) + processes(machine)


def note_peak(machine: Machine) -> None:
    """Keep the highest charge: before anything is given back, and when somebody looks."""
    machine.peak = max(machine.peak, current(machine))
