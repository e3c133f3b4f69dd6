"""The fault path: mm/memory.c, from ``handle_mm_fault()`` on.

Rows are given in the order in which they are accessed. What happens to one does not depend on
the others, except where the text says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.model import anon_vma, around, huge, reclaim, swapping
from refbench_simulator.model.folios import KEPT, LAZY
from refbench_simulator.model.machine import Trapped
from refbench_simulator.model.space import NO_FILE, AddressSpace, Flag, Prot, Pte

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


def access(space: AddressSpace, rows: Index, *, store: bool) -> None:
    """User space loads from ``rows``, or stores to them, page by page.

    :raises Trapped: for the first row whose signal nobody resolves; those before it are done.
    """
    need = Prot.WRITE if store else Prot.READ
    allowed = space.mapped[rows] & ((space.prot[rows] & need) != 0)
    good = int(rows.size) if allowed.all() else int(allowed.argmin())
    _trap(space, rows[:good], store=store)
    signalled = rows[good:]
    if signalled.size:
        resolve = space.on_segv
        done = resolve(space, signalled, store) if resolve else 0
        # The access is done again, and so may fault again.
        _trap(space, signalled[:done], store=store)
        if done < signalled.size:
            raise Trapped("SIGSEGV", int(signalled[done]))
    space.note_peak()


def _trap(space: AddressSpace, rows: Index, *, store: bool) -> None:
    """:func:`touch` from user mode, where every fault is an exception."""
    counters = space.machine.counters
    before = counters.minor + counters.major
    try:
        touch(space, rows, store=store)
    finally:
        space.machine.ledger.add(rules.TRAP, trap=counters.minor + counters.major - before)


def touch(space: AddressSpace, rows: Index, *, store: bool, pinned: bool = False) -> None:
    """The faults of accesses that the VMAs permit, by user space or the kernel.

    ``pinned``: the kernel looks for the pages itself (GUP), and no access is tried again.

    :raises Trapped: SIGBUS behind the end of a file, or from a userfaultfd; those before are done.
    """
    if not rows.size:
        return
    if not reclaim.limited(space.machine):
        _touch(space, rows, store=store, pinned=pinned)
        return
    for part in reclaim.slices(space, rows):
        reclaim.room(space.machine, int(reclaim.need(space, part).sum()))
        _touch(space, part, store=store, pinned=pinned)
        reclaim.seen(space, part)


def _touch(space: AddressSpace, rows: Index, *, store: bool, pinned: bool) -> None:
    if not rows.size:
        return
    stop = _behind_file(space, rows)
    if stop is not None:
        _touch(space, rows[:stop], store=store, pinned=pinned)
        _fail_behind_file(space, int(rows[stop]), store=store)
        raise Trapped("SIGBUS", int(rows[stop]))
    missing = (space.pte[rows] == Pte.NONE) & ((space.flags[rows] & Flag.UFFD) != 0)
    if missing.any():
        closed = missing & (pinned & ~_served(space, rows))
        if closed.any():
            stop = int(closed.argmax())
            _touch(space, rows[:stop], store=store, pinned=pinned)
            fail_missing(space, int(rows[stop]), store=store)
            raise Trapped("SIGBUS", int(rows[stop]))
        if store:
            # do_anonymous_page() looks for the userfaultfd when it has a page already.
            pages = space.pages(rows[missing])
            space.machine.ledger.add(
                rules.UFFD_SPARE, rows[missing], alloc=pages, clear=pages, free=pages
            )
        try:
            _userfault(space, rows[missing], store, pinned=pinned)
        except Trapped as trapped:
            fail_missing(space, trapped.row, store=store)
            _fault(space, rows[: int((rows == trapped.row).argmax())], store=store)
            raise
    _fault(space, rows, store=store)


def fail_missing(space: AddressSpace, row: int, *, store: bool) -> None:
    """What a fault leaves behind that no userfaultfd resolves: ``do_anonymous_page()`` asks
    ``handle_userfault()`` behind pte_alloc(), and for a store behind vmf_anon_prepare();
    ``do_huge_pmd_anonymous_page()`` behind the latter, and gives its table back."""
    large = huge.comes(space, row)
    space.tables.cover_first(row, lowest=1 if large else 0)
    if store or large:
        anon_vma.prepare(space, np.array([row]))


def _fault(space: AddressSpace, rows: Index, *, store: bool) -> None:
    huge.fault(space, rows, store=store)
    if store:
        _store(space, rows)
    else:
        _load(space, rows)


def _served(space: AddressSpace, rows: Index) -> NDArray[np.bool_]:
    """Where a fault of the kernel's own is handed on: ``handle_userfault()``."""
    kernel = space.machine.kernel.serves_kernel_faults
    served = np.array([False, *(kernel and u.by_thread for u in space.machine.userfaults)])
    return np.asarray(served[space.ctx[rows]], dtype=np.bool_)


