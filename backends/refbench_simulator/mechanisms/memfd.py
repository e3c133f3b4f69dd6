"""The model of ``native/mechanisms/memfd.c``: a small file mapped again and again."""

from __future__ import annotations

import errno

from refbench.errors import LimitHit, Unsupported
from refbench.grammar import Values
from refbench_simulator.cutting import Traits
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanism import Action, Model
from refbench_simulator.mechanisms import sealed
from refbench_simulator.model import faults, mapping
from refbench_simulator.model.machine import Machine, Refusal
from refbench_simulator.model.space import AddressSpace, Flag, Prot


class Memfd(Model):
    """One mmap call and one VMA for every block."""

    purge_restores = True

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.block = options.integer("block")
        self.reserve = options.switch("reserve")
        self.file = -1
        self.vmas_before = 0

    @classmethod
    def traits(cls, options: Values, kernel: Kernel) -> Traits:
        """Every block begins a VMA."""
        return Traits(block=options.integer("block"), file=True)

    def setup(self, space: AddressSpace) -> None:
        """Make the file."""
        if self.options.integer("huge"):
            raise Unsupported(
                "The model has no hugetlbfs.", remedy="Use huge=0, or measure it on a host."
            )
        self.vmas_before = self._lines(space)
        self._make_file()

    def _make_file(self) -> None:
        self.file = sealed.make(self.machine, self.block, self.block, repeats=True)

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """A call for each block, into the gap or over a reservation."""
        pages = self.size(space, rows) // self.machine.kernel.page_size
        count = -(-pages // self.block)
        most = self.machine.kernel.max_map_count
        if count + self.vmas_before > most:
            raise self._too_many(space, pages, count)
        if self.file < 0:
            self._make_file()
        if self.reserve:
            self.map_new(space, rows, populate=False, prot=Prot.NONE, flags=Flag.NORESERVE)
            # MAP_FIXED removes what it maps over, block by block.
            mapping.unmap_range(space, rows)
        self.machine.system_call(count, "mmap(2)")
        inside = space.rows.page[rows] - space.rows.page[rows.start]
        try:
            mapping.map_range(
                space,
                rows,
                file=self.file,
                starts=inside % self.block == 0,
                pgoff=inside % self.block,
            )
        except Refusal as refusal:
            if refusal.errno == errno.ENOMEM:
                raise self._too_many(space, pages, count) from None
            raise self.refused(space, rows, refusal.errno) from None
        if populate:
            faults.populate(space, rows)

    def _too_many(self, space: AddressSpace, pages: int, count: int) -> LimitHit:
        most, others = self.machine.kernel.max_map_count, self._lines(space)
        block = 1
        while block < pages and -(-pages // block) + others > most:
            block *= 2
        size = pages * self.machine.kernel.page_size
        return LimitHit(
            f"block={self.block} over {size} bytes needs {count} mappings;"
            f" vm.max_map_count is {most}.",
            wanted=count,
            limit=most,
            remedy=f"The smallest block that fits is block={block};"
            f" or: sysctl vm.max_map_count={count + others + 1024}.",
        )

    def _lines(self, space: AddressSpace) -> int:
        """``rb_count_vmas()``: lines of /proc/self/maps."""
        return space.vmas + self.machine.kernel.own_vmas

    def descriptors(self) -> tuple[int, ...]:
        """The file's."""
        return (self.file,) if self.file >= 0 else ()

    def held(self, space: AddressSpace) -> int:
        """The file, while its descriptor is open."""
        if self.file < 0:
            return 0
        return self.machine.files[self.file].allocated * self.machine.kernel.page_size

    def tamper(self, action: Action) -> None:
        """See :mod:`refbench_simulator.mechanisms.sealed`."""
        sealed.tamper(action)
        if self.file >= 0:
            self.machine.close_file(self.file)
        self.file = -1

    def teardown(self, space: AddressSpace) -> None:
        """Close the descriptor."""
        if self.file >= 0:
            self.machine.close_file(self.file)
        self.file = -1
