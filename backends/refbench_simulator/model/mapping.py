"""mmap, munmap, mprotect and every other change of VMAs: mm/mmap.c, mm/vma.c, mm/mprotect.c."""

from __future__ import annotations

import errno
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from refbench.errors import LimitHit
from refbench_simulator import rules
from refbench_simulator.detail import Finer
from refbench_simulator.model import accounting, huge
from refbench_simulator.model.machine import Refusal, Trapped
from refbench_simulator.model.space import NO_FILE, AddressSpace, Flag, Prot, Pte
from refbench_simulator.rules import Rule

Index = NDArray[np.int64]

RW = Prot.READ | Prot.WRITE
MOST_MAPPED = (1 << 31) - 1
"""``_mapcount`` and ``_refcount`` of a page are an int each: include/linux/mm_types.h."""


def map_range(
    space: AddressSpace,
    rows: slice,
    prot: Prot = RW,
    flags: Flag = Flag(0),  # noqa: B008 - a flag is a value
    file: int = NO_FILE,
    starts: NDArray[np.bool_] | None = None,
    pgoff: Index | None = None,
) -> None:
    """mmap(2) of a range where nothing is mapped; with ``starts`` many of them, one VMA each.

    ``pgoff``: the file page that each row begins with; anonymous memory has its address.

    :raises Refusal: EEXIST, or ENOMEM at ``vm.max_map_count``.
    """
    machine, at = space.machine, np.arange(rows.start, rows.stop)
    if space.mapped[rows].any():
        raise Refusal(errno.EEXIST)
    begins = starts if starts is not None else at == rows.start
    count = int(space.rows.copies[rows][begins].sum())
    # do_mmap() looks before each VMA that is made, whether it will merge or not.
    if space.map_count + count - 1 > machine.kernel.max_map_count:
        raise Refusal(errno.ENOMEM)
    if prot & Prot.WRITE and not flags & Flag.NORESERVE:
        flags |= Flag.ACCOUNT
    space.mapped[rows] = True
    space.start[rows] = begins
    space.prot[rows] = prot
    space.flags[rows] = flags
    space.file[rows] = file
    space.pgoff[rows] = space.rows.page[rows] if pgoff is None else pgoff
    space.anon_vma[rows] = 0
    space.chain[rows] = 0
    space.ctx[rows] = 0
    machine.ledger.add(rules.MMAP, rows, mmap=count)
    for edge in (rows.stop, rows.start):
        if edge < len(space.rows):
            space.merge(edge, rows.start, touched=False)


def unmap_range(space: AddressSpace, rows: slice) -> None:
    """munmap(2) of a range; holes in it are fine.

    :raises Refusal: ENOMEM when cutting a VMA in two would pass ``vm.max_map_count``.
    """
    machine = space.machine
    if not space.mapped[rows].any():
        return
    inside = rows.start < rows.stop and space.joins(rows.start) and not space.start[rows.start]
    ends = rows.stop < len(space.rows) and space.joins(rows.stop) and not space.start[rows.stop]
    in_two = inside and ends and space.vma(rows.start).stop > rows.stop
    if in_two and space.map_count >= machine.kernel.max_map_count:
        raise Refusal(errno.ENOMEM)
    if inside:
        huge.cut(space, rows.start)
        space.split(rows.start)
    if ends:
        huge.cut(space, rows.stop)
        space.split(rows.stop)
    gone = rows.start + np.flatnonzero(space.mapped[rows])
    note_removed(space, gone)
    zap(space, gone)
    space.mapped[gone] = False
    space.start[gone] = False
    space.tables.release(gone, np.flatnonzero(space.mapped))
    machine.drop_unused(space.file[gone])


def note_removed(space: AddressSpace, rows: Index) -> None:
    """Enter the VMAs that begin in ``rows`` as removed: ``remove_vma()``, ``free_pgtables()``."""
    starts = rows[space.start[rows]]
    copies = space.rows.copies[starts]
    space.machine.ledger.add(
        rules.MUNMAP,
        rows,
        munmap=int(copies.sum()),
        unlink=int(copies[space.anon_vma[starts] > 0].sum()),
    )


