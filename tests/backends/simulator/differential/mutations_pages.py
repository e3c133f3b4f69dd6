"""Deliberate faults in what the model does with pages: faults, advice, tables, counts."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.backends.simulator.differential.mutating import Collection, Function, nothing

from refbench_simulator.content import ZERO
from refbench_simulator.knobs import Kernel
from refbench_simulator.model import accounting, advice, around, faults, mapping, moving
from refbench_simulator.model.accounting import Shares
from refbench_simulator.model.space import NO_FILE, AddressSpace, Flag, Prot, Pte
from refbench_simulator.model.tables import Tables

Index = NDArray[np.int64]

PAGES = Collection()
fault = PAGES.fault

# -- fault-around ---------------------------------------------------------------------------


@fault("fault-around-none", "A load maps its own page alone.", (Kernel, "around"))
def _alone(original: Function, kernel: Kernel) -> int:
    return 1


@fault("fault-around-half", "Windows are half as large.", (Kernel, "around"))
def _half(original: Function, kernel: Kernel) -> int:
    return max(1, int(original(kernel)) // 2)


@fault(
    "fault-around-off-by-one",
    "Windows begin a page too early.",
    (around, "_around"),
    (around, "_windows"),
)
def _shifted(original: Function, space: AddressSpace, at: Any, **more: Any) -> None:
    rows = space.rows
    space.rows = copy.copy(rows)
    space.rows.page, space.rows.last = rows.page + 1, rows.last + 1
    try:
        original(space, at, **more)
    finally:
        space.rows = rows


@fault("fault-around-across-vmas", "Windows go on in the next VMA.", (around, "_windows"))
def _across(original: Function, space: AddressSpace, rows: Index) -> None:
    starts = space.start
    space.start = np.zeros_like(starts)
    try:
        original(space, rows)
    finally:
        space.start = starts


# -- faults ---------------------------------------------------------------------------------


@fault("zero-page-in-rss", "The zero page counts as anonymous memory.", (faults, "_load"))
def _zero_counted(original: Function, space: AddressSpace, rows: Index) -> None:
    bare = rows[space.pte[rows] == Pte.NONE]
    original(space, rows)
    space.anon += space.pages(bare[space.pte[bare] == Pte.ZERO])


@fault(
    "store-over-zero-page-uncounted",
    "A store to the zero page is no fault.",
    (faults, "_first_store"),
)
def _uncounted(original: Function, space: AddressSpace, rows: Index) -> None:
    space.machine.counters.minor -= space.pages(rows[space.pte[rows] == Pte.ZERO])
    original(space, rows)


@fault(
    "copied-file-page-in-rss",
    "A file's page stays in RSS when a store replaces it.",
    (faults, "mapping_count"),
)
def _still_there(original: Function, space: AddressSpace, rows: Index) -> int:
    return 0


@fault(
    "copy-loses-content",
    "The first store to a file's page copies zeros.",
    (faults, "_first_store"),
)
def _zeros(original: Function, space: AddressSpace, rows: Index) -> None:
    filed = rows[space.file[rows] != NO_FILE]
    original(space, rows)
    space.machine.folios.content[space.folio[filed]] = ZERO


@fault(
    "reuse-of-shared",
    "A store takes a page that others show, too.",
    (faults, "_write_protected"),
)
def _taken(original: Function, space: AddressSpace, rows: Index) -> None:
    space.machine.folios.exclusive[space.folio[rows]] = True
    original(space, rows)


@fault(
    "reuse-without-exclusive",
    "A page that a store reuses is not known to be exclusive.",
    (faults, "_write_protected"),
)
def _not_exclusive(original: Function, space: AddressSpace, rows: Index) -> None:
    original(space, rows)
    space.machine.folios.exclusive[space.folio[rows]] = False


# -- populating and advice ------------------------------------------------------------------


@fault("mlock-populates-nothing", "mlock(2) sets the flag alone.", (advice, "populate"))
def _flag_alone(
    original: Function, space: AddressSpace, rows: slice, *, store: bool | None = None
) -> None:
    if store is not None:
        original(space, rows, store=store)


@fault("populate-reads", "MAP_POPULATE and mlock(2) only load.", (faults, "populate"))
def _loads(
    original: Function, space: AddressSpace, rows: slice, *, store: bool | None = None
) -> None:
    original(space, rows, store=bool(store))


@fault("populate-write-reads", "MADV_POPULATE_WRITE loads.", (advice, "populate"))
def _loads_too(
    original: Function, space: AddressSpace, rows: slice, *, store: bool | None = None
) -> None:
    original(space, rows, store=None if store is None else False)


fault(
    "locked-growth-unpopulated",
    "What mremap(2) makes a locked VMA longer by is not faulted in.",
    (moving, "_populate"),
)(nothing)

fault(
    "dontneed-keeps",
    "MADV_DONTNEED keeps the pages.",
    (advice, "_dont_need"),
)(nothing)


@fault(
    "dontneed-keeps-file-pages",
    "MADV_DONTNEED keeps the entries that show a file.",
    (advice, "_dont_need"),
)
def _keeps_files(original: Function, space: AddressSpace, pieces: list[slice]) -> None:
    rows = _rows(pieces)
    files = rows[space.pte[rows] == Pte.FILE]
    space.pte[files] = Pte.NONE
    try:
        original(space, pieces)
    finally:
        space.pte[files] = Pte.FILE


@fault(
    "dontneed-of-locked",
    "MADV_DONTNEED is not refused for locked VMAs.",
    (advice, "_dont_need"),
)
def _unlocked(original: Function, space: AddressSpace, pieces: list[slice]) -> None:
    rows = _rows(pieces)
    flags = space.flags[rows].copy()
    space.flags[rows] &= np.uint16(0xFFFF & ~Flag.LOCKED)
    original(space, pieces)
    space.flags[rows] = flags


def _rows(pieces: list[slice]) -> NDArray[np.int64]:
    numbers = [row for piece in pieces for row in range(piece.start, piece.stop)]
    return np.array(numbers, np.int64)


@fault(
    "free-of-files",
    "MADV_FREE is not refused for files.",
    (advice._DOES, "free"),
)
def _files_too(original: Function, space: AddressSpace, part: slice) -> None:
    if space.file[part.start] == NO_FILE:
        original(space, part)


@fault(
    "free-at-once",
    "MADV_FREE does what MADV_DONTNEED does.",
    (advice._DOES, "free"),
)
def _at_once(original: Function, space: AddressSpace, part: slice) -> None:
    original(space, part)
    mapping.zap(space, np.arange(part.start, part.stop))


# -- permissions ----------------------------------------------------------------------------


@fault(
    "protect-leaves-exclusive-read-only",
    "Behind mprotect(2) even exclusive pages need a fault.",
    (mapping, "_change_entries"),
)
def _read_only(original: Function, space: AddressSpace, part: slice, prot: Prot) -> None:
    space.writable[part] = False


@fault(
    "protect-opens-shared",
    "mprotect(2) makes pages writable that others show, too.",
    (mapping, "_change_entries"),
)
def _opened(original: Function, space: AddressSpace, part: slice, prot: Prot) -> None:
    original(space, part, prot)
    if prot & Prot.WRITE:
        space.writable[part] = space.pte[part] == Pte.ANON


# -- page tables ----------------------------------------------------------------------------


@fault("tables-never-freed", "munmap(2) frees no page table.", (Tables, "release"))
def _never(original: Function, tables: Tables, gone: Index, mapped: Index) -> int:
    return 0


@fault(
    "tables-freed-too-early",
    "munmap(2) frees tables that other VMAs need.",
    (Tables, "release"),
)
def _too_early(original: Function, tables: Tables, gone: Index, mapped: Index) -> int:
    return int(original(tables, gone, mapped[:0]))


@fault("tables-of-one-level", "VmPTE counts the lowest level alone.", (Tables, "count"))
def _lowest(original: Function, tables: Tables) -> int:
    return int(tables.layout.levels[0].count[tables.present[0]].sum())


@fault(
    "tables-not-reclaimed",
    "MADV_DONTNEED gives no page table back.",
    (Tables, "reclaim"),
)
def _kept(original: Function, tables: Tables, *given: object) -> int:
    return 0


@fault(
    "tables-reclaimed-in-part",
    "MADV_DONTNEED gives tables back that it covers in part.",
    (Tables, "reclaim"),
)
def _in_part(
    original: Function, tables: Tables, rows: Index, first: int, behind: int, entries: int
) -> int:
    low, high = first // entries * entries, -(-behind // entries) * entries
    return int(original(tables, rows, low, high, entries))


# -- what is shown --------------------------------------------------------------------------


@fault(
    "munmap-keeps-rss",
    "Anonymous pages stay in RSS when they are unmapped.",
    (mapping, "unmap_range"),
)
def _rss_stays(original: Function, space: AddressSpace, rows: slice) -> None:
    anon = space.anon
    original(space, rows)
    space.anon = anon


@fault("shmem-in-rss-file", "A memfd's pages count in RssFile.", (mapping, "count_file"))
def _wrong_kind(original: Function, space: AddressSpace, rows: Index, sign: int) -> int:
    before = space.shmem
    pages = int(original(space, rows, sign))
    space.filed += space.shmem - before
    space.shmem = before
    return pages


@fault("pss-without-mapcount", "PSS counts shared pages whole.", (accounting, "shares"))
def _whole(original: Function, space: AddressSpace) -> Any:
    folios = space.machine.folios
    mapcount = folios.mapcount
    folios.mapcount = np.minimum(mapcount, 1)
    try:
        return original(space)
    finally:
        folios.mapcount = mapcount


@fault(
    "pss-of-files-without-others",
    "PSS of a file's pages does not know other processes.",
    (accounting, "_file_shares"),
)
def _by_itself(original: Function, space: AddressSpace) -> Any:
    machine = space.machine
    spaces, machine.spaces = machine.spaces, [space]
    try:
        return original(space)
    finally:
        machine.spaces = spaces


@fault("uss-with-shared", "USS counts pages that others show, too.", (accounting, "shares"))
def _all_mine(original: Function, space: AddressSpace) -> Shares:
    shares: Shares = original(space)
    return replace(shares, uss=space.rss * space.machine.kernel.page_size)
