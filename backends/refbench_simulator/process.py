"""A process of a program: its address space, its mechanism, and which regions it has mapped."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from refbench_simulator.mechanism import Model
from refbench_simulator.model import forking
from refbench_simulator.model.space import AddressSpace


@dataclass(slots=True)
class Mapped:
    """A region as the agent knows it."""

    size: int = 0
    """Bytes, as mapped now; 0: not mapped."""
    by_mechanism: bool = False


@dataclass(slots=True)
class Process:
    """One process."""

    space: AddressSpace
    model: Model
    regions: dict[int, Mapped] = field(default_factory=dict)

    def region(self, number: int) -> Mapped:
        """The region's state."""
        return self.regions.setdefault(number, Mapped())

    def fork(self) -> Process:
        """The child, before its mechanism has done its part there."""
        regions = {number: replace(region) for number, region in self.regions.items()}
        return Process(forking.fork(self.space), self.model.forked(), regions)