def zap(space: AddressSpace, rows: Index, rule: Rule = rules.ZAP) -> int:
    """``zap_pte_range()``: entries go, and with them what nothing else shows. Pages removed."""
    machine = space.machine
    space.note_peak()
    accounting.note_peak(machine)
    huge.before_zap(space, rows)
    spared = space.pages(rows) - huge.entries(space, rows)
    kinds = space.pte[rows]
    shown = rows[kinds == Pte.ANON]
    swapped = rows[kinds == Pte.SWAP]
    files = rows[kinds == Pte.FILE]
    special = space.pages(rows[(kinds == Pte.ZERO) | (kinds == Pte.REFERENCE)])
    in_one = shown[space.huge[shown]]
    freed = machine.folios.drop(space.folio[shown])
    in_one = in_one[machine.folios.mapcount[space.folio[in_one]] == 0]
    frees = freed - space.pages(in_one) + huge.entries(space, in_one)
    machine.folios.drop(space.folio[swapped])
    anon = space.pages(shown)
    space.anon -= anon
    space.swapped -= space.pages(swapped)
    filed = count_file(space, files, -1)
    space.pte[rows] = Pte.NONE
    space.writable[rows] = False
    space.huge[rows] = False
    machine.ledger.add(rule, rows, zap=anon + filed + special - spared, free=frees)
    return anon + filed


def count_file(space: AddressSpace, rows: Index, sign: int) -> int:
    """Enter file pages that ``rows`` show, or no longer show, in the counts by kind."""
    total = 0
    if not rows.size:
        return 0
    for number in np.unique(space.file[rows]).tolist():
        pages = space.pages(rows[space.file[rows] == number])
        total += pages
        _count_first(space, number, sign * pages)
        if space.machine.files[number].kind == "shmem":
            space.shmem += sign * pages
        else:
            space.filed += sign * pages
    return total


def _count_first(space: AddressSpace, number: int, change: int) -> None:
    """Enter pages of a file that get their first entry, or lose their last.

    Which page an entry shows is not looked at: the entries are taken to be spread over the
    file's pages evenly, as they are where a small file is mapped again and again.
    """
    file = space.machine.files[number]
    pages = 1 if file.single else file.pages
    before, file.entries = min(file.entries, pages), file.entries + change
    if file.single and file.entries > MOST_MAPPED:
        raise LimitHit(
            f"One page is shown by {file.entries} entries, and its counts end at {MOST_MAPPED}: "
            "the kernel would take it for free while it is in use.",
            wanted=file.entries,
            limit=MOST_MAPPED,
            remedy="Use refpage-dev:handler=safe, or a mechanism with several pages.",
        )
    first = min(file.entries, pages) - before
    rule = rules.FIRST_SHOWN if first > 0 else rules.LAST_SHOWN
    space.machine.ledger.add(rule, mapped=max(first, 0), unmapped=max(-first, 0))


Change = Callable[[AddressSpace, slice], None]


def modify(space: AddressSpace, part: slice, change: Change) -> None:
    """``vma_modify()``: change a part of one VMA, merging and splitting as needed.

    :raises Refusal: ENOMEM when a split would pass ``vm.max_map_count``.
    """
    kernel = space.machine.kernel
    if space.rows.copies[part.start] > 1 and space.file[part.start] == NO_FILE:
        # Whether copies merge depends on what lies between them.
        raise Finer(int(space.rows.region[part.start]))
    space.machine.ledger.add(rules.MODIFY, part, modify=int(space.rows.copies[part.start]))
    begins, ends = bool(space.start[part.start]), space.vma_end(part.start) == part.stop
    before = {name: getattr(space, name)[part].copy() for name in ("prot", "flags", "ctx")}
    was = space.start[part.start]
    change(space, part)
    space.start[part.start] = True
    left = begins and space.can_merge(part.start, part.start)
    next_is_start = part.stop < len(space.rows) and bool(space.start[part.stop])
    right = ends and next_is_start and space.can_merge(part.stop, part.start)
    splits = (not begins) + (not ends) - (1 if left and not ends else 0)
    splits -= 1 if right and not begins else 0
    if splits > 0 and space.map_count - (0 if begins else 1) + splits > kernel.max_map_count:
        space.start[part.start] = was
        for name, column in before.items():
            getattr(space, name)[part] = column
        raise Refusal(errno.ENOMEM)
    if not begins:
        huge.cut(space, part.start)
        space.machine.ledger.add(rules.SPLIT, part, split=int(space.rows.copies[part.start]))
    if not ends:
        huge.cut(space, part.stop)
        space.split(part.stop)
    touched = bool(space.anon_vma[part.start])
    if begins:
        space.merge(part.start, part.start, touched=touched)
    if ends and next_is_start:
        space.merge(part.stop, part.start, touched=touched)


