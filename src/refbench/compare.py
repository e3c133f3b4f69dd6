"""Two sets of measurements, cell by cell: effect sizes with intervals, and what has changed.

A difference is called a change by a rule that is fixed beforehand. Times and memory changed
when the interval of the difference lies wholly beyond a threshold; the confidence is that of the
whole cell, shared evenly between its metrics (Bonferroni). Deterministic counters changed when
the values of the two sides do not overlap. On a clock that counts nothing is drawn at random, so
times and memory are compared as counters are, and the threshold is kept: they changed when the
ranges over the runs lie further apart than it. docs/statistics.md says how often the rule is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from refbench import metrics, readings, statistics
from refbench.metrics import Metric
from refbench.report import units
from refbench.samples import CLOCK_NOTE, CellId, Environment, Measurement
from refbench.statistics import Agreement, Interval, Values
from refbench.words import Clock

LOWER = 0.25
"""The quantile over runs at which times are compared. Interference only ever adds time, and on a
shared machine it does so in bursts that hit some of the runs; the lower quartile stands below
them where the median wanders between the quiet and the hit (Chen and Revels, Robust benchmarking
in noisy environments, 2016, argue for the minimum, whose bootstrap does not converge). A change
that slows a minority of runs only, say one run in three, is not seen by it."""
CLOCK_FLOOR = 1e-6
"""Seconds. Entering and leaving a phase reads clocks and counters by system calls; on the real
clock a smaller difference is that of two such calls."""
LEVELS = ("time", "cpu", "lost", "rss")
"""Metrics with noise that are compared, beside the time of every phase. On a machine that is
shared with others, ``cpu`` finds what the noise of ``time`` hides."""
COUNTERS = ("faults", "traps", "syscalls", "vmas", "pte", "held")
"""Deterministic counters that are compared."""
PASSING = frozenset({"refbench", "commit", "hostname", CLOCK_NOTE})
"""Facts of an environment that no number depends on."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a difference is a change.

    ``confidence`` is that of a cell: with nothing changed, at most ``1 - confidence`` of the
    cells may be flagged. ``threshold`` is the least relative change that matters.
    """

    confidence: float = 0.99
    threshold: float = 0.02
    replicates: int = statistics.REPLICATES
    seed: int = 0


class Verdict(str, Enum):
    """What a comparison says of one metric. More is worse in all metrics."""

    MORE = "more"
    LESS = "less"
    SAME = "same"
    UNDECIDED = "undecided"
    """Too few runs for the confidence that the rule asks for."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One metric of one cell on both sides.

    ``a`` and ``b`` are in ``unit`` (seconds, instructions, bytes or a count): for times that were
    measured the quantile :data:`LOWER` over the runs, else their median; for counters, and for all
    on a clock that counts, with the range in ``a_range`` and ``b_range``. ``ratio`` is b over a,
    ``None`` where a may be zero.
    """

    metric: str
    unit: str
    verdict: Verdict
    a: float
    b: float
    ratio: Interval | None = None
    difference: Interval | None = None
    a_range: Agreement | None = None
    b_range: Agreement | None = None
    note: str = ""

    @property
    def flagged(self) -> bool:
        """Whether it changed."""
        return self.verdict in {Verdict.MORE, Verdict.LESS}


@dataclass(frozen=True, slots=True)
class CellComparison:
    """One cell on both sides."""

    cell: CellId
    target_a: str
    target_b: str
    clock: str
    effects: tuple[Effect, ...] = ()
    refused: str = ""
    """Why the two sides cannot be compared."""
    failed: str = ""
    """What failed on one side or on both."""
    broke: bool = False
    """One side has a result, and the other has failed."""
    warnings: tuple[str, ...] = ()

    @property
    def flagged(self) -> bool:
        """Whether anything about the cell changed."""
        return self.broke or any(effect.flagged for effect in self.effects)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All cells of two sets of measurements."""

    rule: Rule
    cells: tuple[CellComparison, ...]
    only_a: tuple[CellId, ...] = ()
    only_b: tuple[CellId, ...] = ()

    @property
    def flagged(self) -> tuple[CellComparison, ...]:
        """The cells that changed."""
        return tuple(cell for cell in self.cells if cell.flagged)

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of all cells, each once."""
        return tuple(dict.fromkeys(text for cell in self.cells for text in cell.warnings))


def compare(
    a: Sequence[Measurement], b: Sequence[Measurement], rule: Rule | None = None
) -> Comparison:
    """Compare ``b`` with ``a``, cell by cell.

    Cells are matched by key and target; a cell that each side measured on one target only is
    matched whatever the targets are.
    """
    rule = rule or Rule()
    pairs = _pairs(a, b)
    paired = {id(side) for pair in pairs for side in pair}
    return Comparison(
        rule,
        tuple(_cell(left, right, rule) for left, right in pairs),
        tuple(left.cell for left in a if id(left) not in paired),
        tuple(right.cell for right in b if id(right) not in paired),
    )


def mismatch(a: Environment, b: Environment) -> tuple[str, tuple[str, ...]]:
    """Why measurements of two environments cannot be compared, or must be read with care.

    The first is a reason to refuse, or empty: different clocks, and on a clock that counts
    instead of measuring anything that differs at all. The second are warnings.
    """
    if a.clock != b.clock:
        return f"the clocks differ: {a.clock} against {b.clock}", ()
    facts_a, facts_b = _facts(a), _facts(b)
    names = sorted(facts_a.keys() | facts_b.keys())
    differences = tuple(
        f"{name} differs: {facts_a.get(name, 'unknown')} against {facts_b.get(name, 'unknown')}"
        for name in names
        if facts_a.get(name) != facts_b.get(name)
    )
    if differences and a.clock != "real":
        return f"on the {a.clock} clock " + "; ".join(differences), ()
    return "", differences


def _facts(environment: Environment) -> Mapping[str, str]:
    facts = {name: text for name, text in environment.facts.items() if name not in PASSING}
    return facts | {
        "kernel": environment.kernel,
        "arch": environment.arch,
        "page size": str(environment.page_size),
    }


def _pairs(
    a: Sequence[Measurement], b: Sequence[Measurement]
) -> list[tuple[Measurement, Measurement]]:
    pairs = []
    for left in a:
        there = [right for right in b if right.cell.key == left.cell.key]
        same = [right for right in there if right.environment.target == left.environment.target]
        alone = sum(other.cell.key == left.cell.key for other in a) == 1 and len(there) == 1
        if same or alone:
            pairs.append((left, (same or there)[0]))
    return pairs


def _cell(a: Measurement, b: Measurement, rule: Rule) -> CellComparison:
    refused, warnings = mismatch(a.environment, b.environment)
    failures = [
        (side, f"{measurement.failure.kind}: {measurement.failure.message}")
        for side, measurement in (("A", a), ("B", b))
        if measurement.failure is not None
    ]
    said = [f"{side} failed: {reason}" for side, reason in failures]
    if len(failures) == 2 and failures[0][1] == failures[1][1]:
        said = [f"both sides failed: {failures[0][1]}"]
    measurable = not refused and not failures and a.good and b.good
    notes = [side.environment.clock_note for side in (a, b) if measurable]
    return CellComparison(
        cell=a.cell,
        target_a=a.environment.target,
        target_b=b.environment.target,
        clock=a.environment.clock,
        effects=_effects(a, b, rule) if measurable else (),
        refused=refused,
        failed="; ".join(said),
        broke=len(failures) == 1 and not refused,
        warnings=(*dict.fromkeys(note for note in notes if note), *warnings),
    )


def _effects(a: Measurement, b: Measurement, rule: Rule) -> tuple[Effect, ...]:
    samples = [sample for run in (*a.good, *b.good) for sample in run.kept]
    phases = [f"time.{phase}" for phase in metrics.phases(samples) if phase != readings.SETUP]
    if len(phases) == 1:
        phases = []
    levels = [
        (metric, left, right)
        for metric in map(metrics.find, (LEVELS[0], *phases, *LEVELS[1:]))
        if (left := statistics.values(a, metric)) and (right := statistics.values(b, metric))
    ]
    counters = [
        (metric, left, right)
        for metric in map(metrics.find, COUNTERS)
        if (left := statistics.values(a, metric)) and (right := statistics.values(b, metric))
    ]
    if Clock(a.environment.clock).counts:
        compared = [_counted_level(a, metric, left, right, rule) for metric, left, right in levels]
    else:
        confidence = 1 - (1 - rule.confidence) / max(len(levels), 1)
        compared = [_level(a, metric, sides, rule, confidence) for metric, *sides in levels]
    return (
        *compared,
        *(_counter(metric, left, right) for metric, left, right in counters),
    )


def _level(
    cell: Measurement, metric: Metric, sides: list[Values], rule: Rule, confidence: float
) -> Effect:
    which = LOWER if metric.kind == "time" else 0.5
    a, b = (values.quantile(which) for values in sides)
    draws_a, draws_b = (
        statistics.bootstrap(
            values,
            statistics.generator(rule.seed, cell.cell.key, metric.name, side),
            rule.replicates,
            which,
        )
        for values, side in zip(sides, "ab", strict=True)
    )
    change = draws_b - draws_a
    ratio = None
    if a > 0 and np.all(draws_a > 0):
        ratio = statistics.interval(draws_b / draws_a, b / a, confidence)
    needed = statistics.runs_needed(confidence)
    runs = min(len(values.runs) for values in sides)
    verdict, note = Verdict.SAME, ""
    if runs < needed:
        verdict, note = Verdict.UNDECIDED, f"{runs} runs, at least {needed} are needed"
    else:
        floor = metric.apart(cell.environment.page_size)
        if metric.unit == "seconds" and cell.environment.clock == "real":
            floor = CLOCK_FLOOR
        margin = rule.threshold * np.abs(draws_a) + floor
        tail = (1 - confidence) / 2
        if np.quantile(change - margin, tail) > 0:
            verdict = Verdict.MORE
        elif np.quantile(change + margin, 1 - tail) < 0:
            verdict = Verdict.LESS
    difference = statistics.interval(change, b - a, confidence)
    return Effect(metric.name, metric.unit, verdict, a, b, ratio, difference, note=note)


def _counted_level(cell: Measurement, metric: Metric, a: Values, b: Values, rule: Rule) -> Effect:
    """A time or a size that every run of a side should agree about."""
    clock = cell.environment.clock
    scale = units.amount(metric, 1.0, clock)
    range_a, range_b = (
        Agreement(low == high, low, high)
        for low, high in ((one.medians.min() * scale, one.medians.max() * scale) for one in (a, b))
    )
    margin = rule.threshold * abs(a.median * scale) + metric.apart(cell.environment.page_size)
    verdict = Verdict.SAME
    if range_b.low > range_a.high + margin:
        verdict = Verdict.MORE
    elif range_b.high < range_a.low - margin:
        verdict = Verdict.LESS
    return Effect(
        metric.name,
        units.unit(metric, clock),
        verdict,
        a.median * scale,
        b.median * scale,
        a_range=range_a,
        b_range=range_b,
        note=_varying(range_a, range_b, "runs"),
    )


def _varying(a: Agreement, b: Agreement, what: str) -> str:
    varying = [side for side, seen in (("A", a), ("B", b)) if not seen.equal]
    return f"not the same in all {what} of {' and '.join(varying)}" if varying else ""


def _counter(metric: Metric, a: Values, b: Values) -> Effect:
    range_a, range_b = statistics.agreement(a), statistics.agreement(b)
    verdict = Verdict.SAME
    if range_b.low > range_a.high:
        verdict = Verdict.MORE
    elif range_b.high < range_a.low:
        verdict = Verdict.LESS
    return Effect(
        metric.name,
        metric.unit,
        verdict,
        a.median,
        b.median,
        a_range=range_a,
        b_range=range_b,
        note=_varying(range_a, range_b, "samples"),
    )
