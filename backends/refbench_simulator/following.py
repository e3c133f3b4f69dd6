"""Who follows a program through the model, hearing the ledger and where in the program that is."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol

from refbench_simulator.model.events import Hears

if TYPE_CHECKING:
    from refbench_simulator.interpreter import Interpreter
    from refbench_simulator.numbering import Node
    from refbench_simulator.process import Process

Part = Literal["program", "again", "child", "parent", "thread"]
"""What a block of steps is: all of the program, once through a ``repeat``, a process's part of a
``fork``, or what one of a group of threads does."""


class Follower(Hears, Protocol):
    """See :class:`refbench_simulator.telling.Teller`."""

    def begins(self, interpreter: Interpreter) -> None:
        """A sample begins; what came before was another one's."""

    def step(self, node: Node | None, process: Process) -> AbstractContextManager[None]:
        """``process`` takes a step; ``None`` is the set-up of its mechanism, and its end."""

    def block(self, part: Part) -> AbstractContextManager[None]:
        """A block of steps inside the present one."""
