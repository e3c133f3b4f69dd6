"""What the model of a mechanism is: the calls that its C file makes, made to the modelled kernel.

A plugin brings the model of its own mechanism in one file: a subclass of :class:`Model`, named by
``Mechanism.model`` as ``package.module:Class``. See docs/simulator.md.
"""

from __future__ import annotations

import copy
import errno
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from refbench.errors import LimitHit, Unsupported, UsageError
from refbench.grammar import Values
from refbench.program.steps import Origin, Tampering
from refbench.words import AVAILABLE, Availability
from refbench_simulator import rules
from refbench_simulator.content import PATTERN
from refbench_simulator.cutting import Traits
from refbench_simulator.knobs import Kernel
from refbench_simulator.model import advice, faults, ksm, mapping
from refbench_simulator.model.machine import Machine, Refusal
from refbench_simulator.model.space import AddressSpace, Prot

Index = NDArray[np.int64]
Action = Tampering


class Model:
    """One process's mechanism. A forked child has a copy of its own (:meth:`forked`)."""

    applies_pattern: ClassVar[bool] = True
    fills_at_malloc: ClassVar[bool] = False
    """Whether the allocator above it fills everything that it hands out."""
    purge_restores: ClassVar[bool] = False
    """Whether MADV_DONTNEED brings the pattern back."""
    races: ClassVar[bool] = False
    """Whether other threads can access a page before its content is in it: such a model calls
    :meth:`others_run` in between."""
    meanwhile: Callable[[], None] | None = None
    """What other threads have to do, while there are some."""

    def __init__(self, machine: Machine, options: Values) -> None:
        self.machine = machine
        self.options = options

    @classmethod
    def traits(cls, options: Values, kernel: Kernel) -> Traits:
        """What it adds to what a program tells apart."""
        return Traits()

    @classmethod
    def availability(cls, kernel: Kernel) -> Availability:
        """Whether it works on this kernel."""
        return AVAILABLE

    def setup(self, space: AddressSpace) -> None:
        """Open, check and prepare, outside every phase but ``setup``.

        :raises CellError: when it does not work on this kernel.
        """

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """Map ``rows``, a region that begins at their first page.

        :raises CellError: when the kernel refuses.
        """
        raise NotImplementedError

    def forget(self, space: AddressSpace, rows: slice) -> None:
        """The range is about to be unmapped."""

    def settle(self, space: AddressSpace) -> None:
        """Let background work finish: KSM's with what the program offered it."""
        ksm.merge(self.machine)

    def before_fork(self, space: AddressSpace) -> None:
        """In the parent."""

    def forked(self) -> Self:
        """The child's own copy of what this object keeps; it inherits the descriptors."""
        for number in self.descriptors():
            self.machine.files[number].users += 1
        return copy.copy(self)

    def descriptors(self) -> tuple[int, ...]:
        """The files that it has open."""
        return ()

    def exited(self) -> None:
        """The process has ended, and the kernel closed its descriptors."""
        for number in self.descriptors():
            self.machine.close_file(number)

    def after_fork_child(self, space: AddressSpace) -> bool:
        """In the child, before it does anything else. Whether there was anything to do."""
        return False

    def held(self, space: AddressSpace) -> int:
        """Bytes of files and other memory that the process's RSS does not show."""
        return 0

    def tamper(self, action: Action) -> None:
        """Change the reference page behind the mapping's back.

        :raises Refusal: with the errno; EOPNOTSUPP where there is no reference page.
        """
        raise Refusal(errno.EOPNOTSUPP)

    def refer(self, origin: Origin) -> None:
        """Take other memory for the reference page of the mappings to come.

        :raises Refusal: with the errno; EOPNOTSUPP where mappings refer to no page.
        """
        raise Refusal(errno.EOPNOTSUPP)

    def teardown(self, space: AddressSpace) -> None:
        """Undo :meth:`setup`."""

    def facts(self) -> Mapping[str, str]:
        """Facts of this set-up worth recording."""
        return {}

    # -- for models ------------------------------------------------------------------------

    def map_anonymous(
        self, space: AddressSpace, rows: slice, *, populate: bool, prot: Prot = mapping.RW
    ) -> None:
        """``rb_map_anonymous()``: one mmap call.

        :raises LimitHit: at ``vm.max_map_count``.
        """
        self.map_new(space, rows, populate=populate, prot=prot)

    def map_new(self, space: AddressSpace, rows: slice, *, populate: bool, **how: object) -> None:
        """``rb_map_new()``: one mmap call with the arguments of
        :func:`~refbench_simulator.model.mapping.map_range`."""
        self.machine.system_call(what="mmap(2)")
        try:
            mapping.map_range(space, rows, **how)  # type: ignore[arg-type]
        except Refusal as refusal:
            raise self.refused(space, rows, refusal.errno) from None
        if populate:
            faults.populate(space, rows)

    def madvise(self, space: AddressSpace, rows: slice, what: str, *, calls: int = 1) -> None:
        """``rb_madvise()``: ``what`` as program files name it; ``calls`` of them, each for a part
        of the range, when they make no difference to the pages.

        :raises Refusal: with the errno.
        """
        self.machine.system_call(calls, "madvise(2)")
        advice.advise(space, rows, what)

    def refused(self, space: AddressSpace, rows: slice, number: int) -> Exception:
        """``rb_fail_map()``: why a mapping was refused."""
        size = self.size(space, rows)
        if number == errno.EEXIST:
            return UsageError(
                f"The address range of a new mapping of {size} bytes is in use.",
                remedy="Unmap what is there first.",
            )
        if number != errno.ENOMEM:
            return Unsupported(f"The kernel refused a mapping of {size} bytes: errno {number}.")
        limit = self.machine.kernel.max_map_count
        return LimitHit(
            f"The process has {space.map_count} mappings; vm.max_map_count is {limit}.",
            wanted=space.map_count + 1,
            limit=limit,
            remedy="Raise it: sysctl vm.max_map_count=262144.",
        )

    def size(self, space: AddressSpace, rows: slice) -> int:
        """Bytes of a range of rows."""
        return int(space.rows.weight[rows].sum()) * self.machine.kernel.page_size

    def others_run(self) -> None:
        """A moment in which other threads may do what they have to; all of it is done at once."""
        run, self.meanwhile = self.meanwhile, None
        if run is not None:
            run()

    def fill(self, space: AddressSpace, rows: Index) -> None:
        """``rb_fill()``: user space stores the pattern to whole pages."""
        faults.access(space, rows, store=True)
        shown = space.folio[rows]
        self.machine.folios.content[shown] = PATTERN
        self.machine.folios.home[shown] = space.rows.page[rows]
        self.machine.ledger.add(rules.FILL, rows, fill=space.pages(rows))


def indices(rows: slice) -> Index:
    """The rows of a range as numbers."""
    return np.arange(rows.start, rows.stop, dtype=np.int64)
