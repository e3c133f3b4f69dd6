"""The host and the simulator, opened once, and a question to both."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from tests.backends.simulator.differential import bounds
from tests.backends.simulator.differential.comparison import (
    Difference,
    Measured,
    compare,
    table,
    unstable,
)
from tests.backends.simulator.differential.skeleton import with_skeleton

from refbench.backend import Session
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.program import Program
from refbench.runner import open_target
from refbench.words import Cell, Pattern

SIMULATOR = "simulator:like=host"
SECONDS = 60.0
TRIES = 3
"""How often a program whose two samples differ on the host itself is run there."""
PATTERN = Pattern.parse("byte:0xAA")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one program."""

    mechanism: str
    program: Program
    differences: tuple[Difference, ...]
    shaky: tuple[Difference, ...] = ()
    """Where the host did not agree with itself, not even after :data:`TRIES` runs."""
    failed: str = ""
    """The kind and message of a failure on the host, where it has one."""

    def __str__(self) -> str:
        parts = [f"refbench run --program FILE -m '{self.mechanism}' -b host, with FILE:"]
        parts += [self.program.text()]
        parts += [table(self.differences)] if self.differences else ["They agree."]
        parts += [f"On the host: {self.failed}"] if self.failed else []
        if self.shaky:
            parts += ["The host's own samples differ:", table(self.shaky)]
        return "\n".join(parts)


@dataclass(slots=True)
class Pair:
    """Runs programs on both targets."""

    host: Session
    simulator: Session | None

    def measure(self, session: Session, program: Program, mechanism: str) -> Measured:
        """The program and its skeleton, two samples each."""
        spec = Spec.parse(mechanism, what="mechanism")
        runs = [
            session.run(Cell(f"program:{each.name}", spec, PATTERN, each), 1, SECONDS)
            for each in with_skeleton(program, bounds.PAGE)
        ]
        return Measured(*runs)

    def on_host(self, program: Program, mechanism: str) -> tuple[Measured, list[Difference]]:
        """A run whose samples agree, if there is one; where the last run's do not."""
        for _ in range(TRIES - 1):
            real = self.measure(self.host, program, mechanism)
            if not unstable(program, mechanism, real):
                return real, []
        real = self.measure(self.host, program, mechanism)
        return real, unstable(program, mechanism, real)

    def ask(self, program: Program, mechanism: str) -> Answer:
        """Both, compared; without a simulator the host is compared with itself."""
        real, shaky = self.on_host(program, mechanism)
        found: list[Difference] = []
        if self.simulator is not None:
            modelled = self.measure(self.simulator, program, mechanism)
            found = compare(program, mechanism, real, modelled)
        why = f"{real.failure.kind}: {real.failure.message}" if real.failure else ""
        return Answer(mechanism, program, tuple(found), tuple(shaky), why)


@contextmanager
def open_pair(*, simulator: bool = True) -> Iterator[Pair]:
    """Both sessions. The agent is built for this pair alone: an agent of somebody else that
    runs from the same file would share its pages, which PSS and USS show."""
    with tempfile.TemporaryDirectory(prefix="refbench-differential-") as folder:
        with patch.dict(os.environ, {"REFBENCH_CACHE": folder}):
            _, host = open_target(registry(), "host")
        with host:
            if not simulator:
                yield Pair(host, None)
                return
            _, other = open_target(registry(), SIMULATOR)
            with other:
                yield Pair(host, other)
