"""segv: opening many pages at once is the same as opening them one by one."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.backends.simulator.regular import Drawing, kernel
from tests.backends.simulator.test_folding import NEVER, run, sparse

from refbench.program import Map, Measure, Phase, Program, Touch
from refbench_simulator.cutting import Traits
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanisms.segv import Segv


def check_same(program: Program, machine: Kernel) -> None:
    at_once = run(program, "segv", machine, NEVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segv, "one_by_one", True)
        one_by_one = run(program, "segv", machine, NEVER)
    assert at_once.failure == one_by_one.failure, program.text()
    assert at_once.samples == one_by_one.samples, program.text()


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, (1 << 32) - 1))
def test_random_programs_count_the_same(seed: int) -> None:
    dice = Random(seed)
    machine = Kernel(max_map_count=kernel(dice).max_map_count)
    check_same(Drawing(dice, 4096, "segv").program(), machine)


@pytest.mark.parametrize("order", ["forward", "backward", "random"])
@pytest.mark.parametrize("limit", range(295, 305))
def test_the_wall_is_at_the_same_page(order: str, limit: int) -> None:
    steps = sparse(16 << 20, 16, order=order).steps
    for observe in (False, True):
        check_same(Program("wall", steps, observe), Kernel(max_map_count=limit))


@pytest.mark.parametrize(
    ("pages", "count", "limit"), [(4096, 900, 300), (4096, 4096, 300), (300, 300, 280)]
)
@pytest.mark.parametrize("observe", [False, True])
def test_touches_behind_the_wall_are_not_looked_at(
    pages: int, count: int, limit: int, observe: bool
) -> None:
    """Or all of them are, where the wall does not come: neighbours merge."""
    touch = Touch(0, 0, pages << 12, "write", 4096, order="random", seed=5, count=count)
    steps = (Map(0, pages << 12), Phase("touch"), touch, Measure("touch"))
    program, machine = Program("short", steps, observe), Kernel(max_map_count=limit)
    short = run(program, "segv", machine, NEVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segv, "traits", lambda *_: Traits(apart=True, ordered=True))
        whole = run(program, "segv", machine, NEVER)
    assert short.failure == whole.failure
    assert short.samples == whole.samples
