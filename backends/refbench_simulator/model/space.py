"""An address space: its VMAs and its page table entries, as columns over rows.

A VMA is a stretch of rows; it begins where ``start`` is set and ends where the next one begins or
where nothing is mapped. What the kernel keeps in a VMA is repeated in each of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.model.tables import Tables

if TYPE_CHECKING:
    from refbench_simulator.model.machine import Machine

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
Resolve = Callable[["AddressSpace", Index, bool], int]
"""Who resolves faults that the kernel hands out: space, the rows that fault in the order of
access, whether by a store. How many of them, from the first on, it has resolved."""


class Pte(IntEnum):
    """What an entry shows."""

    NONE = 0
    ZERO = 1
    """The zero page: a special entry, in no count."""
    REFERENCE = 2
    """A reference page: a special entry, in no count."""
    ANON = 3
    FILE = 4
    SWAP = 5


class Prot(IntFlag):
    """Permissions of a VMA."""

    NONE = 0
    READ = 1
    WRITE = 2


class Flag(IntFlag):
    """VM_ flags that a program can make a difference in; VMAs merge only when all are equal."""

    LOCKED = 1
    HUGEPAGE = 2
    NOHUGEPAGE = 4
    MERGEABLE = 8
    UFFD = 16
    """VM_UFFD_MISSING"""
    REFERENCE = 32
    """Its clean pages show a reference page; anonymous all the same."""
    ACCOUNT = 64
    """VM_ACCOUNT: its size is counted against the commit limit."""
    NORESERVE = 128
    MIXEDMAP = 256
    """VM_MIXEDMAP: its fault handler shows pages by special entries, as a device's may."""


NO_FILE: Final = -1
_LOOK = 16
"""Rows that are looked at first in search of a VMA's end."""
COLUMNS = (
    "mapped",
    "start",
    "prot",
    "flags",
    "file",
    "pgoff",
    "anon_vma",
    "chain",
    "ctx",
    "pte",
    "folio",
    "writable",
    "huge",
)


