"""Where two runs of a program disagree. docs/simulator-exactness.md lists what may, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.backends.simulator.differential import bounds
from tests.backends.simulator.differential.readings import (
    CHARGED,
    PEAK,
    Place,
    Readings,
    readings,
)

from refbench.program import Program
from refbench.samples import Failure, Run

Value = int | str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One number that is not the same."""

    place: Place
    host: Value
    simulator: Value


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

    def half(self, number: int) -> Measured:
        """One sample of it."""
        return Measured(*(Run(samples=(each.samples[number],)) for each in (self.run, self.own)))


def compare(
    program: Program,
    mechanism: str,
    host: Measured,
    simulator: Measured,
    *,
    cpus: int | None = None,
) -> list[Difference]:
    """Every disagreement, in the order of the report; empty when they agree.

    ``cpus``: of the machine that is compared, this one's when they are left out.
    """
    if host.failure or simulator.failure:
        kinds = [None if f is None else f.kind for f in (host.failure, simulator.failure)]
        same = kinds[0] == kinds[1]
        return [] if same else [Difference(Place("run", "failure"), kinds[0], kinds[1])]
    return _differences(_Judge(program, mechanism, cpus=cpus), host, simulator)


def _differences(judge: _Judge, host: Measured, simulator: Measured) -> list[Difference]:
    found: dict[Place, Difference] = {}
    for real, modelled in zip(host.readings(), simulator.readings(), strict=True):
        for place in sorted(real.keys() | modelled.keys()):
            pair = real.get(place), modelled.get(place)
            if pair[0] != pair[1] and not judge.allows(place, *pair, modelled):
                found.setdefault(place, Difference(place, *pair))
    return list(found.values())


def unstable(
    program: Program, mechanism: str, host: Measured, *, cpus: int | None = None
) -> list[Difference]:
    """Where the samples of one run on the host differ from one another."""
    if host.failure:
        return []
    judge = _Judge(program, mechanism, alike=True, cpus=cpus)
    halves = [host.half(number) for number in range(len(host.run.samples))]
    found = (_differences(judge, halves[0], each) for each in halves[1:])
    return [difference for each in found for difference in each]


class _Judge:
    """Which differences of a program are allowed; ``alike``: between two samples of the host."""

    def __init__(
        self, program: Program, mechanism: str, *, alike: bool = False, cpus: int | None = None
    ) -> None:
        self.alike = alike
        self.cpus = cpus
        threads = bounds.has_threads(program)
        self.batched = mechanism.partition(":")[0] == "uffd" and threads
        self.buffered = bounds.has_buffers(program)

    def allows(self, place: Place, host: Value, simulator: Value, modelled: Readings) -> bool:
        if place.counter in CHARGED and host is None:
            return True
        if not isinstance(host, int) or not isinstance(simulator, int):
            return False
        match place.counter:
            case "pss":
                return bounds.pss(host, simulator)
            case "syscalls" if self.batched:
                messages = modelled[Place(place.where, "uffd_messages")]
                most = max(host, simulator) if self.alike else simulator
                return isinstance(messages, int) and bounds.syscalls(
                    min(host, simulator), most, messages
                )
            case counter if counter == PEAK:
                return bounds.peak(host, simulator, buffered=self.buffered, count=self.cpus)
            case counter if counter in CHARGED:
                return bounds.charged(host, simulator, count=self.cpus)
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
