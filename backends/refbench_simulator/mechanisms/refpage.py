"""The model of ``refpage``: refpage_create(2), as in the last version of the series.

The descriptor's private mapping is anonymous memory that has a file all
the same, as a private mapping of /dev/zero has; a load shows the page behind the file by a special
entry, a first store copies it.
"""

from __future__ import annotations

import errno

from refbench.grammar import Values
from refbench.program.steps import Origin
from refbench_simulator import rules
from refbench_simulator.mechanism import Action, Model
from refbench_simulator.model.machine import ENDLESS, File, Machine, Refusal
from refbench_simulator.model.space import AddressSpace, Flag

UNREADABLE = ("from-unmapped", "from-inaccessible")


class Refpage(Model):
    """One system call for the page, one for each mapping."""

    purge_restores = True
    flags = Flag.REFERENCE
    """What its VMAs have."""

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.file = -1
        """What the mappings show; below 0: given up."""

    def setup(self, space: AddressSpace) -> None:
        """Make the page."""
        self.file = self.make()

    def make(self) -> int:
        """A page of the kernel's, behind a descriptor; its number."""
        self.machine.system_call(what="refpage_create(2)")
        self.machine.ledger.add(rules.REFERENCE_PAGE, file=1, alloc=1, copy=1)
        return self.machine.open_file(File(ENDLESS, "special", single=True, allocated=1))

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """One mmap call."""
        if self.file < 0:
            self.file = self.make()
        page = space.rows.page
        self.map_new(
            space,
            rows,
            populate=populate,
            flags=self.flags,
            file=self.file,
            pgoff=page[rows] - page[rows.start],
        )

    def descriptors(self) -> tuple[int, ...]:
        """The file's."""
        return (self.file,) if self.file >= 0 else ()

    def held(self, space: AddressSpace) -> int:
        """The page, while the descriptor is open."""
        if self.file < 0:
            return 0
        return self.machine.files[self.file].allocated * self.machine.kernel.page_size

    def tamper(self, action: Action) -> None:
        """The descriptor is for reading alone, and no regular file; mappings keep the page when
        it is closed.

        :raises Refusal: EBADF for a store, EINVAL for ftruncate(2).
        """
        if action != "unmap":
            raise Refusal(errno.EBADF if action == "write" else errno.EINVAL)
        self.give_up()

    def refer(self, origin: Origin) -> None:
        """The call copies whatever can be read; an offset has no part in it.

        :raises Refusal: EFAULT for what cannot be read, EOPNOTSUPP for a signed offset.
        """
        if origin == "from-compat-signed":
            raise Refusal(errno.EOPNOTSUPP)
        if origin in UNREADABLE:
            raise Refusal(errno.EFAULT)
        self.give_up()
        self.file = self.make()

    def give_up(self) -> None:
        """Close the descriptor."""
        if self.file >= 0:
            self.machine.close_file(self.file)
        self.file = -1

    def teardown(self, space: AddressSpace) -> None:
        """Close the descriptor."""
        self.give_up()
