"""fork(2) and exit: ``dup_mmap()``, ``copy_page_range()``, ``exit_mmap()``."""

from __future__ import annotations

import numpy as np

from refbench_simulator import rules
from refbench_simulator.model import huge
from refbench_simulator.model.mapping import count_file, note_removed, zap
from refbench_simulator.model.space import AddressSpace, Flag, Pte


def fork(parent: AddressSpace) -> AddressSpace:
    """The child's address space.

    Only VMAs with an ``anon_vma`` have their entries copied (``vma_needs_copy()`` of
    mm/memory.c), or VM_MIXEDMAP: what shows a file or the zero page elsewhere is faulted in anew.
    """
    machine = parent.machine
    child = parent.fork()
    child.flags &= np.uint16(0xFFFF & ~Flag.LOCKED)
    kept = np.zeros(len(parent.rows), np.bool_)
    for ctx in np.unique(parent.ctx[parent.mapped & (parent.ctx > 0)]).tolist():
        heir = machine.heir(ctx)
        mine = parent.ctx == ctx
        child.ctx[mine] = heir
        kept |= mine & (heir > 0)
    child.flags[~kept] &= np.uint16(0xFFFF & ~Flag.UFFD)
    copied = parent.mapped & ((parent.anon_vma > 0) | ((parent.flags & Flag.MIXEDMAP) != 0))
    child.pte[~copied] = Pte.NONE
    child.writable[:] = False
    child.huge[~copied] = False
    driven = copied & ((parent.flags & Flag.MIXEDMAP) != 0) & (parent.pte == Pte.REFERENCE)
    if driven.any():
        # __copy_present_ptes(): the child has not accessed what its entry shows.
        child.old = driven
    rows = np.flatnonzero(copied)
    anonymous = rows[parent.pte[rows] == Pte.ANON]
    swapped = rows[parent.pte[rows] == Pte.SWAP]
    machine.folios.share(parent.folio[anonymous])
    machine.folios.share(parent.folio[swapped])
    parent.writable[anonymous] = False
    child.anon = child.pages(anonymous)
    child.swapped = child.pages(swapped)
    files = rows[parent.pte[rows] == Pte.FILE]
    count_file(child, files, +1)
    tables = child.tables.inherit(parent.tables, rows)
    _new_anon_vmas(child)
    shown = rows[parent.pte[rows] != Pte.NONE]
    machine.ledger.add(rules.FORK, fork=1)
    machine.ledger.add(
        rules.FORK_VMAS,
        parent.mapped.nonzero()[0],
        fork_vma=parent.vmas,
        anon_vma=int(child.rows.copies[child.start & (child.anon_vma > 0)].sum()),
    )
    machine.ledger.add(
        rules.FORK_ENTRIES, shown, fork_pte=huge.entries(parent, shown), table=tables
    )
    if machine.ledger.listener is not None:
        left = parent.mapped & ~copied & (parent.pte != Pte.NONE)
        machine.ledger.add(rules.FORK_LEAVES, np.flatnonzero(left))
    child.note_peak()
    machine.spaces.append(child)
    return child


def _new_anon_vmas(child: AddressSpace) -> None:
    """``anon_vma_fork()``: the child's VMAs keep their parent's chains and get one of their own."""
    starts = np.flatnonzero(child.start & (child.anon_vma > 0))
    numbers = np.zeros(len(child.rows), np.int32)
    numbers[starts] = child.machine.new_anon_vmas(starts.size)
    has = child.mapped & (child.anon_vma > 0)
    all_starts = np.flatnonzero(child.start)
    rows = np.flatnonzero(has)
    begins = all_starts[np.searchsorted(all_starts, rows, side="right") - 1]
    child.anon_vma[rows] = numbers[begins]
    child.chain[rows] = np.minimum(child.chain[rows].astype(np.int64) + 1, 255)


def end(space: AddressSpace) -> None:
    """A process ends: ``exit_mmap()``."""
    machine = space.machine
    rows = np.flatnonzero(space.mapped)
    machine.ledger.add(rules.EXIT, exit=1)
    note_removed(space, rows)
    zap(space, rows)
    machine.spaces.remove(space)
    # A child's VMAs have userfaultfds of their own, inherited or opened anew.
    contexts = np.unique(space.ctx[rows])
    for number in contexts[contexts > 0].tolist():
        machine.userfaults[number - 1].gone = True
    machine.drop_unused(space.file[rows])
