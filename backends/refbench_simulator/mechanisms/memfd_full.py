"""The model of ``native/mechanisms/memfd_full.c``: one file as large as the mapping."""

from __future__ import annotations

import numpy as np

from refbench.grammar import Values
from refbench_simulator.cutting import Traits
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanism import Action, Model
from refbench_simulator.mechanisms import sealed
from refbench_simulator.model.machine import Machine
from refbench_simulator.model.space import NO_FILE, AddressSpace


class MemfdFull(Model):
    """One mmap call and one VMA, at the price of the memory."""

    purge_restores = True

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.latest = -1
        """The file whose descriptor is open."""
        self.at = slice(0, 0)
        """The rows that it was mapped at, wherever they have been moved since."""
        self.left = 0
        """Pages of them that have not been forgotten."""

    @classmethod
    def traits(cls, options: Values, kernel: Kernel) -> Traits:
        """Loads map several pages at once."""
        return Traits(file=True)

    def setup(self, space: AddressSpace) -> None:
        """A file of one page shows that they can be made."""
        probe = sealed.make(self.machine, 1, 1, repeats=False)
        self.machine.close_file(probe)
        self.latest = -1

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """Make the file, map it."""
        self._close()
        page = space.rows.page
        pages = int(space.rows.last[rows.stop - 1] - page[rows.start])
        self.latest = sealed.make(self.machine, pages, pages, repeats=False)
        self.at, self.left = rows, pages
        self.map_new(
            space,
            rows,
            populate=populate,
            file=self.latest,
            pgoff=page[rows] - page[rows.start],
        )

    def _close(self) -> None:
        if self.latest >= 0:
            self.machine.system_call(what="close(2)")
            self.machine.close_file(self.latest)
        self.latest = -1

    def forget(self, space: AddressSpace, rows: slice) -> None:
        """The descriptor is closed with the last part of its mapping."""
        if self.latest < 0:
            return
        both = slice(max(rows.start, self.at.start), min(rows.stop, self.at.stop))
        if both.start < both.stop:
            self.left -= int(space.rows.weight[both].sum())
            if not self.left:
                self._close()

    def descriptors(self) -> tuple[int, ...]:
        """The file's."""
        return (self.latest,) if self.latest >= 0 else ()

    def held(self, space: AddressSpace) -> int:
        """A file is held as a whole as long as any part of it is mapped."""
        numbers = np.unique(space.file[space.mapped & (space.file != NO_FILE)])
        held = sum(self.machine.files[number].allocated for number in numbers.tolist())
        return int(held) * self.machine.kernel.page_size

    def tamper(self, action: Action) -> None:
        """See :mod:`refbench_simulator.mechanisms.sealed`."""
        sealed.tamper(action)
        if self.latest >= 0:
            self.machine.close_file(self.latest)
        self.latest = -1

    def teardown(self, space: AddressSpace) -> None:
        """Close the descriptor."""
        self._close()
