"""The model of ``native/mechanisms/memset.c``."""

from __future__ import annotations

from refbench_simulator.mechanism import Model, indices
from refbench_simulator.model.space import AddressSpace


class Memset(Model):
    """Anonymous memory that is filled when it is mapped."""

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """One mmap call and a store to every byte."""
        self.map_anonymous(space, rows, populate=populate)
        self.fill(space, indices(rows))
