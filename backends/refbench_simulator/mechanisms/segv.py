"""The model of ``native/mechanisms/segv.c``: PROT_NONE and a SIGSEGV handler."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from refbench.grammar import Values
from refbench_simulator import rules
from refbench_simulator.cutting import Traits
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanism import Model, indices
from refbench_simulator.mechanisms import segv_apart
from refbench_simulator.mechanisms.ranges import Ranges
from refbench_simulator.model import mapping
from refbench_simulator.model.machine import Machine, Refusal
from refbench_simulator.model.space import AddressSpace, Prot

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Segv(Model):
    """Each touched page splits a VMA off."""

    races = True
    one_by_one: ClassVar[bool] = False
    """Open row after row even where many could be opened at once."""

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.ranges = Ranges(len(machine.rows))

    @classmethod
    def traits(cls, options: Values, kernel: Kernel) -> Traits:
        """The first page of a run gets an ``anon_vma`` before the next one is opened; which
        VMAs merge depends on the order."""
        return Traits(apart=True, ordered=True, most=kernel.max_map_count)

    def setup(self, space: AddressSpace) -> None:
        """Take the signal."""
        self.machine.system_call(what="sigaction(2)")
        space.on_segv = self._open_pages

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """One mmap call, without any permission unless it is filled at once."""
        prot = mapping.RW if populate else Prot.NONE
        self.map_anonymous(space, rows, populate=populate, prot=prot)
        if populate:
            self.fill(space, indices(rows))
        self.ranges.add(rows)

    def _open_pages(self, space: AddressSpace, rows: Index, store: bool) -> int:
        """The handler: make pages accessible and fill them, in the order of ``rows``."""
        need = Prot.WRITE if store else Prot.READ
        alone = self._alone(space, rows, need)
        done = 0
        while done < rows.size:
            if alone[done] and self.meanwhile is None:
                stop = done + int((~alone[done:]).argmax()) if not alone[done:].all() else rows.size
                opened = self._open_many(space, rows[done:stop])
                done += opened
                if opened:
                    continue
            if not self._open_one(space, int(rows[done]), need):
                break
            done += 1
        return done

    def _alone(self, space: AddressSpace, rows: Index, need: Prot) -> Mask:
        """Which of ``rows`` :meth:`_open_many` may open."""
        found = np.zeros(rows.size, np.bool_)
        if self.one_by_one or space.rows.huge:
            return found
        closed = ~space.mapped[rows] | ((space.prot[rows] & need) == 0)
        found[closed] = segv_apart.apart(space, rows[closed])
        return found & self.ranges.contain(rows)

    def _open_many(self, space: AddressSpace, rows: Index) -> int:
        """Rows that end up in VMAs of their own, up to the limit of those."""
        rows = rows[: segv_apart.fitting(space, rows)]
        if rows.size:
            self._signal(space, rows, space.pages(rows))
            segv_apart.split_off(space, rows)
            self.fill(space, rows)
        return int(rows.size)

    def _open_one(self, space: AddressSpace, row: int, need: Prot) -> bool:
        """One row; False when its signal is not resolved."""
        if space.mapped[row] and space.prot[row] & need:
            return True
        rows = np.array([row])
        if not self.ranges.contain(rows)[0]:
            # A signal that nobody resolves ends the touch at the row's first page.
            self.machine.counters.sigsegv += 1
            self.machine.ledger.add(rules.SIGSEGV, rows, trap=1, signal=1)
            return False
        # What nobody resolves ends the touch at the row's first page: where mremap(2) has taken
        # the mapping away, the range is known and mprotect(2) refuses it.
        self._signal(space, rows, space.pages(rows) if space.mapped[row] else 1)
        try:
            mapping.protect_range(space, slice(row, row + 1), mapping.RW)
        except Refusal:
            return False
        pages = space.pages(rows)
        if pages > 1 and space.rows.huge:
            # The handler opens page after page: the first leaves a table behind, under which
            # no huge page comes.
            made = space.tables.cover(rows)
            self.machine.ledger.add(rules.TABLE, rows, table=made)
        self.others_run()
        self.fill(space, rows)
        return True

    def _signal(self, space: AddressSpace, rows: Index, pages: int) -> None:
        """A signal for each of ``pages``, and the mprotect(2) that answers it."""
        self.machine.counters.sigsegv += pages
        self.machine.ledger.add(rules.SIGSEGV, rows, trap=pages, signal=pages)
        self.machine.system_call(pages, "mprotect(2)")

    def forget(self, space: AddressSpace, rows: slice) -> None:
        """The table of ranges."""
        self.ranges.remove(rows)

    def forked(self) -> Self:
        """The table is copied."""
        child = super().forked()
        child.ranges = self.ranges.copy()
        return child

    def after_fork_child(self, space: AddressSpace) -> bool:
        """The handler is inherited."""
        space.on_segv = self._open_pages
        return True
