"""A long regular range is worked out as one period of it: nobody can tell by the numbers."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.backends.simulator.regular import MECHANISMS, Drawing, kernel

from refbench.grammar import Spec, resolve
from refbench.plugins import registry
from refbench.program import (
    Expect,
    Fork,
    Map,
    Measure,
    Phase,
    Program,
    Protect,
    Touch,
    Unmap,
)
from refbench.samples import Run
from refbench.words import Cell, Pattern
from refbench_simulator import models
from refbench_simulator.costs import Costs, Error, Origin
from refbench_simulator.cutting import Grain
from refbench_simulator.knobs import Kernel
from refbench_simulator.model.events import Event
from refbench_simulator.rows import Rows
from refbench_simulator.session import SimulatorSession

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
ALWAYS, NEVER = 1, 1 << 60
# Roots of primes have no whole-number relation: equal times mean equal counts of all events.
PRIMES = [n for n in range(2, 400) if all(n % m for m in range(2, math.isqrt(n) + 1))]
COSTS = Costs(
    "test",
    {event: 1000 * math.sqrt(prime) for event, prime in zip(Event, PRIMES, strict=False)},
    Origin("test", "real", "6.18", "x86_64", 4096, "2026-01-01"),
    Error(1, 0.0, 0.0),
)


def cell(program: Program, mechanism: str) -> Cell:
    spec = Spec.parse(mechanism, what="mechanism")
    canonical = registry().mechanism(spec).canonical(spec)
    return Cell("sparse-touch", canonical, Pattern.parse("byte:0xAA"), program)


def run(program: Program, mechanism: str, kernel: Kernel, fold_from: int) -> Run:
    session = SimulatorSession(kernel, COSTS, fold_from=fold_from)
    return session.run(cell(program, mechanism), 1, 300)


def rows(program: Program, mechanism: str, kernel: Kernel, fold_from: int) -> Rows:
    spec = Spec.parse(mechanism, what="mechanism")
    found = registry().mechanism(spec)
    options = resolve(spec, found.options, what="mechanism")
    traits = models.model_of(found).traits(options, kernel)
    grain = Grain(kernel.page_size, kernel.around, kernel.entries)
    return Rows(program, grain, traits, fold_from)


def check_same(program: Program, mechanism: str, kernel: Kernel = Kernel()) -> Run:  # noqa: B008
    folded, plain = (run(program, mechanism, kernel, fold) for fold in (ALWAYS, NEVER))
    assert folded.failure == plain.failure, program.text()
    for one, other in zip(folded.samples, plain.samples, strict=True):
        assert one.memory == other.memory, program.text()
        assert one.phases == other.phases, program.text()
        assert one.observations == other.observations, program.text()
    return folded


@pytest.mark.parametrize("mechanism", MECHANISMS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, (1 << 32) - 1))
def test_random_regular_programs_count_the_same(mechanism: str, seed: int) -> None:
    dice = Random(seed)
    machine = kernel(dice)
    check_same(Drawing(dice, machine.page_size, mechanism).program(), mechanism, machine)


def test_a_good_part_of_those_programs_folds() -> None:
    folded = 0
    for seed in range(40):
        dice = Random(seed)
        machine = kernel(dice)
        mechanism = MECHANISMS[seed % len(MECHANISMS)]
        program = Drawing(dice, machine.page_size, mechanism).program()
        folded += rows(program, mechanism, machine, ALWAYS).folded
    assert folded >= 8


def sparse(size: int, pages: int, **more: object) -> Program:
    touch = Touch(0, 0, size, "write", pages * 4096, **more)  # type: ignore[arg-type]
    return Program("sparse", (Phase("map"), Map(0, size), Phase("touch"), touch, Measure("touch")))


@pytest.mark.parametrize("order", ["forward", "backward", "random"])
@pytest.mark.parametrize(("limit", "pages"), [(300, 16), (1001, 3), (65530, 2)])
def test_the_wall_inside_a_fold_is_where_it_is_without(order: str, limit: int, pages: int) -> None:
    machine = Kernel(max_map_count=limit)
    program = sparse(512 * MIB, pages, order=order)
    found = check_same(program, "segv", machine)
    assert found.failure is not None
    assert found.failure.limit == limit


def test_what_stands_before_the_wall_stays() -> None:
    steps = sparse(128 * MIB, 5).steps
    check_same(Program("wall", steps, observe_all=True), "segv", Kernel(max_map_count=4000))


def test_protecting_what_is_cut_into_many_vmas_merges_them() -> None:
    size = 64 * MIB
    steps = (*sparse(size, 4).steps, Phase("p"), Protect(0, 0, size, "readwrite"), Measure("p"))
    found = check_same(Program("merge", steps), "segv")
    before, after = (found.samples[0].memory[label].vmas for label in ("touch", "p"))
    assert before > 8000
    assert after < before


def test_a_signal_keeps_the_random_order_of_the_touch() -> None:
    size = 256 * MIB
    steps = (
        *(Map(0, size), Protect(0, size // 2, 4096, "none")),
        Touch(0, 0, size, "write", 16384, order="random", seed=7),
        *(Measure("touch"), Expect(0, 0, size, 0x55, 16384), Measure("expect")),
    )
    check_same(Program("order", steps, observe_all=True), "anon")


@pytest.mark.parametrize("mechanism", ["anon", "memfd:block=65536", "uffd", "refpage"])
def test_eight_tebibytes_are_the_sum_of_their_parts(mechanism: str) -> None:
    small, large = (
        run(sparse(size, 16), mechanism, Kernel(), 1 << 15).samples[0]
        for size in (8 * GIB, 8 * TIB)
    )
    assert large.phases["touch"].minor_faults == 1024 * small.phases["touch"].minor_faults
    assert large.memory["touch"].rss == 1024 * small.memory["touch"].rss


def test_a_fork_and_unmapping_half_of_a_fold() -> None:
    size = 2 * GIB
    again = (Phase("c"), Touch(0, 0, size, "write", 32768), Measure("c"), Unmap(0, size // 4, GIB))
    steps = (*sparse(size, 4).steps, Fork((*again, Measure("d")), (Measure("e"),)), Measure("f"))
    check_same(Program("fork", steps), "memfd-full")
