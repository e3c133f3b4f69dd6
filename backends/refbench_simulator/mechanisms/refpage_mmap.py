"""The model of ``refpage-mmap``: MAP_REFPAGE, the first version of the series.

mmap(2) gets the address of a page of the process's own as offset. The questions that the series
left open are decided so: the call copies the page, once, into a file of the kernel's that the
mapping alone keeps, so that nothing that happens to the page afterwards has an effect on mappings
that there are. As all of the agent's own memory, the process's page is in no count of the
program's.
"""

from __future__ import annotations

import errno

import numpy as np

from refbench.grammar import Values
from refbench.program.steps import Origin
from refbench_simulator import rules
from refbench_simulator.content import PATTERN
from refbench_simulator.mechanism import Action, Model
from refbench_simulator.mechanisms.refpage import UNREADABLE
from refbench_simulator.model.machine import ENDLESS, File, Machine, Refusal
from refbench_simulator.model.space import AddressSpace, Flag


class RefpageMmap(Model):
    """One system call for each mapping, and no descriptor."""

    purge_restores = True

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.content: int | None = None
        """What the process's page holds; None: it has none."""

    def setup(self, space: AddressSpace) -> None:
        """Make the page; a mapping of one page shows that there can be others."""
        self._make_page()
        self._try_map()

    def _make_page(self) -> None:
        self.machine.system_call(what="mmap(2)")
        self.content = PATTERN

    def _try_map(self) -> None:
        self.machine.system_call(what="mmap(2)")
        self.machine.system_call(what="munmap(2)")

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """One mmap call, which makes the file."""
        if self.content is None:
            self._make_page()
        page = space.rows.page
        shown = PATTERN if self.content is None else self.content
        number = self.machine.open_file(
            File(ENDLESS, "special", single=True, allocated=1, content=shown)
        )
        self.machine.ledger.add(rules.REFERENCE_PAGE, file=1, alloc=1, copy=1)
        try:
            self.map_new(
                space,
                rows,
                populate=populate,
                flags=Flag.REFERENCE,
                file=number,
                pgoff=page[rows] - page[rows.start],
            )
        finally:
            self.machine.close_file(number)

    def refer(self, origin: Origin) -> None:
        """The kernel copies whatever can be read.

        :raises Refusal: EFAULT for what cannot be read.
        """
        if origin in UNREADABLE:
            raise Refusal(errno.EFAULT)
        self._try_map()
        self.content = PATTERN

    def tamper(self, action: Action) -> None:
        """Store to the page, or unmap it; it has no file that could be cut short.

        :raises Refusal: EOPNOTSUPP for that, EINVAL without a page.
        """
        if action == "truncate":
            raise Refusal(errno.EOPNOTSUPP)
        if self.content is None:
            raise Refusal(errno.EINVAL)
        if action == "unmap":
            self.machine.system_call(what="munmap(2)")
            self.content = None
            return
        contents = self.machine.contents
        self.content = contents.image(np.invert(contents.base(self.content)).tobytes())
