"""What a process's memory looks like: its VMAs, what their entries show, what the counts say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench_simulator.model import accounting
from refbench_simulator.model.machine import Machine
from refbench_simulator.model.space import NO_FILE, AddressSpace, Flag, Prot, Pte
from refbench_simulator.process import Process

Index = NDArray[np.int64]
Codes = NDArray[np.uint8]

STRIP = 64
"""Pages that a strip shows."""
KINDS: tuple[tuple[str, str, str], ...] = (
    ("not mapped", " ", "no VMA"),
    ("no entry", ".", "mapped, no entry: nobody has touched it yet"),
    ("zero page", "0", "a special entry shows the zero page"),
    ("reference page", "R", "a special entry shows the reference page"),
    ("own page", "o", "an anonymous page that nobody else shows"),
    ("shared page", "s", "an anonymous page that another process shows too"),
    ("merged page", "k", "a page that KSM has merged"),
    ("file page", "f", "a page of a file"),
    ("in swap", "w", "paged out"),
    ("huge page", "H", "a part of a huge page that a single entry shows"),
)
"""What a page can be: name, sign in a strip, in words; the order is that of their codes."""
_UNMAPPED, _NONE, _ZERO, _REFERENCE, _OWN, _SHARED, _MERGED, _FILE, _SWAP, _HUGE = range(len(KINDS))
_OF_PTE = np.array([_NONE, _ZERO, _REFERENCE, _OWN, _FILE, _SWAP], np.uint8)
_TOLD_FLAGS = (
    (Flag.LOCKED, "locked"),
    (Flag.HUGEPAGE, "MADV_HUGEPAGE"),
    (Flag.NOHUGEPAGE, "MADV_NOHUGEPAGE"),
    (Flag.MERGEABLE, "mergeable"),
    (Flag.UFFD, "userfaultfd"),
    (Flag.REFERENCE, "reference page"),
)


@dataclass(frozen=True, slots=True)
class Vmas:
    """VMAs of a region that are alike but for where they are."""

    count: int
    pages: int
    """Of all of them."""
    permissions: str
    """As in /proc/PID/maps: ``rw-p``."""
    maps: str
    flags: tuple[str, ...]
    anon_vma: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """One region."""

    region: int
    vmas: tuple[Vmas, ...]
    kinds: tuple[tuple[str, int], ...]
    """Pages by what they show, names of :data:`KINDS`."""
    strip: str
    """One sign a page, from page ``first`` on."""
    first: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One process's memory. Sizes are bytes; ``charged`` is what all processes together and
    their files are charged, page tables and VMAs included."""

    regions: tuple[Shown, ...]
    rss: int
    rss_anon: int
    rss_shmem: int
    rss_file: int
    pss: int
    swap: int
    tables: int
    vmas: int
    """Those of the regions; the process has its own beside them."""
    charged: int


def picture(machine: Machine, process: Process) -> Picture:
    """As it is now."""
    space, size = process.space, machine.kernel.page_size
    codes = _codes(space)
    regions = [
        _shown(space, number, codes)
        for number in machine.rows.regions
        if space.mapped[machine.rows.of(number)].any()
    ]
    pages = machine.folios.pages + accounting.file_pages(machine) + accounting.table_pages(machine)
    return Picture(
        regions=tuple(regions),
        rss=space.rss * size,
        rss_anon=space.anon * size,
        rss_shmem=space.shmem * size,
        rss_file=space.filed * size,
        pss=accounting.shares(space).pss,
        swap=space.swapped * size,
        tables=space.tables.count * size,
        vmas=space.vmas,
        charged=pages * size + accounting.slab(machine),
    )


def _codes(space: AddressSpace) -> Codes:
    """For each row, which of :data:`KINDS` its pages are."""
    codes = np.where(space.mapped, _OF_PTE[space.pte], np.uint8(_UNMAPPED))
    anon = np.flatnonzero(space.mapped & (space.pte == Pte.ANON))
    folios = space.machine.folios
    shown = space.folio[anon]
    codes[anon[space.huge[anon]]] = _HUGE
    codes[anon[folios.mapcount[shown] > 1]] = _SHARED
    codes[anon[folios.merged[shown] > 0]] = _MERGED
    return np.asarray(codes, np.uint8)


def _shown(space: AddressSpace, number: int, codes: Codes) -> Shown:
    rows = space.rows.of(number)
    mine, weight = codes[rows], space.rows.weight[rows]
    sums = [(name, int(weight[mine == code].sum())) for code, (name, _, _) in enumerate(KINDS)]
    strip, first = _strip(space, rows, mine)
    return Shown(
        region=number,
        vmas=_vmas(space, rows),
        kinds=tuple((name, pages) for name, pages in sums if pages),
        strip=strip,
        first=first,
    )


def _strip(space: AddressSpace, rows: slice, codes: Codes) -> tuple[str, int]:
    """The first pages of a region, or those from where the first entry is."""
    page = space.rows.page[rows] - space.rows.page[rows.start]
    length = space.rows.length[rows]
    last = int((space.rows.last[rows] - space.rows.page[rows.start]).max())
    entries = np.flatnonzero(codes > _NONE)
    at = int(page[entries[0]]) if entries.size else 0
    first = 0 if at < STRIP else at // STRIP * STRIP
    signs = np.full(min(STRIP, last - first), _UNMAPPED, np.uint8)
    copies, period = space.rows.copies[rows], space.rows.period[rows]
    for row in np.flatnonzero(page < first + STRIP).tolist():
        apart = int(period[row]) or STRIP
        skipped = max(0, (first - int(page[row]) - int(length[row])) // apart)
        for copy in range(skipped, min(int(copies[row]), skipped + STRIP)):
            start = int(page[row]) + copy * apart - first
            if start >= STRIP:
                break
            signs[max(start, 0) : max(start + int(length[row]), 0)] = codes[row]
    return "".join(KINDS[code][1] for code in signs.tolist()), first


def _vmas(space: AddressSpace, rows: slice) -> tuple[Vmas, ...]:
    """VMAs that begin in a region, and the part of one that reaches into it, grouped."""
    mapped = rows.start + np.flatnonzero(space.mapped[rows])
    begins = space.start[mapped].copy()
    begins[0] = True
    vma = np.cumsum(begins) - 1
    heads = mapped[begins]
    pages = np.bincount(vma, space.rows.weight[mapped]).astype(np.int64)
    columns = (space.prot, space.flags, space.file, space.anon_vma > 0)
    keys = np.stack([np.asarray(column[heads], np.int64) for column in columns], axis=1)
    unique, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    found = []
    for kind in np.argsort(first).tolist():
        prot, flags, file, anon_vma = unique[kind].tolist()
        mine = inverse == kind
        found.append(
            Vmas(
                count=int(space.rows.copies[heads[mine]].sum()),
                pages=int(pages[mine].sum()),
                permissions=_permissions(Prot(prot)),
                maps=_maps(space, file, Flag(flags)),
                flags=tuple(name for flag, name in _TOLD_FLAGS if Flag(flags) & flag),
                anon_vma=bool(anon_vma),
            )
        )
    return tuple(found)


def _permissions(prot: Prot) -> str:
    return f"{'r' if prot & Prot.READ else '-'}{'w' if prot & Prot.WRITE else '-'}-p"


def _maps(space: AddressSpace, file: int, flags: Flag) -> str:
    if file == NO_FILE or flags & Flag.REFERENCE:
        return "anonymous"
    found = space.machine.files[file]
    if found.kind != "shmem":
        return "a device" if found.kind == "device" else "a special mapping"
    return f"a file in memory of {found.allocated or found.pages} pages"
