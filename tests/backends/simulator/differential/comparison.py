"""Where two runs of a program disagree. docs/simulator-exactness.md lists what may, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.backends.simulator.differential.readings import Place, Readings, processes, readings

from refbench.program import Program, Step
from refbench.program import steps as s
from refbench.samples import Failure, Run

KIB = 1024
MESSAGE_CALLS = 2
"""poll(2) and read(2): the calls that a handler thread makes once for several messages."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that is not the same."""

    place: Place
    host: int | str | None
    simulator: int | str | None


@dataclass(frozen=True, slots=True)
class Measured:
    """A program's run and that of its skeleton, on one target."""

    run: Run
    own: Run

    @property
    def failure(self) -> Failure | None:
        return self.run.failure or self.own.failure

    def readings(self) -> tuple[Readings, ...]:
        """Of each sample."""
        pairs = zip(self.run.samples, self.own.samples, strict=True)
        return tuple(readings(sample, own) for sample, own in pairs)


def compare(
    program: Program, mechanism: str, host: Measured, simulator: Measured
) -> list[Difference]:
    """Every disagreement, in the order of the report; empty when they agree."""
    if host.failure or simulator.failure:
        kinds = [None if f is None else f.kind for f in (host.failure, simulator.failure)]
        same = kinds[0] == kinds[1]
        return [] if same else [Difference(Place("run", "failure"), kinds[0], kinds[1])]
    lives = processes(program)
    batched = mechanism.partition(":")[0] == "uffd" and _has_threads(program.steps)
    found: dict[Place, Difference] = {}
    for real, modelled in zip(host.readings(), simulator.readings(), strict=True):
        for place in sorted(real.keys() | modelled.keys()):
            pair = real.get(place), modelled.get(place)
            if pair[0] == pair[1]:
                continue
            if place.counter == "pss" and _rounded(*pair, lives.get(place.where.split()[1], 1)):
                continue
            if batched and place.counter == "syscalls" and _batched(*pair, modelled, place):
                continue
            found.setdefault(place, Difference(place, *pair))
    return list(found.values())


def unstable(program: Program, mechanism: str, host: Measured) -> list[Difference]:
    """Where the samples of one run on the host differ from one another."""
    if host.failure or len(host.run.samples) < 2:
        return []
    halves = [
        Measured(_only(host.run, number), _only(host.own, number))
        for number in range(len(host.run.samples))
    ]
    found = (compare(program, mechanism, halves[0], each) for each in halves[1:])
    return [difference for each in found for difference in each]


def _only(run: Run, number: int) -> Run:
    return Run(samples=(run.samples[number],))


def _rounded(host: int | str | None, simulator: int | str | None, alive: int) -> bool:
    """The kernel prints PSS in whole KiB, rounded down, the agent's own share included: with
    three sharers and more its fraction may carry over."""
    if not isinstance(host, int) or not isinstance(simulator, int) or alive < 3:
        return False
    return 0 <= host - simulator // KIB * KIB <= KIB


def _batched(
    host: int | str | None, simulator: int | str | None, modelled: Readings, place: Place
) -> bool:
    """With threads, one poll(2) and one read(2) may bring several messages."""
    if not isinstance(host, int) or not isinstance(simulator, int):
        return False
    messages = modelled[Place(place.where, "uffd_messages")]
    return isinstance(messages, int) and simulator - MESSAGE_CALLS * messages <= host <= simulator


def _has_threads(steps: Iterable[Step]) -> bool:
    return any(_threads_in(step) for step in steps)


def _threads_in(step: Step) -> bool:
    match step:
        case s.Parallel():
            return True
        case s.Fork(child, parent, _):
            return _has_threads(child) or _has_threads(parent)
        case s.Repeat(_, body):
            return _has_threads(body)
    return False


def table(differences: Sequence[Difference]) -> str:
    """The disagreements, one a line, under a head."""
    head = ("where", "counter", "host", "simulator")
    rows = [
        (each.place.where, each.place.counter, str(each.host), str(each.simulator))
        for each in differences
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    )
