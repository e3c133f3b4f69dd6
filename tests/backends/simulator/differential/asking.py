"""Programs whose answer by the host is known, and whether the simulator of the moment gives the
same one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from tests.backends.simulator.differential.comparison import Difference, Measured, compare, table
from tests.backends.simulator.differential.hunt import EACH, hash_of, visit_all
from tests.backends.simulator.differential.mutating import Mutation, reached
from tests.backends.simulator.differential.mutations import MUTATIONS
from tests.backends.simulator.differential.pair import Pair
from tests.backends.simulator.differential.programs import MECHANISMS

from refbench.program import Program


@dataclass(frozen=True, slots=True)
class Asked:
    """A program, and what the host made of it."""

    program: Program
    mechanism: str
    host: Measured
    reached: frozenset[str] = frozenset()
    """Mutations whose place the unmodified model comes to with it."""
    seconds: float = 0.0
    """What the unmodified model took."""


@dataclass(slots=True)
class Questions:
    """Programs that the host was asked once, and that the unmodified model answers as it does."""

    pair: Pair
    asked: list[Asked] = field(default_factory=list)
    disagreed: list[str] = field(default_factory=list)
    """Where the unmodified model gives another answer: the program and the table."""
    seen: set[tuple[str, str]] = field(default_factory=set)
    """Mechanism and text of every program: none is asked twice."""
    shaky: int = 0
    """Programs whose answers on the host differ from one another; they are left out."""

    def ask(self, program: Program, mechanism: str) -> None:
        """Ask both, and keep the program if they agree."""
        if (mechanism, program.text()) in self.seen:
            return
        self.seen.add((mechanism, program.text()))
        host, unstable = self.pair.on_host(program, mechanism)
        if unstable:
            self.shaky += 1
            return
        asked = Asked(program, mechanism, host)
        began = time.perf_counter()
        with pytest.MonkeyPatch.context() as patch:
            places = reached(patch, MUTATIONS)
            try:
                found = self.differences(asked)
                told = table(found) if found else ""
            except Exception as error:
                told = repr(error)
        if told:
            self.disagreed.append(f"-m {mechanism}\n{program.text()}{told}")
            return
        took = time.perf_counter() - began
        self.asked.append(replace(asked, reached=frozenset(places), seconds=took))

    def ask_random(self, count: int, seed: int, seconds: float = math.inf) -> None:
        """At least ``count`` random programs, all mechanisms in turn, or as many rounds of them
        as begin within ``seconds``."""
        began, turn, whole = time.monotonic(), 0, EACH * len(MECHANISMS)
        before = len(self.seen)
        while len(self.seen) - before < count and time.monotonic() - began < seconds:
            visit_all(whole, hash_of(seed, turn), self.ask, shrink=False)
            turn += 1

    def differences(self, asked: Asked) -> list[Difference]:
        """Between the host's answer and that of the simulator as it is now."""
        assert self.pair.simulator is not None
        now = self.pair.measure(self.pair.simulator, asked.program, asked.mechanism)
        return compare(asked.program, asked.mechanism, asked.host, now)


def verdicts(mutation: Mutation, questions: Questions) -> Iterator[list[Difference]]:
    """What the mutated model answers wrongly, program by program.

    A program that does not come to the mutated place is not run again. A model that breaks down
    gives no answer, and so no wrong one: that does not count as caught.
    """
    for each in questions.asked:
        if mutation.name not in each.reached:
            yield []
            continue
        with pytest.MonkeyPatch.context() as patch:
            mutation.apply(patch)
            try:
                found = questions.differences(each)
            except Exception:
                found = []
        yield found
