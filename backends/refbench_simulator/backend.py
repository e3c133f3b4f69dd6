"""What ``simulator`` offers and how it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refbench.grammar import Option, Values
from refbench.words import AVAILABLE, Availability
from refbench_simulator import cost_files, target

if TYPE_CHECKING:
    from refbench_simulator.session import SimulatorSession


class SimulatorBackend:
    """Linux's memory management as a model: on any operating system, for every user."""

    name = target.NAME
    summary = "Linux's page-fault path as a model: no root, no compiler, any size"
    options: Sequence[Option] = target.OPTIONS

    def probe(self) -> Availability:
        """It runs wherever this does."""
        return AVAILABLE

    def open(self, options: Values) -> SimulatorSession:
        """A session on the kernel that the options mean; nothing of this machine is looked at
        without ``like=host``.

        :raises BackendError: for ``like=host`` where it is not Linux.
        :raises UsageError: for a bad file or knobs that contradict one another.
        :raises StorageError: for a damaged journal.
        """
        kernel = target.kernel(options)
        from refbench_simulator.session import SimulatorSession

        return SimulatorSession(kernel, cost_files.find(options.text("costs")))
