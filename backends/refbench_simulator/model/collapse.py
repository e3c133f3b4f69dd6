"""MADV_COLLAPSE: ``madvise_collapse()`` of mm/khugepaged.c."""

from __future__ import annotations

import errno

import numpy as np

from refbench.errors import Unsupported
from refbench_simulator import rules
from refbench_simulator.content import ZERO
from refbench_simulator.model import huge
from refbench_simulator.model.machine import Refusal
from refbench_simulator.model.mapping import zap
from refbench_simulator.model.space import NO_FILE, AddressSpace, Flag, Prot, Pte

_MISSING = (Pte.NONE, Pte.ZERO)


def collapse(space: AddressSpace, part: slice) -> None:
    """MADV_COLLAPSE of a part of one VMA: every aligned range in it becomes a huge page.

    :raises Refusal: EINVAL where that cannot be, EBUSY for missing pages of a userfaultfd; the
        ranges before the one that it is refused for are done.
    """
    if not _possible(space, part):
        raise Refusal(errno.EINVAL)
    size, page = space.rows.huge, space.rows.page
    low = -(-int(page[part.start]) // size)
    high = int(space.rows.last[part.stop - 1]) // size
    if low > high:
        raise Refusal(errno.EINVAL)
    inside = part.start + np.flatnonzero(
        (space.rows.unit[part] >= low) & (space.rows.unit[part] < high)
    )
    if not inside.size:
        return
    if space.file[part.start] != NO_FILE:
        _file(space, inside)
    refused = 0
    for first, behind in zip(*huge.runs(space, inside), strict=True):
        refused = _one(space, slice(int(first), int(behind))) or refused
        if refused and refused != errno.EAGAIN:
            raise Refusal(refused)
    if refused:
        raise Refusal(errno.EINVAL)


def _possible(space: AddressSpace, part: slice) -> bool:
    """``thp_vma_allowable_order()`` for MADV_COLLAPSE, which no setting but prctl(2) forbids.

    VMAs that never had a page of their own are refused.
    """
    size, row = space.rows.huge, part.start
    if not size or space.flags[row] & (Flag.NOHUGEPAGE | Flag.REFERENCE):
        return False
    vma = space.vma(row)
    start, behind = int(space.rows.page[vma.start]), int(space.rows.last[vma.stop - 1])
    if (behind - size) // size * size < start:
        return False
    if space.file[row] == NO_FILE:
        return bool(space.anon_vma[row])
    file = space.machine.files[space.file[row]]
    return file.kind == "shmem" and (start - int(space.pgoff[vma.start])) % size == 0


def _file(space: AddressSpace, rows: huge.Index) -> None:
    """A file's huge page is mapped only where there is no private copy of a part of it; the
    entries that show the file go all the same: ``collapse_file()``.

    :raises Refusal: EINVAL for such copies.
    """
    first, behind = (int(each[0]) for each in huge.runs(space, rows))
    if (space.pte[first:behind] == Pte.ANON).any():
        number, low = space.file[first], space.pgoff[first]
        for other in space.machine.spaces:
            shown = (other.pte == Pte.FILE) & (other.file == number)
            shown &= (other.pgoff >= low) & (other.pgoff < low + space.rows.huge)
            other.note_peak()
            zap(other, np.flatnonzero(shown))
        raise Refusal(errno.EINVAL)
    raise Unsupported(
        "The model has no huge pages of files, which MADV_COLLAPSE would make here.",
        remedy="Measure it on a host.",
    )


def _one(space: AddressSpace, rows: slice) -> int:
    """``hpage_collapse_scan_pmd()`` and ``collapse_huge_page()`` of one aligned range.

    The errno by which it is refused: EAGAIN where the ranges behind it are looked at all the
    same, 0 when it is a huge page now.
    """
    if space.huge[rows.start]:
        return 0
    index = np.arange(rows.start, rows.stop)
    if not space.tables.has(index[:1])[0]:
        return errno.EINVAL
    missing = np.isin(space.pte[rows], _MISSING)
    if missing.any() and space.flags[rows.start] & Flag.UFFD:
        return errno.EBUSY
    if not space.machine.kernel.collapses_read_only and not space.writable[rows].any():
        return errno.EAGAIN
    _make(space, index, missing)
    return 0


def _make(space: AddressSpace, rows: huge.Index, missing: huge.Mask) -> None:
    machine, folios = space.machine, space.machine.folios
    old = space.folio[rows]
    content = np.where(missing, ZERO, folios.content[old]).astype(np.int32)
    home = np.where(missing, space.rows.page[rows], folios.home[old])
    # What is in swap comes back first: __collapse_huge_page_swapin().
    swapped = space.pages(rows[space.pte[rows] == Pte.SWAP])
    weight = space.rows.weight[rows]
    new = folios.make(content, home, weight)
    folios.bind(new, np.array([rows.size]))
    freed = folios.drop(old[~missing])
    pages, copied = int(weight.sum()), int(weight[~missing].sum())
    space.folio[rows] = new
    space.pte[rows] = Pte.ANON
    space.huge[rows] = True
    space.writable[rows] = bool(space.prot[rows[0]] & Prot.WRITE)
    space.swapped -= swapped
    space.anon += pages - copied + swapped
    space.note_peak()
    units = pages // space.rows.huge
    machine.ledger.add(
        rules.COLLAPSE,
        rows,
        alloc=units,
        copy=copied,
        clear_huge=pages - copied,
        rmap=units,
        swap=swapped,
        free=freed,
    )
