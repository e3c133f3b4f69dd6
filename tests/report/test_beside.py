"""Published figures beside measured ones: ratios, their intervals, and the verdicts on them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refbench.errors import UsageError
from refbench.plugins import registry
from refbench.published import EXPERIMENTS, PDFIUM, V1, V4, V4_MICROBENCH, Expectation, Experiment
from refbench.report import beside_html, beside_text, html
from refbench.report.beside import Reproduction, Verdict, beside, judge, part_of, ratio
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
from refbench.statistics import Interval

MIB = 1 << 20
SECONDS = {"anon": 1e-4, "memset": 2e-4, "refpage": 1.01e-4, "memfd:block=512": 1.5e-4}
PEAKS = {"anon": 100, "memset": 105, "refpage": 100, "memfd:block=512": 101}
REAL = Environment(target="host", clock="real", kernel="6.18", arch="x86_64", page_size=4096)
COUNTED = replace(REAL, target="qemu", clock="instructions")
EMPTY = MemorySnapshot(rss=0, rss_anon=0, rss_file=0, rss_shmem=0, hwm=0, pte=0, vmas=1)
Make = Callable[..., tuple[Measurement, ...]]


@pytest.fixture
def make() -> Make:
    """``make(where=, runs=, boots=, spread=, workload=)``: one part of the experiment v4, its
    times drawn around known ones."""

    def build(
        where: Environment = REAL,
        *,
        runs: int = 12,
        boots: int = 1,
        spread: float = 0.01,
        workload: str = "v4-microbench:touch=half",
    ) -> tuple[Measurement, ...]:
        random = np.random.default_rng(7)

        def sample(name: str) -> Sample:
            seconds = SECONDS[name] * random.lognormal(0, spread)
            there = replace(EMPTY, hwm=PEAKS[name] * MIB)
            phases = {"loop": PhaseCounters(ns=round(seconds * 1e9), minor_faults=500)}
            return Sample(index=0, phases=phases, memory={"start": EMPTY, "end": there})

        return tuple(
            Measurement(
                cell=cell(workload, name),
                environment=where,
                runs=tuple(
                    Run(samples=(sample(name),), boot=at * boots // runs) for at in range(runs)
                ),
            )
            for name in SECONDS
        )

    return build


def cell(workload: str, mechanism: str) -> CellId:
    return CellId(
        key=f"{workload}|{mechanism}", workload=workload, mechanism=mechanism, pattern="byte:0xAA"
    )


def only(found: tuple[Reproduction, ...]) -> Reproduction:
    (one,) = found
    return one


def test_the_published_figures_are_those_of_the_letters() -> None:
    first = {
        part.title: [(line.variant, line.seconds, line.peak) for line in part.lines]
        for part in V4_MICROBENCH.parts
    }
    assert first == {
        "store in 1 page": [("memset", "3.962", 6656), ("refpage", "0.0267", 3448)],
        "store in half of the pages": [("memset", "3.925", 6696), ("refpage", "1.481", 4580)],
        "store in all pages": [("memset", "3.986", None), ("refpage", "3.385", None)],
    }
    assert V4_MICROBENCH.letters == (V4,)
    assert V4.date == "2021-06-19"
    assert V4_MICROBENCH.runs == 10


def test_the_published_figures_of_pdfium_are_those_of_the_letters() -> None:
    (part,) = PDFIUM.parts
    assert [(line.letter.version, line.mechanism, line.seconds, line.peak) for line in part.lines] \
        == [
        ("v1", "anon", "2.237081", 107088),
        ("v1", "memset", "2.252241", 112180),
        ("v1", "refpage", "2.251220", 103504),
        ("v3", "refpage", "2.243786", 107128),
    ]  # fmt: skip
    assert PDFIUM.runs == 100
    assert V1.message == "20200731203241.50427-1-pcc@google.com"
    # The letter's own words: "an RSS impact of 5% for memset versus anon".
    memset, anon = part.lines[1].figure("hwm"), part.lines[0].figure("hwm")
    assert memset is not None
    assert anon is not None
    about = next(one for one in PDFIUM.expectations if one.over == "memset")
    assert about.low < memset / anon < about.high


def test_the_source_of_pdfiums_figures_says_so(repository: Path) -> None:
    """The table of the letter, as the manual quotes it."""
    page = (repository / "docs" / "reproduce.md").read_text()
    for part in PDFIUM.parts:
        for line in part.lines:
            assert line.seconds in page
            assert f"{line.peak} KiB" in page


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_asks_for_what_there_is(name: str) -> None:
    experiment, known = EXPERIMENTS[name], registry()
    for part in experiment.parts:
        assert part_of(known, experiment, part.workload) is part
        quick = known.cases[part.quick].workload
        assert part_of(known, experiment, str(known.workload(quick).canonical(quick))) is part
        for line in part.lines:
            assert line.mechanism in known.mechanisms
            assert line.figure("time") == float(line.seconds)
        assert experiment.base in {line.mechanism for line in part.lines}


@pytest.mark.parametrize("boots", [1, 3])
def test_the_interval_of_a_ratio_holds_the_true_one_and_narrows_with_runs(
    make: Make, boots: int
) -> None:
    widths = []
    for runs in (12, 96):
        by_name = {m.cell.mechanism: m for m in make(runs=runs, boots=boots, spread=0.05)}
        found = ratio(by_name["memset"], by_name["anon"], "time")
        assert found is not None
        assert found.low < 2.0 < found.high
        assert found.low < found.estimate < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0]


def test_on_a_clock_that_counts_the_ends_are_those_of_any_two_runs(make: Make) -> None:
    by_name = {m.cell.mechanism: m for m in make(COUNTED, runs=3)}
    over, under = by_name["memset"], by_name["anon"]
    found = ratio(over, under, "time")
    quotients = [
        a.samples[0].phases["loop"].ns / b.samples[0].phases["loop"].ns
        for a in over.runs
        for b in under.runs
    ]
    assert found is not None
    assert (found.low, found.high) == pytest.approx((min(quotients), max(quotients)))


def test_nothing_is_divided_by_nothing(make: Make) -> None:
    anon, memset, *_ = make()
    assert ratio(memset, anon, "sigbus") is None
    assert ratio(memset, anon, "lost") is None
    assert ratio(memset, replace(anon, runs=(Run(failure=Failure(kind="a", message="b")),)),
                 "time") is None  # fmt: skip


WANTED = Expectation("memset is 5 % above anon", "hwm", "memset", "anon", 1.04, 1.06)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.045, 1.055, Verdict.MET),
        (1.04, 1.06, Verdict.MET),
        (1.03, 1.05, Verdict.UNDECIDED),
        (1.05, 1.07, Verdict.UNDECIDED),
        (1.00, 1.10, Verdict.UNDECIDED),
        (1.00, 1.039, Verdict.NOT_MET),
        (1.061, 1.20, Verdict.NOT_MET),
    ],
)
def test_an_expectation_is_judged_by_the_whole_interval(
    low: float, high: float, verdict: Verdict
) -> None:
    found = Interval((low + high) / 2, low, high)
    assert judge(WANTED, found, runs=6, counts=False).verdict is verdict


def test_too_few_runs_decide_nothing_unless_the_clock_counts() -> None:
    found = Interval(1.05, 1.05, 1.05)
    few = judge(WANTED, found, runs=5, counts=False)
    assert few.verdict is Verdict.UNDECIDED
    assert "at least 6" in few.note
    assert judge(WANTED, found, runs=1, counts=True).verdict is Verdict.MET
    assert judge(WANTED, None, runs=0, counts=True).verdict is Verdict.NOT_MEASURED


def expecting(*asked: Expectation) -> Experiment:
    return replace(V4_MICROBENCH, expectations=asked)


def test_the_text_says_the_expectation_with_its_numbers(make: Make) -> None:
    near = Expectation("refpage is as anon", "hwm", "refpage", "anon", 0.999, 1.001)
    absent = Expectation("ksm is as anon", "hwm", "ksm", "anon", 0.9, 1.1)
    experiment = expecting(WANTED, near, absent)
    found = beside(registry(), experiment, make())
    text = " ".join(beside_text.text(experiment, found).split())
    assert "memset is 5 % above anon (1.0400 to 1.0600): 1.0500, 95 % same: met." in text
    assert "refpage is as anon (0.9990 to 1.0010): 1.0000, 95 % same: met." in text
    assert "ksm is as anon (0.9000 to 1.1000): not measured." in text


def test_it_is_reproduced_with_the_published_parameters_only(make: Make) -> None:
    known = registry()
    assert only(beside(known, V4_MICROBENCH, make())).kind == "reproduced"
    tenth = make(workload="v4-microbench:count=100,touch=half")
    found = only(beside(known, V4_MICROBENCH, tenth))
    assert found.kind == "re-enacted"
    assert found.differences == ("count is 100, published was 1000",)


def test_a_journal_of_something_else_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="nothing of the experiment 'v4'"):
        beside(registry(), V4_MICROBENCH, make(workload="dense-touch"))


def test_environments_and_parts_stand_apart_and_baselines_first(make: Make) -> None:
    both = (*make(COUNTED, runs=3), *make(), *make(workload="v4-microbench"))
    counted, real = beside(registry(), V4_MICROBENCH, both)
    assert counted.environment == COUNTED
    assert [table.title for table in real.tables] == [
        "store in 1 page",
        "store in half of the pages",
    ]
    names = [row.mechanism for row in real.tables[0].rows]
    assert names == ["anon", "memset", "memfd:block=512", "refpage"]


def test_the_published_ratios_stand_beside_ours(make: Make) -> None:
    text = beside_text.text(V4_MICROBENCH, beside(registry(), V4_MICROBENCH, make()))
    (line,) = re.findall(r"^ +refpage +1\.481 s.*$", text, re.MULTILINE)
    _, seconds, unit, published, *_, measured, span = line.split()
    assert (seconds, unit, published) == ("1.481", "s", "0.3773")
    low, high = map(float, span.split("-"))
    assert low < float(measured) < high
    assert float(measured) == pytest.approx(0.505, abs=0.02)


def failed(name: str, message: str) -> Measurement:
    failure = Failure(kind="limit-hit", message=message, remedy="Take less.")
    return Measurement(
        cell=cell("v4-microbench:touch=half", name),
        environment=REAL,
        runs=(Run(failure=failure),),
    )


def test_what_has_no_result_is_named_with_the_reason_once(make: Make) -> None:
    both = (failed("memfd", "Too many."), failed("ksm", "Too many."))
    text = beside_text.text(V4_MICROBENCH, beside(registry(), V4_MICROBENCH, (*make(), *both)))
    assert "- ksm, memfd: limit hit: Too many. Take less." in text


def test_the_text_is_fit_for_a_mailing_list(make: Make) -> None:
    long = replace(make()[0], cell=cell("v4-microbench:touch=half", "uffd-sigbus:atfork=yes"))
    text = beside_text.text(
        expecting(WANTED), beside(registry(), expecting(WANTED), (*make(), *make(COUNTED), long))
    )
    assert max(map(len, text.splitlines())) <= beside_text.WIDTH
    assert "\t" not in text
    assert text.isascii()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_the_page_has_the_same_numbers_before_the_tables(make: Make) -> None:
    experiment = replace(expecting(WANTED), title="<b>bold</b> & co")
    found = beside(registry(), experiment, make())
    page = html.text(make(), beside_html.section(experiment, found))
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in page
    assert "<b>bold" not in page
    first, rest = page.split('aria-labelledby="s1"', 1)
    assert "1.481 s" in first
    assert "1.481 s" not in rest
    for judged in found[0].judged:
        assert beside_text.verdict(judged, "95 %") in first
    over = found[0].tables[0].rows[1].ratios["time"]["anon"]
    assert "".join(beside_text.interval(over)[1]) in first