class AddressSpace:
    """One process's. ``anon``, ``shmem``, ``filed`` and ``swapped`` count pages by kind."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.rows = machine.rows
        count = len(self.rows)
        self.mapped = np.zeros(count, np.bool_)
        self.start = np.zeros(count, np.bool_)
        self.prot = np.zeros(count, np.uint8)
        self.flags = np.zeros(count, np.uint16)
        self.file = np.full(count, NO_FILE, np.int32)
        self.pgoff = np.zeros(count, np.int64)
        self.anon_vma = np.zeros(count, np.int32)
        self.chain = np.zeros(count, np.uint8)
        self.ctx = np.zeros(count, np.int32)
        self.pte = np.zeros(count, np.uint8)
        self.folio = np.zeros(count, np.int64)
        self.writable = np.zeros(count, np.bool_)
        self.huge = np.zeros(count, np.bool_)
        self.given: Mask | None = None
        """Entries that MADV_FREE cleaned of pages that other processes show too, and through which
        nothing was stored since; made when there is one."""
        self.old: Mask | None = None
        """Entries of a device's pages that fork(2) copied as not accessed, and that nothing has
        accessed since; made when there is one."""
        self.tables = Tables(machine.layout)
        self.anon = self.shmem = self.filed = self.swapped = 0
        self.most = 0
        """Pages at the high-water mark of RSS."""
        self.on_segv: Resolve | None = None
        """The handler of SIGSEGV."""

    # -- VMAs ------------------------------------------------------------------------------

    @property
    def vmas(self) -> int:
        """VMAs of the program's regions: ``mm->map_count`` less the process's own."""
        return int(self.rows.copies[self.start].sum())

    @property
    def map_count(self) -> int:
        """``mm->map_count``."""
        return self.vmas + self.machine.kernel.counted_vmas

    def joins(self, row: int) -> bool:
        """Whether ``row`` lies straight behind the row before it, and both are mapped."""
        return (
            row > 0
            and bool(self.mapped[row - 1])
            and bool(self.mapped[row])
            and self.rows.last[row - 1] == self.rows.page[row]
        )

    def vma(self, row: int) -> slice:
        """The rows of the VMA that ``row`` is in."""
        step, low = _LOOK, row
        while not self.start[low : row + 1].any():
            low = max(0, row - step)
            step *= 2
        first = row - int(self.start[low : row + 1][::-1].argmax())
        return slice(first, self.vma_end(first))

    def vma_end(self, row: int) -> int:
        """One behind the last row of the VMA that ``row`` is in."""
        after, step = row + 1, _LOOK
        while after < self.mapped.size:
            near = slice(after, after + step)
            ends = self.start[near] | ~self.mapped[near]
            if ends.any():
                return after + int(ends.argmax())
            after, step = after + ends.size, 2 * step
        return after

    def pieces(self, rows: slice) -> Iterator[slice]:
        """The parts of VMAs in a range of rows, in order; holes are left out."""
        at = rows.start
        while at < rows.stop:
            if not self.mapped[at]:
                at += 1
                continue
            end = min(self.vma_end(at), rows.stop)
            yield slice(at, end)
            at = end

    def anonymous(self, rows: Index | int) -> Mask:
        """``vma_is_anonymous()``: without operations of its own, as is also a private mapping of
        /dev/zero, or of a descriptor of refpage_create(2), which has a file all the same."""
        none = self.file[rows] == NO_FILE
        return np.asarray(none | ((self.flags[rows] & Flag.REFERENCE) != 0), dtype=np.bool_)

    def special(self, rows: Index) -> Mask:
        """Whether clean pages are shown by special entries other than the zero page's."""
        both = np.uint16(Flag.REFERENCE | Flag.MIXEDMAP)
        return np.asarray((self.flags[rows] & both) != 0, dtype=np.bool_)

    def can_merge(self, row: int, changed: int, *, touched: bool | None = None) -> bool:
        """Whether the VMA that ends before ``row`` and the one that begins there are alike.

        ``changed``: a row of the one that was made or changed just now; ``touched``: whether that
        had an ``anon_vma`` before it merged on its other side.

        ``is_mergeable_vma()`` and ``is_mergeable_anon_vma()`` of mm/vma.c.
        """
        if not self.joins(row):
            return False
        a, b = row - 1, row
        if self.flags[b] & Flag.MIXEDMAP:
            # VM_SPECIAL: vma_merge() leaves it alone.
            return False
        alike = (
            self.prot[a] == self.prot[b]
            and self.flags[a] == self.flags[b]
            and self.file[a] == self.file[b]
            and self.ctx[a] == self.ctx[b]
            and self.pgoff[b] - self.pgoff[a] == self.rows.page[b] - self.rows.page[a]
        )
        return bool(alike) and self._anon_vmas_merge(
            a, b, bool(self.anon_vma[changed]) if touched is None else touched
        )

    def _anon_vmas_merge(self, a: int, b: int, touched: bool) -> bool:
        one, other = self.anon_vma[a], self.anon_vma[b]
        if one == other:
            return True
        if one and other:
            return False
        if touched and not self.machine.kernel.merges_untouched:
            return False
        # What a forked child shares with its parent stays apart: vma_is_fork_child().
        return bool((self.chain[a] if one else self.chain[b]) <= 1)

    def merge(self, row: int, changed: int, *, touched: bool | None = None) -> bool:
        """Merge the VMAs on both sides of the boundary before ``row`` if they are alike."""
        if not self.start[row] or not self.can_merge(row, changed, touched=touched):
            return False
        a, b = row - 1, row
        source = a if self.anon_vma[a] else b
        vma, chain = self.anon_vma[source], self.chain[source]
        if self.anon_vma[a] != self.anon_vma[b]:
            for side in (self.vma(a), self.vma(b)):
                self.anon_vma[side] = vma
                self.chain[side] = chain
        self.start[row] = False
        self.machine.ledger.add(rules.MERGE, slice(a, b + 1), split=int(self.rows.copies[row]))
        return True

    def split(self, row: int) -> bool:
        """Begin a VMA at ``row``, in the midst of one. False when it began there before."""
        if row >= len(self.rows) or not self.joins(row) or self.start[row]:
            return False
        self.start[row] = True
        self.machine.ledger.add(rules.SPLIT, slice(row, row + 1), split=int(self.rows.copies[row]))
        return True

    # -- pages -----------------------------------------------------------------------------

    @property
    def rss(self) -> int:
        """Pages that are resident."""
        return self.anon + self.shmem + self.filed

    def note_peak(self) -> None:
        """Keep the high-water mark, as ``update_hiwater_rss()`` does."""
        self.most = max(self.most, self.rss)

    def pages(self, rows: Index) -> int:
        """How many pages rows stand for."""
        return int(self.rows.weight[rows].sum())

    def fork(self) -> AddressSpace:
        """Copies of all columns, for a forked child."""
        child = AddressSpace.__new__(AddressSpace)
        child.machine, child.rows = self.machine, self.rows
        for name in COLUMNS:
            setattr(child, name, getattr(self, name).copy())
        child.given = None if self.given is None else self.given.copy()
        child.old = None if self.old is None else self.old.copy()
        child.tables = Tables(self.machine.layout)
        child.anon = child.shmem = child.filed = child.swapped = child.most = 0
        child.on_segv = None
        return child
