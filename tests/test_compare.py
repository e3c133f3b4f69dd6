"""Comparisons: what is flagged, what is refused, and how often the rule is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from refbench.compare import Rule, Verdict, compare, mismatch
from refbench.samples import (
    CellId,
    Environment,
    Failure,
    Measurement,
    MemorySnapshot,
    PhaseCounters,
    Run,
    Sample,
)

MIB = 1 << 20
HERE = Environment(
    target="host",
    clock="real",
    kernel="6.18",
    arch="x86_64",
    page_size=4096,
    facts={"cpu": "a", "agent": "1234", "refbench": "1"},
)
START = MemorySnapshot(
    rss=MIB, rss_anon=MIB, rss_file=0, rss_shmem=0, hwm=MIB, pte=4096, vmas=9, cgroup_current=MIB
)


def cell(mechanism: str = "memset") -> CellId:
    return CellId(key=f"w|{mechanism}", workload="w", mechanism=mechanism, pattern="byte:0xAA")


def measured(
    *,
    slow: float = 1.0,
    runs: int = 20,
    faults: tuple[int, ...] = (100,),
    lost: int = 4 * MIB,
    seed: int = 0,
    mechanism: str = "memset",
    where: Environment = HERE,
) -> Measurement:
    random = np.random.default_rng(seed)
    made = []
    for at in range(runs):
        luck = random.lognormal(0, 0.02)
        there = replace(
            START,
            rss=START.rss + lost,
            cgroup_current=MIB + lost + int(random.integers(-20, 20)) * 4096,
        )
        samples = tuple(
            Sample(
                index=index,
                phases={
                    "map": PhaseCounters(ns=round(1e6 * luck * random.lognormal(0, 0.01) * slow)),
                    "touch": PhaseCounters(
                        ns=round(9e6 * luck * slow), minor_faults=faults[at % len(faults)]
                    ),
                },
                memory={"start": START, "touch": there},
            )
            for index in range(4)
        )
        made.append(Run(samples=samples))
    return Measurement(cell=cell(mechanism), environment=where, runs=tuple(made))


def verdicts(a: Measurement, b: Measurement) -> Mapping[str, Verdict]:
    (compared,) = compare([a], [b]).cells
    return {effect.metric: effect.verdict for effect in compared.effects}


def test_nothing_changed_is_not_flagged() -> None:
    found = compare([measured(seed=1)], [measured(seed=2)])
    assert not found.flagged
    assert {e.metric for e in found.cells[0].effects} >= {"time", "time.map", "lost", "faults"}


def test_a_slowdown_is_flagged_with_its_size() -> None:
    found = compare([measured(seed=1)], [measured(seed=2, slow=1.1)])
    (time,) = [e for e in found.flagged[0].effects if e.metric == "time"]
    assert time.verdict is Verdict.MORE
    assert time.ratio is not None
    assert time.ratio.low < 1.1 < time.ratio.high
    assert time.ratio.high - time.ratio.low < 0.1


def test_a_speed_up_is_flagged_the_other_way() -> None:
    assert verdicts(measured(seed=1), measured(seed=2, slow=0.8))["time"] is Verdict.LESS


def test_a_counter_that_differs_by_one_is_flagged() -> None:
    found = verdicts(measured(), measured(faults=(101,)))
    assert found["faults"] is Verdict.MORE
    assert found["time"] is Verdict.SAME


def test_counters_whose_ranges_overlap_are_reported_not_flagged() -> None:
    found = compare([measured(faults=(100, 101))], [measured(faults=(101,))])
    (faults,) = [e for e in found.cells[0].effects if e.metric == "faults"]
    assert faults.verdict is Verdict.SAME
    assert faults.note == "not the same in all samples of A"
    assert faults.a_range is not None
    assert (faults.a_range.low, faults.a_range.high) == (100, 101)


def test_memory_below_the_counters_resolution_is_no_change() -> None:
    small, large = measured(lost=0, seed=1), measured(lost=100 * 1024, seed=2)
    assert verdicts(small, large)["lost"] is Verdict.SAME
    assert verdicts(small, measured(lost=MIB, seed=2))["lost"] is Verdict.MORE


def test_too_few_runs_leave_it_undecided_and_say_how_many_are_needed() -> None:
    (found,) = compare([measured(runs=3)], [measured(runs=30, slow=2)]).cells
    (time,) = [e for e in found.effects if e.metric == "time"]
    assert time.verdict is Verdict.UNDECIDED
    assert time.note.startswith("3 runs, at least ")
    assert not found.flagged


def test_a_threshold_hides_what_does_not_matter() -> None:
    a, b = measured(seed=1), measured(seed=2, slow=1.1)
    assert not compare([a], [b], Rule(threshold=0.2)).flagged


def test_two_clocks_are_refused() -> None:
    model = replace(HERE, clock="modelled")
    (found,) = compare([measured()], [measured(where=model, slow=3)]).cells
    assert "clocks differ" in found.refused
    assert not found.effects
    assert not found.flagged


@pytest.mark.parametrize("clock", ["instructions", "modelled"])
def test_other_hashes_are_refused_where_the_clock_counts(clock: str) -> None:
    a = replace(HERE, clock=clock)
    b = replace(a, facts={**HERE.facts, "agent": "5678"})
    assert "agent differs: 1234 against 5678" in mismatch(a, b)[0]
    assert mismatch(a, replace(a, facts={**HERE.facts, "refbench": "2"})) == ("", ())


def test_another_kernel_or_cpu_is_a_warning_on_the_real_clock() -> None:
    b = replace(HERE, kernel="6.19", facts={**HERE.facts, "cpu": "b"})
    found = compare([measured()], [measured(where=b)])
    assert not found.cells[0].refused
    assert found.warnings == ("cpu differs: a against b", "kernel differs: 6.18 against 6.19")


def test_cells_are_matched_by_target_and_across_targets_where_there_is_one_only() -> None:
    qemu = replace(HERE, target="qemu:kernel=patched")
    both = [measured(), measured(where=qemu, slow=2)]
    found = compare(both, list(reversed(both)))
    assert [(c.target_a, c.target_b) for c in found.cells] == [
        ("host", "host"),
        ("qemu:kernel=patched", "qemu:kernel=patched"),
    ]
    assert len(compare([both[0]], [both[1]]).flagged) == 1
    assert not compare([both[0]], [both[1], replace(both[1], environment=HERE)]).flagged[1:]


def test_cells_without_a_partner_are_listed() -> None:
    found = compare([measured(), measured(mechanism="uffd")], [measured(mechanism="segv")])
    assert not found.cells
    assert [c.mechanism for c in found.only_a] == ["memset", "uffd"]
    assert [c.mechanism for c in found.only_b] == ["segv"]


def test_a_cell_that_fails_on_one_side_is_flagged() -> None:
    failed = replace(
        measured(), runs=(Run(failure=Failure(kind="limit-hit", message="Too many mappings.")),)
    )
    (found,) = compare([measured()], [failed]).flagged
    assert found.failed == "B failed: limit-hit: Too many mappings."
    assert not compare([failed], [failed]).flagged


def test_the_answer_does_not_depend_on_the_other_cells() -> None:
    pairs = [
        (measured(mechanism=m, seed=at), measured(mechanism=m, seed=9 + at, slow=1.05))
        for at, m in enumerate(("memset", "uffd", "segv"))
    ]
    together = compare([a for a, _ in pairs], [b for _, b in pairs])
    alone = [compare([a], [b]).cells[0] for a, b in pairs]
    assert list(together.cells) == alone
