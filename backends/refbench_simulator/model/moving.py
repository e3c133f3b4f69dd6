"""mremap(2): mm/mremap.c."""

from __future__ import annotations

import errno

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.model import faults, huge
from refbench_simulator.model.machine import Refusal, Trapped
from refbench_simulator.model.mapping import mapped_pieces, unmap_range
from refbench_simulator.model.space import AddressSpace, Flag, Pte

Index = NDArray[np.int64]
_SPARE = 3
"""VMAs that mremap(2) wants to be free below the limit: ``move_vma()``."""


def remap(space: AddressSpace, source: slice, target: slice, old: int, new: int) -> None:
    """Move ``old`` pages, the rows ``source``, to where the rows ``target`` are; there are then
    ``new`` pages, the rows of ``target``. MREMAP_MAYMOVE | MREMAP_FIXED.

    :raises Refusal: EFAULT for holes and for several VMAs where the kernel moves but one, ENOMEM.
    """
    kernel = space.machine.kernel
    if not kernel.moves_many_vmas and not space.mapped[source.start]:
        # SYSCALL_DEFINE5(mremap) of older kernels looks up the first page's VMA before all else.
        raise Refusal(errno.EFAULT)
    if space.map_count + 2 >= kernel.max_map_count - _SPARE:
        raise Refusal(errno.ENOMEM)
    kept = source.start + (target.stop - target.start) if new < old else source.stop
    fits = bool(space.mapped[source.start]) and space.vma_end(source.start) >= kept
    # check_prep_vma() looks before anything is unmapped, vma_to_resize() of older kernels after.
    if not fits and kernel.moves_many_vmas and new != old:
        raise Refusal(errno.EFAULT)
    if space.mapped[target].any():
        unmap_range(space, target)
    if new < old:
        unmap_range(space, slice(kept, source.stop))
        source = slice(source.start, kept)
    if new == old and kernel.moves_many_vmas:
        _move_all(space, source, target)
        return
    if not fits:
        raise Refusal(errno.EFAULT)
    locked = bool(space.flags[source.start] & Flag.LOCKED)
    _move(space, source, target)
    if new > old and locked:
        _populate(space, slice(target.start + source.stop - source.start, target.stop))


def _move_all(space: AddressSpace, source: slice, target: slice) -> None:
    """``remap_move()``: VMA by VMA, with the gaps between them; one with a userfaultfd only alone.

    :raises Refusal: EFAULT for a gap at the start, and at the first that may not be moved.
    """
    pieces = mapped_pieces(space, source)[0]
    if not pieces or pieces[0].start != source.start:
        raise Refusal(errno.EFAULT)
    for piece in pieces:
        alone = piece == source
        if space.flags[piece.start] & Flag.UFFD and not alone:
            raise Refusal(errno.EFAULT)
        start = target.start + piece.start - source.start
        _move(space, piece, slice(start, start + piece.stop - piece.start))


def _populate(space: AddressSpace, rows: slice) -> None:
    """What a locked VMA grows by is faulted in as far as it goes: ``mm_populate()``."""
    try:
        faults.populate(space, rows)
    except Trapped:
        return


def _move(space: AddressSpace, source: slice, target: slice) -> None:
    """``move_vma()``: a new VMA, the entries moved, the old range unmapped."""
    machine = space.machine
    count = source.stop - source.start
    moved = slice(target.start, target.start + count)
    head = source.start
    for name in ("prot", "flags", "file", "anon_vma", "chain"):
        getattr(space, name)[target] = getattr(space, name)[head]
    space.mapped[target] = True
    space.start[target] = False
    space.start[target.start] = True
    shift = space.rows.page[target] - space.rows.page[target.start]
    bare = space.anonymous(head) and not space.anon_vma[head]
    first = space.rows.page[target.start] if bare else space.pgoff[head]
    space.pgoff[target] = first + shift
    # Without UFFD_FEATURE_EVENT_REMAP the registration is dropped.
    space.flags[target] &= np.uint16(0xFFFF & ~Flag.UFFD)
    space.ctx[target] = 0
    _move_entries(space, source, moved)
    machine.ledger.add(rules.MOVE_VMA, target, mmap=1)
    for edge in (target.stop, target.start):
        if edge < len(space.rows):
            space.merge(edge, target.start)
    unmap_range(space, source)


def _move_entries(space: AddressSpace, source: slice, target: slice) -> None:
    """``move_page_tables()``: a table at the target for each that there is at the source."""
    huge.before_move(space, source, target)
    rows = np.arange(source.start, source.stop)
    there = np.flatnonzero(space.tables.has(rows))
    space.tables.cover(np.arange(target.start, target.stop)[there])
    if space.given is not None:
        space.given[target] = space.given[source]
    if space.old is not None:
        space.old[target] = space.old[source]
    for name in ("pte", "folio", "writable", "huge"):
        getattr(space, name)[target] = getattr(space, name)[source]
    space.pte[source] = Pte.NONE
    space.huge[source] = False
    moved = np.arange(target.start, target.stop)
    space.machine.ledger.add(
        rules.MOVE_ENTRIES,
        moved,
        move=space.pages(moved[space.pte[target] != Pte.NONE]),
    )