def mapped_pieces(space: AddressSpace, rows: slice) -> tuple[list[slice], bool]:
    """The parts of VMAs in a range, and whether there is a hole."""
    pieces = list(space.pieces(rows))
    whole = sum(piece.stop - piece.start for piece in pieces) == rows.stop - rows.start
    return pieces, not whole


def protect_range(space: AddressSpace, rows: slice, prot: Prot) -> None:
    """mprotect(2): ``mprotect_fixup()`` and ``change_pte_range()``.

    :raises Refusal: ENOMEM for a hole, after what lies before it is changed.
    """
    pieces, _ = mapped_pieces(space, rows)
    at = rows.start
    for piece in pieces:
        if piece.start != at:
            raise Refusal(errno.ENOMEM)
        at = piece.stop
        if space.prot[piece.start] != prot:
            old, locked = Prot(int(space.prot[piece.start])), space.flags[piece.start] & Flag.LOCKED
            modify(space, piece, lambda space, part: _set_prot(space, part, prot))
            _change_entries(space, piece, prot)
            shown = np.arange(piece.start, piece.stop)[space.pte[piece] != Pte.NONE]
            space.machine.ledger.add(rules.PROTECT, shown, protect=space.pages(shown))
            if locked and prot & Prot.WRITE and not old & Prot.WRITE:
                _populate_locked(space, piece)
    if at != rows.stop:
        raise Refusal(errno.ENOMEM)


def _populate_locked(space: AddressSpace, part: slice) -> None:
    """mprotect_fixup(): a locked VMA that becomes writable is copied at once.

    It keeps the lock meanwhile, so that no userfault is waited for: ``handle_userfault()`` fails
    without FAULT_FLAG_ALLOW_RETRY.
    """
    from refbench_simulator.model import faults

    missing = (space.pte[part] == Pte.NONE) & ((space.flags[part] & Flag.UFFD) != 0)
    stop = part.start + int(missing.argmax()) if missing.any() else part.stop
    try:
        faults.populate(space, slice(part.start, stop))
    except Trapped:
        return
    if stop < part.stop:
        faults.fail_missing(space, stop, store=True)


def _set_prot(space: AddressSpace, part: slice, prot: Prot) -> None:
    space.prot[part] = prot
    row = part.start
    flags = Flag(int(space.flags[row]))
    if prot & Prot.WRITE:
        if not flags & (Flag.NORESERVE | Flag.ACCOUNT):
            space.flags[part] = flags | Flag.ACCOUNT
    elif flags & Flag.ACCOUNT and space.anonymous(row) and not space.anon_vma[row]:
        # Nothing was ever written there: mprotect_fixup() gives the promise back.
        space.flags[part] = flags & ~Flag.ACCOUNT


def _change_entries(space: AddressSpace, part: slice, prot: Prot) -> None:
    shown = space.pte[part] == Pte.ANON
    if not prot & Prot.WRITE:
        space.writable[part] = False
        return
    # can_change_private_pte_writable(): pages that are exclusive need no fault.
    exclusive = space.machine.folios.exclusive[space.folio[part]]
    space.writable[part] = shown & exclusive
