"""madvise(2), mlock(2) and munlock(2): mm/madvise.c, mm/mlock.c, mm/gup.c."""

from __future__ import annotations

import errno
from functools import partial

import numpy as np

from refbench_simulator.model import huge, swapping
from refbench_simulator.model.collapse import collapse
from refbench_simulator.model.faults import populate, touch
from refbench_simulator.model.folios import LAZY
from refbench_simulator.model.machine import Refusal, Trapped
from refbench_simulator.model.mapping import mapped_pieces, modify, zap
from refbench_simulator.model.space import AddressSpace, Flag, Prot, Pte

_SETS = {
    "hugepage": (Flag.HUGEPAGE, Flag.NOHUGEPAGE),
    "nohugepage": (Flag.NOHUGEPAGE, Flag.HUGEPAGE),
    "mergeable": (Flag.MERGEABLE, Flag(0)),
    "unmergeable": (Flag(0), Flag.MERGEABLE),
}
"""Advice that changes VMA flags: what is set and what is cleared."""


def advise(space: AddressSpace, rows: slice, advice: str) -> None:
    """madvise(2) of a range.

    :raises Refusal: EINVAL for a VMA that it is not for, at once; ENOMEM for a hole, after all
        VMAs of the range are done; EFAULT and EINVAL of populating.
    """
    pieces, hole = mapped_pieces(space, rows)
    if advice in ("populate-read", "populate-write"):
        _populate(space, rows, pieces, hole, store=advice == "populate-write")
        return
    if advice == "dontneed":
        _dont_need(space, pieces)
        pieces = []
    for piece in pieces:
        if advice in _SETS:
            _set_flags(space, piece, advice)
        elif advice in _DOES:
            _DOES[advice](space, piece)
    if hole:
        raise Refusal(errno.ENOMEM)


def _set_flags(space: AddressSpace, part: slice, advice: str) -> None:
    on, off = _SETS[advice]
    old = Flag(int(space.flags[part.start]))
    if advice == "mergeable" and old & Flag.MIXEDMAP:
        # vma_ksm_compatible(): VM_SPECIAL is passed over, and that is no error.
        return
    new = (old | on) & ~off
    if advice == "unmergeable" and old & Flag.MERGEABLE:
        _unmerge(space, part)
    if new != old:
        modify(space, part, partial(_put_flags, flags=new))


def _unmerge(space: AddressSpace, part: slice) -> None:
    """``unmerge_ksm_pages()``: every merged page is copied, as if it had been stored to."""
    rows = np.arange(part.start, part.stop)
    shown = rows[space.pte[part] == Pte.ANON]
    merged = shown[space.machine.folios.merged[space.folio[shown]] > 0]
    touch(space, merged, store=True, pinned=True)
    # FAULT_FLAG_UNSHARE: the copies are the process's own, and write-protected all the same.
    space.writable[merged] = False


def _put_flags(space: AddressSpace, rows: slice, flags: Flag) -> None:
    space.flags[rows] = flags


def _dont_need(space: AddressSpace, pieces: list[slice]) -> None:
    """``madvise_dontneed_single_vma()`` of VMA after VMA: the entries go; what a file shows comes
    back."""
    locked = [bool(space.flags[piece.start] & Flag.LOCKED) for piece in pieces]
    stop = locked.index(True) if True in locked else len(pieces)
    if stop:
        rows = np.arange(pieces[0].start, pieces[stop - 1].stop)
        zap(space, rows[space.mapped[rows] & (space.pte[rows] != Pte.NONE)])
        for piece in pieces[:stop]:
            _reclaim_tables(space, piece)
    if stop < len(pieces):
        raise Refusal(errno.EINVAL)


def _reclaim_tables(space: AddressSpace, part: slice) -> None:
    """Lowest tables that the part of a VMA covers as a whole, emptied just now."""
    kernel, columns, tail = space.machine.kernel, space.rows, part.stop - 1
    first, behind = int(columns.page[part.start]), int(columns.page[tail] + columns.length[tail])
    if columns.copies[tail] == 1:
        # What begins in a fold and ends behind it begins in the last copy.
        first = int(columns.last[part.start] - columns.length[part.start])
    if kernel.reclaims_tables and behind - first >= kernel.entries:
        space.tables.reclaim(np.arange(part.start, part.stop), first, behind, kernel.entries)


def _free(space: AddressSpace, part: slice) -> None:
    """``madvise_free_single_vma()``: pages may go when memory is short, until stored to."""
    if not space.anonymous(part.start) or space.flags[part.start] & Flag.LOCKED:
        raise Refusal(errno.EINVAL)
    rows = np.arange(part.start, part.stop)
    swapped = rows[space.pte[part] == Pte.SWAP]
    zap(space, swapped)
    huge.break_up(space, rows, wholly=False)
    shown = rows[space.pte[part] == Pte.ANON]
    folios = space.machine.folios
    mine = space.folio[shown]
    alone, small = folios.mapcount[mine] == 1, folios.merged[mine] == 0
    folios.lazy[mine[alone & small]] = LAZY
    shared = shown[~alone & small & (folios.group[mine] == 0)]
    if shared.size:
        # What others show may go as soon as they do not: the entries of each say who stored.
        space.given = np.zeros(len(space.rows), np.bool_) if space.given is None else space.given
        space.given[shared] = True


def _cold(space: AddressSpace, part: slice) -> None:
    """``madvise_cold()``, which is refused for locked VMAs."""
    if space.flags[part.start] & Flag.LOCKED:
        raise Refusal(errno.EINVAL)
    huge.break_up(space, np.arange(part.start, part.stop), wholly=False)


def _page_out(space: AddressSpace, part: slice) -> None:
    """``madvise_pageout()``, refused for locked VMAs too."""
    if space.flags[part.start] & Flag.LOCKED:
        raise Refusal(errno.EINVAL)
    swapping.page_out(space, np.arange(part.start, part.stop))


_DOES = {
    "free": _free,
    "cold": _cold,
    "pageout": _page_out,
    "collapse": collapse,
}


def _populate(
    space: AddressSpace, rows: slice, pieces: list[slice], hole: bool, *, store: bool
) -> None:
    """``madvise_populate()``: VMA by VMA, up to the first that permits it not."""
    stop, error = rows.start, errno.ENOMEM if hole else 0
    for piece in pieces:
        if piece.start != stop:
            error = errno.ENOMEM
            break
        if not space.prot[piece.start] & (Prot.WRITE if store else Prot.READ):
            error = errno.EINVAL
            break
        stop = piece.stop
    try:
        populate(space, slice(rows.start, stop), store=store)
    except Trapped:
        raise Refusal(errno.EFAULT) from None
    if error:
        raise Refusal(error)


def lock(space: AddressSpace, rows: slice, *, on: bool) -> None:
    """mlock(2) and munlock(2). Locking faults everything in, for writing where it is permitted.

    :raises Refusal: ENOMEM for a hole, or for what permits no access.
    """
    pieces, _ = mapped_pieces(space, rows)
    at = rows.start
    for piece in pieces:
        if piece.start != at:
            raise Refusal(errno.ENOMEM)
        at = piece.stop
        old = Flag(int(space.flags[piece.start]))
        new = old | Flag.LOCKED if on else old & ~Flag.LOCKED
        # mlock_fixup(): VM_SPECIAL is not locked, but populated all the same.
        if new != old and not old & Flag.MIXEDMAP:
            modify(space, piece, partial(_put_flags, flags=new))
    if at != rows.stop:
        raise Refusal(errno.ENOMEM)
    if on:
        try:
            populate(space, rows)
        except Trapped:
            raise Refusal(errno.ENOMEM) from None
