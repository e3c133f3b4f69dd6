"""The model of ``native/mechanisms/uffd.c``: a userfaultfd with a handler thread."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray

from refbench.errors import Unsupported, UsageError
from refbench.grammar import Values
from refbench_simulator import rules
from refbench_simulator.mechanism import Model
from refbench_simulator.mechanisms import userfault
from refbench_simulator.mechanisms.ranges import Ranges
from refbench_simulator.model.machine import Machine, Userfault
from refbench_simulator.model.space import AddressSpace

Index = NDArray[np.int64]

_PER_MESSAGE = 2
"""System calls of the handler thread for each message, beside UFFDIO_COPY: poll(2), read(2)."""

_OPEN = 2
"""Descriptors of a process that has opened one."""


class Uffd(Model):
    """A message to another thread for every first touch."""

    purge_restores = True

    def __init__(self, machine: Machine, options: Values) -> None:
        super().__init__(machine, options)
        self.events = options.text("events") == "fork"
        self.atfork = options.switch("atfork")
        self.number = 0
        self.open = 0
        """Descriptors: the userfaultfd, the thread's eventfd, and those of forked children."""
        self.follows: list[object] = []
        """Who gets an event of the fork under way: this process, or one that it comes from."""
        self.ranges: Ranges | None = None

    def setup(self, space: AddressSpace) -> None:
        """Open it, start the thread."""
        if self.events and self.atfork:
            raise UsageError(
                "A child's ranges cannot be served by its parent and by itself.",
                remedy="Use events=fork or atfork.",
            )
        if self.events and not self.machine.kernel.privileged:
            raise Unsupported(
                "Fork events of a userfaultfd need CAP_SYS_PTRACE.",
                remedy="Run as root, or use atfork.",
            )
        self.machine.system_call()
        if self.atfork:
            self.machine.system_call()
            self.ranges = Ranges(len(space.rows))
        self._open()

    def _open(self) -> None:
        self.machine.system_call()
        self.machine.ledger.add(rules.THREAD, thread=1)
        self.open = _OPEN
        self.number = userfault.open_userfault(
            self.machine, Userfault(self._serve, follows_forks=self.events, owner=self)
        )

    def _serve(self, space: AddressSpace, rows: Index, store: bool) -> int:
        """The thread copies the page."""
        machine, pages = self.machine, space.pages(rows)
        machine.system_call(_PER_MESSAGE * pages, "poll(2), read(2)")
        machine.counters.messages += pages
        machine.ledger.add(rules.UFFD_MESSAGE, rows, fault=pages, message=pages)
        userfault.copy(space, rows)
        return int(rows.size)

    def map(self, space: AddressSpace, rows: slice, *, populate: bool) -> None:
        """Map and register."""
        if not self.number:
            self._open()
        userfault.map_registered(self, space, rows, self.number, populate=populate)
        if self.ranges is not None:
            self.ranges.add(rows)

    def forget(self, space: AddressSpace, rows: slice) -> None:
        """The table of ranges, with ``atfork``."""
        if self.ranges is not None:
            self.ranges.remove(rows)

    def before_fork(self, space: AddressSpace) -> None:
        """With ``events=fork`` the kernel sends a message, and fork waits for it to be read."""
        contexts = np.unique(space.ctx[space.mapped & (space.ctx > 0)]).tolist()
        open_ones = [self.machine.userfaults[number - 1] for number in contexts]
        self.follows = [found.owner for found in open_ones if found.follows_forks]
        self.machine.system_call(_PER_MESSAGE * len(self.follows), "poll(2), read(2)")
        self.machine.counters.messages += len(self.follows)
        self.machine.ledger.add(rules.UFFD_FORK, message=len(self.follows))

    def forked(self) -> Self:
        """The descriptor is the parent's, and its thread is not there."""
        child = super().forked()
        for owner in self.follows:
            assert isinstance(owner, Uffd)
            owner.open += 1
        child.ranges = self.ranges.copy() if self.ranges is not None else None
        return child

    def after_fork_child(self, space: AddressSpace) -> bool:
        """Close what is inherited; with ``atfork`` open an own and register everything."""
        self.machine.system_call(self.open, "close(2)")
        self.number = self.open = 0
        if self.atfork and self.ranges is not None:
            self._open()
            for rows in self.ranges.slices():
                userfault.register(space, rows, self.number)
        return True
