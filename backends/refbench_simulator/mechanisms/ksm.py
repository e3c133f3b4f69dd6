"""The model of ``native/mechanisms/ksm.c``: filled, then offered to samepage merging."""

from __future__ import annotations

from refbench.errors import Unsupported
from refbench.words import AVAILABLE, Availability
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanism import Model, indices
from refbench_simulator.model.space import AddressSpace

_OFF = "Samepage merging is switched off in the modelled kernel."
_REMEDY = "Use simulator:ksm=yes."


class Ksm(Model):
    """A mapping offers its pages; who lets things settle finds them merged."""

    @classmethod
    def availability(cls, kernel: Kernel) -> Availability:
        """It has to run."""
        return AVAILABLE if kernel.ksm else Availability(False, _OFF, _REMEDY)

    def setup(self, space: AddressSpace) -> None:
        """:raises Unsupported: when ksmd does not run."""
        if not self.machine.kernel.ksm:
            raise Unsupported(_OFF, remedy=_REMEDY)

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """One mmap call, a store to every byte, one madvise call."""
        self.map_anonymous(space, rows, populate=populate)
        self.fill(space, indices(rows))
        self.madvise(space, rows, "mergeable")
