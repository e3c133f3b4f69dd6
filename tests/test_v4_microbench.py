"""The published program: what it maps and stores, and what comes out of it."""

from __future__ import annotations

import pytest

from refbench.grammar import Spec
from refbench.metrics import find
from refbench.plan import select_workloads
from refbench.plugins import registry
from refbench.program import Map, Measure, Phase, Repeat, Touch
from refbench.runner import open_target
from refbench.samples import Run
from refbench.words import Cell, Pattern

KIB = 1024


def loop(page_size: int, **parameters: str) -> tuple[Map, Touch]:
    """What is mapped and stored in one repetition."""
    spec = Spec("v4-microbench", tuple(parameters.items()))
    program = registry().workload(spec).program(spec, page_size)
    (repeat,) = [step for step in program.steps if isinstance(step, Repeat)]
    assert not [step for step in repeat.body if isinstance(step, (Phase, Measure))]
    mapped, touched, _ = repeat.body
    assert isinstance(mapped, Map)
    assert isinstance(touched, Touch)
    return mapped, touched


def stores(touch: Touch) -> int:
    return -(-touch.length // touch.stride)


@pytest.mark.parametrize(
    ("page", "size", "one", "half", "all_"),
    [
        (4 * KIB, 4_096_000, 1, 500, 1000),
        (16 * KIB, 4_096_000, 1, 125, 250),
        (64 * KIB, 63 * 64 * KIB, 1, 32, 63),
    ],
)
def test_it_stores_once_in_each_page_of_its_share(
    page: int, size: int, one: int, half: int, all_: int
) -> None:
    for touch, pages in (("one", one), ("half", half), ("all", all_)):
        mapped, touched = loop(page, touch=touch)
        assert mapped.size == size
        assert stores(touched) == pages


def test_the_workload_is_the_published_program_and_the_cases_are_a_tenth_of_it() -> None:
    known = registry()
    ((published, _),) = select_workloads(known, ("v4-microbench",))
    program = known.workload(published).program(published, 4096)
    assert [step.count for step in program.steps if isinstance(step, Repeat)] == [1000]
    cases = dict(zip(("v4-all", "v4-half", "v4-one"), ("all", "half", "one"), strict=True))
    for spec, case in select_workloads(known, ("v4-*",)):
        parameters = dict(spec.options)
        assert (parameters.get("touch", "one"), parameters["count"]) == (cases.pop(case), "100")
    assert not cases


def test_nobody_who_asks_for_nothing_waits_for_it() -> None:
    chosen = {case for _, case in select_workloads(registry(), ())}
    assert "dense-write" in chosen
    assert not [case for case in chosen if case.startswith("v4")]


@pytest.mark.parametrize("target", ["host", "simulator"])
@pytest.mark.parametrize(("case", "pages"), [("v4-one", 1), ("v4-half", 500), ("v4-all", 1000)])
def test_the_peak_of_rss_is_what_was_stored_or_all_of_it(
    target: str, case: str, pages: int
) -> None:
    known = registry()
    ((spec, _),) = select_workloads(known, (case,))
    _, session = open_target(known, target)
    with session:
        page = session.capabilities().page_size
        if page != 4 * KIB:
            pytest.skip("the figures are for pages of 4 KiB")
        program = known.workload(spec).program(spec, page)
        for mechanism, resident in (("anon", pages), ("memset", 1000)):
            cell = Cell(str(spec), Spec(mechanism), Pattern(), program, case)
            run = session.run(cell, 1, 120.0)
            assert run.failure is None
            (sample,) = run.kept
            assert sample.phases["loop"].faults == 100 * resident
            assert peak(run) == pytest.approx(resident * page, abs=64 * page)


def peak(run: Run) -> float:
    """``hwm`` as the reports have it."""
    (sample,) = run.kept
    value = find("hwm").value(sample)
    assert value is not None
    return value
