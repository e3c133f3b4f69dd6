"""What the simulator takes for ``prefault.c``: its calls, made to the modelled kernel."""

from refbench.errors import UsageError
from refbench.grammar import Values
from refbench_simulator.mechanism import Model, indices
from refbench_simulator.model.machine import Machine
from refbench_simulator.model.space import AddressSpace


class Prefault(Model):
    """memset without its faults."""

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.piece = options.integer("piece")

    def setup(self, space: AddressSpace) -> None:
        """What ``prefault_setup()`` checks."""
        if self.piece % self.machine.kernel.page_size:
            raise UsageError(
                f"A piece of {self.piece} bytes is not a whole number of pages.",
                remedy="Give whole pages, or 0 for all at once.",
            )

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """One mmap call; for every piece a madvise call and a fill."""
        self.map_anonymous(space, rows, populate=False)
        size = self.size(space, rows)
        pieces = -(-size // (self.piece or size))
        self.madvise(space, rows, "populate-write", calls=pieces)
        self.fill(space, indices(rows))
