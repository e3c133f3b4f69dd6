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
from refbench.words import Capabilities, Cell, Pattern
from refbench_simulator.settings import KNOBS

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
    target: str = "host"

    def __str__(self) -> str:
        parts = [f"refbench run --program FILE -m '{self.mechanism}' -b {self.target}, with FILE:"]
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
    """This machine, or a guest."""
    simulator: Session | None
    target: str = "host"
    cpus: int | None = None
    """Of a guest."""

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
            if not unstable(program, mechanism, real, cpus=self.cpus):
                return real, []
        real = self.measure(self.host, program, mechanism)
        return real, unstable(program, mechanism, real, cpus=self.cpus)

    def ask(self, program: Program, mechanism: str) -> Answer:
        """Both, compared; without a simulator the host is compared with itself."""
        real, shaky = self.on_host(program, mechanism)
        found: list[Difference] = []
        if self.simulator is not None:
            modelled = self.measure(self.simulator, program, mechanism)
            found = compare(program, mechanism, real, modelled, cpus=self.cpus)
        why = f"{real.failure.kind}: {real.failure.message}" if real.failure else ""
        return Answer(mechanism, program, tuple(found), tuple(shaky), why, self.target)


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


@contextmanager
def open_guest_pair(target: str) -> Iterator[Pair]:
    """A guest, and the model of it: its kernel, its settings, its root and its one CPU.

    In a guest no other agent runs from the same file.
    """
    _, guest = open_target(registry(), target)
    with guest:
        _, model = open_target(registry(), model_of(guest.capabilities()))
        with model:
            yield Pair(guest, model, target, int(guest.capabilities().environment["cpus"]))


def model_of(found: Capabilities) -> str:
    """The simulator with the kernel that a session found, and every setting of it.

    Whoever runs agents in a guest is root, and KSM is switched on for the cells that want it.
    """
    knobs = {
        "kernel": found.kernel,
        "arch": found.arch,
        "page": str(found.page_size),
        "ksm": "yes",
        "privileged": "yes",
    }
    for knob in KNOBS:
        if knob.fact in _TOLD:
            knobs[knob.name] = found.environment[knob.fact]
    return str(Spec("simulator", tuple(sorted(knobs.items()))))


_TOLD = ("fault-around-bytes", "thp", "vm.max_map_count", "swap")
"""Facts of a guest's environment that are knobs of the model."""
