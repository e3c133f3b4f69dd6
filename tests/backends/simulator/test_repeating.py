"""Blocks that repeat themselves count what they would if all rounds were worked out."""

from __future__ import annotations

import time

import pytest
from tests.backends.simulator.test_folding import cell

from refbench.program import (
    Advise,
    Expect,
    Fork,
    Map,
    Measure,
    Phase,
    Program,
    Repeat,
    Step,
    Touch,
    Unmap,
)
from refbench.samples import Run
from refbench_simulator import repeating
from refbench_simulator.cost_files import default
from refbench_simulator.knobs import Kernel
from refbench_simulator.session import SimulatorSession

MIB = 1 << 20
MECHANISMS = (
    *("anon", "ksm", "memfd:block=16", "memfd-full", "memset", "refpage", "segv"),
    *("uffd", "uffd:events=fork", "uffd:atfork", "uffd-sigbus:atfork"),
)


def write(stride: int = 16384, **more: object) -> Touch:
    return Touch(0, 0, MIB, "write", stride, **more)  # type: ignore[arg-type]


def churn(count: int, *inside: Step) -> Repeat:
    again = (Phase("map"), Map(0, MIB), Phase("touch"), *inside, Phase("unmap"), Unmap(0, 0, MIB))
    return Repeat(count, again)


def forks(count: int, *child: Step) -> Repeat:
    return Repeat(count, (Phase("fork"), Fork((Phase("child"), *child, Measure("child")), ())))


PROGRAMS: dict[str, tuple[Step, ...]] = {
    "churn": (churn(40, write()), Measure("end")),
    "churn-backward": (churn(37, write(order="backward"), write(24576)), Measure("end")),
    "churn-growing": (Map(1, MIB), *(churn(21, write(), Touch(1, 0, MIB, "write", 4096)),)),
    "forks": (Map(0, MIB), write(), forks(15, write(8192)), Measure("end")),
    "grandchildren": (
        *(Map(0, MIB), write(), forks(6, write(8192), forks(7, write(8192))), Measure("end")),
    ),
    "values": (
        *(Map(0, MIB), Repeat(30, (write(value=1), write(value=2, stride=4096)))),
        *(Expect(0, 0, MIB, 2, 4096), Measure("end")),
    ),
    "dropped": (
        *(Map(0, MIB), Repeat(25, (Phase("r"), write(), Advise(0, 0, MIB // 2, "dontneed")))),
        Measure("end"),
    ),
    "two-turns": (
        *(Map(0, MIB), Repeat(3, (Phase("a"), forks(17, write(8192)), write(4096)))),
        Measure("end"),
    ),
}


def run(steps: tuple[Step, ...], mechanism: str, *, observe: bool = False) -> Run:
    with SimulatorSession(Kernel(), default()) as session:
        return session.run(cell(Program("rounds", steps, observe), mechanism), 1, 300)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_counts_the_same(name: str, mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = name == "values"
    short = run(PROGRAMS[name], mechanism, observe=observe)
    monkeypatch.setattr(repeating, "FEW", 1 << 40)
    whole = run(PROGRAMS[name], mechanism, observe=observe)
    assert short.failure == whole.failure
    assert short.samples == whole.samples


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_million_rounds_take_no_longer_than_a_few(mechanism: str) -> None:
    began = time.monotonic()
    found = run((churn(1 << 20, write()), Measure("end")), mechanism)
    assert time.monotonic() - began < 20
    assert found.samples[0].phases["touch"].entries == 1 << 20
    phase = found.samples[0].phases["map" if mechanism in ("ksm", "memset") else "touch"]
    pages = 256 if mechanism in ("ksm", "memset") else 64
    assert phase.minor_faults + phase.sigbus == pages << 20
