"""A random touch of many pages is worked out as two runs of pages: the counts are the same."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.backends.simulator.test_folding import ALWAYS, NEVER, TIB, cell, rows, run

from refbench.program import (
    Access,
    Advise,
    Content,
    Expect,
    Fork,
    Lock,
    Map,
    Measure,
    Phase,
    Program,
    Protect,
    Step,
    Touch,
    Unmap,
)
from refbench_simulator import scattering
from refbench_simulator.cost_files import default
from refbench_simulator.knobs import Kernel
from refbench_simulator.session import SimulatorSession

MECHANISMS = (
    *("anon", "ksm", "memfd-full", "memfd:block=16", "memset"),
    *("refpage", "refpage-dev", "uffd", "uffd-sigbus"),
)
ACCESSES: tuple[Access, ...] = ("write", "write", "read", "readwrite")
ADVICE = ("dontneed", "populate-read", "populate-write", "free")
CONTENTS: tuple[Content, ...] = ("pattern", 0x55)


@dataclass
class Drawing:
    """A program with one random touch, now and then repeated, and other steps around it."""

    dice: Random
    page: int

    def program(self) -> Program:
        """The program."""
        dice, page = self.dice, self.page
        small, large = 512 * dice.randint(4, 60), (1 << 19) + dice.randint(0, 9999)
        self.pages = dice.choice((small, dice.randint(3000, 40000), 1 << 18, large))
        size = self.pages * page
        offset = dice.choice((0, 0, page * dice.randint(1, 900)))
        length, stride = size - offset - 200, page * dice.choice((1, 1, 2, 3, 16))
        count = min(length // stride - 1, dice.choice((30, 100, 1000, 5000)))
        self.touch = Touch(
            *(0, offset + dice.choice((0, 100)), length, dice.choice(ACCESSES), stride),
            size=dice.choice((1, 8)),
            order="random",
            seed=dice.randrange(1000),
            count=count,
        )
        steps: list[Step] = [Phase("map"), Map(0, size, dice.random() < 0.1)]
        if dice.random() < 0.5:
            steps += [*self._other(), Measure("before")]
        steps += [Phase("touch"), self.touch, Measure("touch")]
        for number in range(dice.randint(0, 3)):
            steps += [Phase(f"p{number}"), *self._other(), Measure(f"m{number}")]
        steps += [Phase("unmap"), Unmap(0, 0, 0), Measure("unmap")]
        return Program("scattered", tuple(steps), observe_all=dice.random() < 0.5)

    def _other(self) -> tuple[Step, ...]:
        dice, page = self.dice, self.page
        first = dice.randrange(self.pages)
        behind = dice.randrange(first + 1, self.pages + 1)
        if dice.random() < 0.5:
            first, behind = 0, self.pages
        offset, length = first * page, (behind - first) * page
        kinds: tuple[tuple[Step, ...], ...] = (
            (Unmap(0, offset, length),),
            (Touch(0, offset, length, dice.choice(("read", "write")), page),),
            (Advise(0, offset, length, dice.choice(ADVICE)),),
            (Expect(0, offset, length, dice.choice(CONTENTS), page),),
            (Expect(0, offset + 1, length - 1, "pattern", page, True),),
            (Protect(0, offset, length, dice.choice(("read", "readwrite"))),),
            (Lock(0, offset, length),),
            (Fork((Phase("child"), self.touch, Measure("child")), ()),),
            (self.touch,),
        )
        return dice.choice(kinds)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scattering, "FEWEST", 20)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, (1 << 32) - 1))
def test_random_programs_count_the_same(mechanism: str, seed: int) -> None:
    dice = Random(seed)
    page = dice.choice((4096, 4096, 16384))
    machine = Kernel(page_size=page, arch="x86_64" if page == 4096 else "arm64")
    program = Drawing(dice, page).program()
    scattered, each = (run(program, mechanism, machine, fold) for fold in (ALWAYS, NEVER))
    assert scattered.failure == each.failure, program.text()
    assert scattered.samples == each.samples, program.text()


def test_most_of_those_programs_are_worked_out_so() -> None:
    programs = [Drawing(Random(seed), 4096).program() for seed in range(20)]
    used = [bool(rows(program, "anon", Kernel(), ALWAYS).scatters) for program in programs]
    assert sum(used) >= 14


@pytest.mark.parametrize("mechanism", ["anon", "memfd-full", "memset", "refpage", "uffd-sigbus"])
def test_a_million_random_pages_of_eight_tebibytes(mechanism: str) -> None:
    touch = Touch(0, 0, 8 * TIB, "write", 4096, order="random", seed=1, count=10**6)
    steps = (Phase("map"), Map(0, 8 * TIB), Phase("touch"), touch, Measure("touch"))
    program = Program("million", (*steps, Phase("unmap"), Unmap(0, 0, 0)))
    with SimulatorSession(Kernel(), default()) as session:
        tracemalloc.start()
        began = time.monotonic()
        found = session.run(cell(program, mechanism), 1, 100)
        seconds = time.monotonic() - began
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    memory = found.samples[0].memory["touch"]
    tables = found.samples[0].phases["touch"]
    assert tables.traps == 10**6 if mechanism != "memset" else tables.traps == 0
    pages = 8 * TIB // 4096 if mechanism == "memset" else 10**6
    assert memory.rss_anon == pages * 4096
    assert seconds < 10
    assert most < 100 << 20
