"""Clocks that count: instructions are no seconds, and equal runs need no interval."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from refbench.compare import Comparison, Verdict, compare
from refbench.report import as_json, comparison, html, markdown, pyperf_export, table
from refbench.report.summary import summarise
from refbench.samples import Environment, Measurement, Run

Make = Callable[..., tuple[Measurement, ...]]
QEMU = Environment(
    target="qemu", clock="instructions", kernel="6.12", arch="x86_64", page_size=4096
)


def counted(make: Make, *, runs: int = 3, times: tuple[float, ...] = (1.0,)) -> list[Measurement]:
    """The first run of each cell, again and again, its time multiplied by each of ``times``."""
    return [
        replace(one, runs=tuple(slower(one, times[at % len(times)]) for at in range(runs)))
        for one in make(where=QEMU)
        if one.failure is None
    ]


def slower(one: Measurement, times: float) -> Run:
    run = one.good[0]
    samples = tuple(
        replace(
            sample,
            phases={
                name: replace(phase, ns=round(phase.ns * times))
                for name, phase in sample.phases.items()
            },
        )
        for sample in run.samples
    )
    return replace(run, samples=samples)


def rendered(measurements: list[Measurement]) -> str:
    out = io.StringIO()
    table.render(Console(file=out, width=160, color_system=None), measurements)
    return " ".join(out.getvalue().split())


@pytest.mark.parametrize("show", [rendered, markdown.text, html.text])
def test_no_report_calls_an_instruction_a_second(
    make: Make, show: Callable[[list[Measurement]], str]
) -> None:
    text = " ".join(show(counted(make)).split())
    for unit in ("ms", "µs", "ns"):
        assert f" {unit} " not in text
    assert "time (instr.)" in text
    assert "caches, memory bandwidth" in text
    assert "bootstrap" not in text


def test_what_programs_read_names_the_unit(make: Make) -> None:
    (section, *_) = json.loads(as_json.text(counted(make)))["sections"]
    figures = section["blocks"][0]["rows"][0]["figures"]
    assert figures["time"]["unit"] == figures["time.touch"]["unit"] == "instructions"
    assert figures["time"]["value"] > 1e5
    assert figures["lost"]["unit"] == "bytes"


def test_pyperf_gets_whole_numbers_and_no_time(make: Make) -> None:
    suite = pyperf_export.suite(counted(make))
    benchmark = suite.get_benchmark("sparse-write memset byte:0xAA instructions")
    assert benchmark.get_unit() == "integer"
    assert all(isinstance(value, int) and value > 1e6 for value in benchmark.get_values())


@pytest.mark.parametrize(
    ("runs", "times", "says"),
    [
        (1, (1.0,), "another run would say the same"),
        (3, (1.0,), "every run took the same time"),
        (3, (1.0, 1.001), "no two runs' times differ by more than 0.1"),
    ],
)
def test_the_spread_of_the_runs_stands_where_an_interval_would(
    make: Make, runs: int, times: tuple[float, ...], says: str
) -> None:
    (section,) = summarise(counted(make, runs=runs, times=times))
    assert says in section.notes[0]
    figure = section.blocks[0].rows[0].figures["time"]
    assert figure.high / figure.low == pytest.approx(max(times), rel=1e-4)


def verdicts(found: Comparison) -> set[Verdict]:
    times = [effect for cell in found.cells for effect in cell.effects if effect.metric == "time"]
    assert times
    assert {effect.unit for effect in times} == {"instructions"}
    return {effect.verdict for effect in times}


def test_one_run_a_side_is_enough_to_compare(make: Make) -> None:
    before = counted(make, runs=1)
    assert verdicts(compare(before, counted(make, runs=1))) == {Verdict.SAME}
    assert verdicts(compare(before, counted(make, runs=1, times=(1.01,)))) == {Verdict.SAME}
    assert verdicts(compare(before, counted(make, runs=1, times=(1.03,)))) == {Verdict.MORE}
    assert verdicts(compare(before, counted(make, runs=1, times=(0.97,)))) == {Verdict.LESS}


def test_runs_that_disagree_by_as_much_as_the_sides_decide_nothing(make: Make) -> None:
    one, other = counted(make, times=(1.0, 1.05)), counted(make, times=(1.03, 1.06))
    assert verdicts(compare(one, other)) == {Verdict.SAME}


def test_a_comparison_of_counts_speaks_of_no_confidence(make: Make) -> None:
    found = compare(counted(make), counted(make, times=(1.5,)))
    text = comparison.markdown(found)
    assert "confidence" not in text
    assert "more than 2%, between the nearest runs" in " ".join(text.split())
    assert " ms" not in text
    assert "1.500" in text
