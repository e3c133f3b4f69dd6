"""The model of ``native/mechanisms/segv.c``: PROT_NONE and a SIGSEGV handler."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from refbench.grammar import Values
from refbench_simulator import rules
from refbench_simulator.mechanism import Model, indices
from refbench_simulator.mechanisms.ranges import Ranges
from refbench_simulator.model import mapping
from refbench_simulator.model.machine import Machine, Refusal
from refbench_simulator.model.space import AddressSpace, Prot

Index = NDArray[np.int64]


class Segv(Model):
    """Each touched page splits a VMA off."""

    races = True

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.ranges = Ranges(len(machine.rows))

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
        """The handler, for row after row: make the page accessible, fill it."""
        done = 0
        need = Prot.WRITE if store else Prot.READ
        for row in rows.tolist():
            if space.mapped[row] and space.prot[row] & need:
                done += 1
                continue
            known = bool(self.ranges.contain(np.array([row]))[0])
            # A signal that nobody resolves ends the touch at the row's first page.
            pages = space.pages(np.array([row])) if known else 1
            self.machine.counters.sigsegv += pages
            self.machine.ledger.add(rules.SIGSEGV, np.array([row]), trap=pages, signal=pages)
            if not known:
                return done
            self.machine.system_call(pages, "mprotect(2)")
            try:
                mapping.protect_range(space, slice(row, row + 1), mapping.RW)
            except Refusal:
                return done
            if pages > 1 and space.rows.huge:
                # The handler opens page after page: the first leaves a table behind, under which
                # no huge page comes.
                made = space.tables.cover(np.array([row]))
                self.machine.ledger.add(rules.TABLE, np.array([row]), table=made)
            self.others_run()
            self.fill(space, np.array([row]))
            done += 1
        return done

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