def _behind_file(space: AddressSpace, rows: Index) -> int | None:
    """The first of ``rows`` that would fault behind the end of its file."""
    files = space.file[rows]
    if (files == NO_FILE).all():
        return None
    sizes = np.array([file.pages for file in space.machine.files], np.int64)
    behind = (files != NO_FILE) & (space.pte[rows] == Pte.NONE)
    behind &= space.pgoff[rows] >= sizes[np.maximum(files, 0)]
    return int(behind.argmax()) if behind.any() else None


def _fail_behind_file(space: AddressSpace, row: int, *, store: bool) -> None:
    """SIGBUS comes when the way to the entry is made, all but the last table; before, a load has
    looked around: ``do_fault_around()``, ``__do_fault()``."""
    space.tables.cover_first(row, lowest=1)
    if store:
        anon_vma.prepare(space, np.array([row]))
    else:
        around.look(space, row)


def _userfault(space: AddressSpace, rows: Index, store: bool, *, pinned: bool) -> None:
    """What a thread resolved is a fault when the access is tried again; the kernel, when it looks
    for the page again, finds it: ``faultin_page()`` of mm/gup.c, ``mm_account_fault()``."""
    machine, numbers = space.machine, space.ctx[rows]
    for number in np.unique(numbers).tolist():
        mine = rows[numbers == number]
        userfault = machine.userfaults[number - 1]
        done = userfault.resolve(space, mine, store) if userfault.resolve else 0
        if userfault.by_thread and not pinned:
            if machine.kernel.handled_userfault_is_major:
                machine.counters.major += space.pages(mine[:done])
            else:
                machine.counters.minor += space.pages(mine[:done])
        if done < mine.size:
            raise Trapped("SIGBUS", int(mine[done]))


def _load(space: AddressSpace, rows: Index) -> None:
    """``do_anonymous_page()`` and ``do_read_fault()``."""
    swapping.file_in(space, rows, store=False)
    swapping.swap_in(space, rows)
    if space.old is not None:
        space.old[rows] = False
    empty = rows[space.pte[rows] == Pte.NONE]
    if not empty.size:
        return
    filed = space.file[empty] != NO_FILE
    reference = space.special(empty)
    anonymous = empty[~filed | reference]
    if anonymous.size:
        shown_by = np.where(space.special(anonymous), Pte.REFERENCE, Pte.ZERO)
        space.pte[anonymous] = shown_by
        pages = space.pages(anonymous)
        machine = space.machine
        machine.counters.minor += pages
        made = space.tables.cover(anonymous)
        shown = rules.LOAD_REFERENCE if reference.any() else rules.LOAD_ZERO
        machine.ledger.add(shown, anonymous, fault=pages, pte=pages)
        machine.ledger.add(rules.TABLE, anonymous, table=made)
    around.load(space, empty[filed & ~reference])


def _store(space: AddressSpace, rows: Index) -> None:
    """First stores, and stores to what is shared: ``do_anonymous_page()``, ``do_cow_fault()``,
    ``do_wp_page()``."""
    swapping.file_in(space, rows, store=True)
    back = swapping.swap_in(space, rows)
    kinds = space.pte[rows]
    fresh = rows[(kinds != Pte.ANON)]
    shared = rows[(kinds == Pte.ANON) & ~space.writable[rows]]
    if fresh.size:
        _first_store(space, fresh)
    again = np.isin(shared, back)
    if not again.all():
        _write_protected(space, shared[~again])
    if again.any():
        _write_protected(space, shared[again], same_fault=True)
    if space.given is not None:
        space.given[rows] = False
    folios, shown = space.machine.folios, space.folio[rows]
    folios.lazy[shown[folios.lazy[shown] == LAZY]] = KEPT


def _first_store(space: AddressSpace, rows: Index) -> None:
    machine = space.machine
    kinds = space.pte[rows]
    reference = space.special(rows)
    copied = (space.file[rows] != NO_FILE) | reference
    from_file = kinds == Pte.FILE
    pages = space.pages(rows)
    copies = space.pages(rows[copied])
    replaced = space.pages(rows[kinds != Pte.NONE])
    looked = space.pages(rows[copied & ~reference & (kinds == Pte.NONE)])
    filed = mapping_count(space, rows[from_file])
    anon_vma.prepare(space, rows)
    made = space.tables.cover(rows)
    content = machine.file_contents()[space.file[rows] - NO_FILE]
    install(space, rows, content, writable=True)
    if pages > copies:
        machine.counters.minor += pages - copies
        machine.ledger.add(
            rules.FIRST_STORE,
            rows[~copied],
            fault=pages - copies,
            alloc=pages - copies,
            clear=pages - copies,
            rmap=pages - copies,
            pte=pages - copies,
        )
    if space.old is not None:
        _copy_again(space, rows[(kinds == Pte.REFERENCE) & space.old[rows]])
    if copies:
        machine.counters.minor += copies
        machine.ledger.add(
            rules.STORE_COPIES,
            rows[copied],
            fault=copies,
            alloc=copies,
            copy=copies,
            rmap=copies,
            pte=copies,
            lookup=looked,
            zap=filed,
        )
    machine.ledger.add(rules.TABLE, rows, table=made)
    if replaced:
        machine.ledger.add(rules.FLUSH, rows[kinds != Pte.NONE], flush=replaced)


