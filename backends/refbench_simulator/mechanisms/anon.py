"""The model of ``native/mechanisms/anon.c``."""

from __future__ import annotations

from refbench_simulator.mechanism import Model
from refbench_simulator.model.space import AddressSpace


class Anon(Model):
    """Clean anonymous memory."""

    applies_pattern = False

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """One mmap call."""
        self.map_anonymous(space, rows, populate=populate)
