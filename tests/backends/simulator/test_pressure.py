"""The workload ``pressure``, on the host and in the model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from refbench.errors import UsageError
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.program import Advise, Repeat
from refbench.runner import open_target
from refbench.samples import PhaseCounters, Run
from refbench.words import Cell, Pattern

PAGE = 4096
MIB = 1 << 20
PAGES = 4 * MIB // PAGE
ROUNDS = 4


def run(target: str, workload: str, mechanism: str) -> Run:
    spec = Spec.parse(workload, what="workload")
    program = registry().workload(spec).program(spec, PAGE)
    _, session = open_target(registry(), target)
    with session:
        cell = Cell(workload, Spec.parse(mechanism), Pattern.parse("byte:0xAA"), program)
        found = session.run(cell, 1, 60)
    assert found.failure is None, found.failure
    return found


def again(found: Run) -> PhaseCounters:
    return found.samples[-1].phases["again"]


def test_reclaim_is_a_step_or_the_limits() -> None:
    def advised(text: str) -> int:
        spec = Spec.parse(text, what="workload")
        steps = registry().workload(spec).program(spec, PAGE).steps
        (repeat,) = (step for step in steps if isinstance(step, Repeat))
        return sum(isinstance(step, Advise) for step in repeat.body)

    assert advised("pressure") == 1
    assert advised("pressure:reclaim=none") == 0


def test_a_stride_beyond_the_mapping_is_refused() -> None:
    spec = Spec.parse("pressure:size=4KiB,stride=2", what="workload")
    with pytest.raises(UsageError, match="larger than the mapping"):
        registry().workload(spec).program(spec, PAGE)


@pytest.mark.skipif(sys.platform != "linux", reason="measures on Linux")
@pytest.mark.parametrize("mechanism", ["anon", "memset", "memfd-full", "memfd:block=16", "segv"])
@pytest.mark.parametrize("options", ["stride=1", "stride=16,access=write"])
def test_host_and_model_count_the_same(mechanism: str, options: str) -> None:
    if "\n" in Path("/proc/swaps").read_text().strip():
        pytest.skip("this machine swaps: minor and major faults depend on its swap cache")
    workload = f"pressure:size=4MiB,{options}"
    host, model = (run(each, workload, mechanism) for each in ("host", "simulator:like=host"))
    for phase in ("touch", "reclaim", "again"):
        pair = [each.samples[-1].phases[phase].minor_faults for each in (host, model)]
        assert pair[0] == pair[1], phase
    for label in ("touch", "reclaim", "again"):
        pair = [
            each.samples[-1].memory[label].rss - each.samples[-1].memory["start"].rss
            for each in (host, model)
        ]
        assert pair[0] == pytest.approx(pair[1], abs=16 * PAGE), label


def test_with_swap_all_of_it_comes_back_every_round() -> None:
    found = run("simulator:swap=64MiB", "pressure:size=4MiB", "anon")
    assert again(found).major_faults == ROUNDS * PAGES
    assert found.samples[-1].memory["reclaim"].swap == 4 * MIB
    assert again(run("simulator", "pressure:size=4MiB", "anon")).faults == 0


@pytest.mark.parametrize(("size", "faults"), [(2, 0), (16, 16 * ROUNDS * MIB // PAGE)])
def test_a_limit_reclaims_what_does_not_fit(size: int, faults: int) -> None:
    workload = f"pressure:size={size}MiB,reclaim=none"
    found = run("simulator:memory=8MiB,swap=64MiB", workload, "memset")
    assert again(found).major_faults == faults
    assert max(m.cgroup_current or 0 for m in found.samples[-1].memory.values()) <= 8 * MIB