def _copy_again(space: AddressSpace, rows: Index) -> None:
    """``wp_page_copy()`` of a page that only a driver knows loads from its address. That marks an
    old entry as accessed, which is not the entry then that the fault was for: all is done again.
    """
    count = space.pages(rows)
    space.machine.counters.minor += count
    space.machine.ledger.add(
        rules.STORE_COPIES, rows, fault=count, alloc=count, copy=count, free=count
    )


def mapping_count(space: AddressSpace, rows: Index) -> int:
    """File pages that ``rows`` no longer show."""
    from refbench_simulator.model.mapping import count_file

    return count_file(space, rows, -1)


def install(
    space: AddressSpace,
    rows: Index,
    content: NDArray[np.int32] | int,
    *,
    writable: NDArray[np.bool_] | bool,
) -> None:
    """Anonymous pages of their own for ``rows``."""
    weight = space.rows.weight[rows]
    space.folio[rows] = space.machine.folios.make(content, space.rows.page[rows], weight)
    space.pte[rows] = Pte.ANON
    space.writable[rows] = writable
    space.anon += int(weight.sum())
    if space.given is not None:
        space.given[rows] = False


def _write_protected(space: AddressSpace, rows: Index, *, same_fault: bool = False) -> None:
    """``do_wp_page()`` on anonymous pages: reused when nobody else has them, else copied.

    ``same_fault``: in the fault that brought them back from swap.
    """
    machine, folios = space.machine, space.machine.folios
    old = space.folio[rows]
    alone = (huge.alone(space, old) | folios.exclusive[old]) & (folios.merged[old] == 0)
    reused = rows[alone]
    folios.exclusive[space.folio[reused]] = True
    space.writable[reused] = True
    copied = rows[~alone]
    reuses = space.pages(reused)
    faults = 0 if same_fault else reuses
    machine.counters.minor += faults
    machine.ledger.add(rules.STORE_REUSES, reused, fault=faults)
    if not copied.size:
        return
    gone = space.folio[copied]
    content, home = folios.content[gone].copy(), folios.home[gone].copy()
    count = space.pages(copied)
    anon_vma.prepare(space, copied)
    space.anon -= count
    install(space, copied, content, writable=True)
    folios.home[space.folio[copied]] = home
    freed = folios.drop(gone)
    faults = 0 if same_fault else count
    machine.counters.minor += faults
    machine.ledger.add(
        rules.STORE_UNSHARES,
        copied,
        fault=faults,
        alloc=count,
        copy=count,
        rmap=count,
        pte=count,
        flush=count,
        free=freed,
    )


def unshare(space: AddressSpace, rows: Index) -> None:
    """FAULT_FLAG_UNSHARE: a page that is pinned to be read is the process's own from then on.

    ``gup_must_unshare()`` of mm/gup.c: what an entry shows without having it alone is copied.
    """
    shown = rows[space.pte[rows] == Pte.ANON]
    shared = shown[~space.machine.folios.exclusive[space.folio[shown]]]
    _write_protected(space, shared)
    space.writable[shared] = False


def populate(space: AddressSpace, rows: slice, *, store: bool | None = None) -> None:
    """``populate_vma_page_range()``: the kernel faults a range in, and the faults are counted.

    ``store`` None: as mlock(2) and MAP_POPULATE do, for writing where a private VMA permits it.

    :raises Trapped: where the VMA permits no access.
    """
    index = rows.start + np.flatnonzero(space.mapped[rows])
    prot = space.prot[index]
    writable = (prot & Prot.WRITE) != 0
    for_writing = writable if store is None else np.broadcast_to(store, index.shape)
    closed = (prot == 0) | (for_writing & ~writable)
    good = int(closed.argmax()) if closed.any() else index.size
    edges = np.flatnonzero(np.diff(for_writing[:good])) + 1
    try:
        for part in np.split(np.arange(good), edges):
            if part.size:
                touch(space, index[part], store=bool(for_writing[part[0]]), pinned=True)
        if good < index.size:
            raise Trapped("SIGSEGV", int(index[good]))
    finally:
        space.note_peak()
