"""Statistics: medians over runs, and intervals that cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from refbench import metrics, statistics
from refbench.samples import CellId, Environment, Failure, Measurement, PhaseCounters, Run, Sample
from refbench.statistics import Floats, Values

CELL = CellId(key="k", workload="w", mechanism="anon", pattern="byte:0xAA")
HERE = Environment(target="host", clock="real", kernel="6", arch="x86_64", page_size=4096)


def values(*runs: list[float]) -> Values:
    return Values((tuple(np.array(run) for run in runs),))


def run(*seconds: float, boot: int = 0) -> Run:
    return Run(
        boot=boot,
        samples=tuple(
            Sample(
                index=at,
                phases={"touch": PhaseCounters(ns=round(s * 1e9), minor_faults=7)},
                memory={},
            )
            for at, s in enumerate(seconds)
        ),
    )


def direct(data: Values, random: np.random.Generator, replicates: int, quantile: float) -> Floats:
    """The bootstrap as its definition has it, draw by draw."""
    runs = data.runs
    drawn = np.empty(replicates)
    for at in range(replicates):
        picked = [runs[i] for i in random.integers(len(runs), size=len(runs))]
        medians = [np.median(random.choice(one, len(one))) for one in picked]
        drawn[at] = np.quantile(medians, quantile)
    return drawn


def test_values_leave_out_the_warm_up_and_failed_runs() -> None:
    failed = Run(failure=Failure(kind="crashed", message="signal 11"))
    measurement = Measurement(
        cell=CELL, environment=HERE, runs=(run(9, 1, 2), failed, run(9, 3), run(5, boot=1))
    )
    found = statistics.values(measurement, metrics.find("time"))
    assert found is not None
    assert [one.tolist() for one in found.runs] == [[1, 2], [3], [5]]
    assert [len(boot) for boot in found.boots] == [2, 1]


def test_a_metric_that_any_sample_lacks_has_no_values() -> None:
    measurement = Measurement(cell=CELL, environment=HERE, runs=(run(9, 1),))
    assert statistics.values(measurement, metrics.find("rss")) is None
    nothing = Measurement(cell=CELL, environment=HERE, runs=())
    assert statistics.values(nothing, metrics.find("time")) is None


def test_the_median_is_that_of_the_runs_not_of_the_samples() -> None:
    assert values([1, 1, 1, 1, 1], [2], [3]).median == 2


def test_the_spread_ignores_a_single_wild_run() -> None:
    assert values([10], [11], [12], [13], [1000]).spread == pytest.approx(1.4826)


def test_equal_counters_agree_and_others_show_their_range() -> None:
    assert statistics.agreement(values([7, 7], [7])).equal
    seen = statistics.agreement(values([7, 7], [9]))
    assert (seen.equal, seen.low, seen.high) == (False, 7, 9)


@pytest.mark.parametrize(
    ("count", "samples", "quantile"),
    [(4, 3, 0.5), (5, 1, 0.25), (5, 4, 0.5), (10, 2, 0.25), (15, 5, 0.5)],
)
def test_the_quick_bootstrap_has_the_distribution_of_the_direct_one(
    count: int, samples: int, quantile: float
) -> None:
    source = np.random.default_rng(count)
    data = values(*(source.lognormal(0, 0.3, samples).tolist() for _ in range(count)))
    quick = statistics.bootstrap(data, np.random.default_rng(1), 20_000, quantile)
    slow = direct(data, np.random.default_rng(2), 4_000, quantile)
    places = np.unique(np.concatenate([quick, slow])) + 1e-12
    below = [np.searchsorted(np.sort(drawn), places) / len(drawn) for drawn in (quick, slow)]
    assert np.abs(below[0] - below[1]).max() < 0.03


def test_boots_that_differ_widen_the_interval() -> None:
    source = np.random.default_rng(3)
    runs = [source.normal(100 + 10 * boot, 1, 3) for boot in range(4) for _ in range(5)]
    one_boot = Values((tuple(runs),))
    four = Values(tuple(tuple(runs[at : at + 5]) for at in range(0, 20, 5)))
    narrow = statistics.median_interval(one_boot, np.random.default_rng(0))
    wide = statistics.median_interval(four, np.random.default_rng(0))
    assert wide.high - wide.low > narrow.high - narrow.low


def test_boots_of_different_sizes_can_be_drawn() -> None:
    data = Values(((np.array([1.0]),), tuple(np.array([2.0, 2.0]) for _ in range(6))))
    drawn = statistics.bootstrap(data, np.random.default_rng(0), 500)
    assert set(drawn.tolist()) == {1.0, 2.0}
    lower = statistics.bootstrap(data, np.random.default_rng(0), 500, 0.25)
    assert lower.mean() <= drawn.mean()


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_cover_the_true_median_as_often_as_they_say(confidence: float) -> None:
    source = np.random.default_rng(11)
    hits = 0
    for _ in range(400):
        centres = source.lognormal(0, 0.1, 15)
        data = values(*((centre * source.lognormal(0, 0.02, 3)).tolist() for centre in centres))
        found = statistics.median_interval(data, source, confidence)
        hits += found.low <= 1.0 <= found.high
    assert hits / 400 > confidence - 0.05


def test_the_same_question_gets_the_same_answer() -> None:
    data = values([1, 2], [3, 4], [5, 6])
    first = statistics.median_interval(data, statistics.generator("cell", "time"))
    again = statistics.median_interval(data, statistics.generator("cell", "time"))
    other = statistics.generator("cell", "lost").random()
    assert first == again
    assert other != statistics.generator("cell", "time").random()


def test_the_least_number_of_runs_follows_from_the_confidence() -> None:
    assert statistics.runs_needed(0.5) == 2
    assert statistics.runs_needed(0.95) == 6
    assert statistics.runs_needed(0.99) == 8
