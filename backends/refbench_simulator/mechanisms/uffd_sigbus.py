"""The model of ``native/mechanisms/uffd_sigbus.c``: SIGBUS in the faulting thread."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from refbench.grammar import Values
from refbench_simulator import rules
from refbench_simulator.mechanism import Model
from refbench_simulator.mechanisms import userfault
from refbench_simulator.mechanisms.ranges import Ranges
from refbench_simulator.model.machine import Machine, Userfault
from refbench_simulator.model.space import AddressSpace

Index = NDArray[np.int64]


class UffdSigbus(Model):
    """A signal for every first touch, which the kernel does not count as a fault."""

    purge_restores = True

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.atfork = options.switch("atfork")
        self.number = 0
        self.ranges = Ranges(len(machine.rows))

    def setup(self, space: AddressSpace) -> None:
        """Open it, take the signal."""
        self._open()
        self.machine.system_call(what="sigaction(2)")

    def _open(self) -> None:
        self.number = userfault.open_userfault(
            self.machine, Userfault(self._serve, by_thread=False)
        )

    def _serve(self, space: AddressSpace, rows: Index, store: bool) -> int:
        known = self.ranges.contain(rows)
        done = rows if known.all() else rows[: int(known.argmin())]
        pages = space.pages(done)
        self.machine.counters.sigbus += pages
        self.machine.ledger.add(rules.UFFD_SIGBUS, done, trap=pages, fault=pages, signal=pages)
        userfault.copy(space, done)
        return int(done.size)

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """Map and register."""
        if not self.number:
            self._open()
        userfault.map_registered(self, space, rows, self.number, populate=populate)
        self.ranges.add(rows)

    def forget(self, space: AddressSpace, rows: slice) -> None:
        """The table of ranges."""
        self.ranges.remove(rows)

    def forked(self) -> Self:
        """The table is copied."""
        child = super().forked()
        child.ranges = self.ranges.copy()
        return child

    def after_fork_child(self, space: AddressSpace) -> bool:
        """Close what is inherited; with ``atfork`` open an own and register everything."""
        if self.number:
            self.machine.system_call(what="close(2)")
        self.number = 0
        if self.atfork:
            self._open()
            for rows in self.ranges.slices():
                userfault.register(space, rows, self.number)
        return True
