"""Published figures beside measured ones: ratios with intervals, and what was expected of them.

A ratio is the quotient of two medians over runs; its interval is that of the quotient of their
bootstrap draws (:mod:`refbench.statistics`). On a clock that counts there is nothing to draw, and
the ends are the least and the greatest quotient of any two runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec
import numpy as np

from refbench import metrics, statistics
from refbench.errors import BackendError, UsageError
from refbench.grammar import Option, Spec, resolve
from refbench.metrics import Metric
from refbench.plugins import Registry
from refbench.published import Expectation, Experiment, Line, Part
from refbench.report.renderings import Bitmaps, bitmaps, share
from refbench.report.summary import BELOW, CONFIDENCE, Figure, figure_of
from refbench.samples import Environment, Failure, Measurement
from refbench.statistics import Interval
from refbench.words import Cell, Clock, Pattern

BASES = ("anon", "memset")
"""What every mechanism is divided by: memory without a pattern, and filled memory."""


DOCUMENT = "pdf"
"""The option that names a workload's input."""


class Verdict(str, Enum):
    """What a measurement says of an expectation."""

    MET = "met"
    NOT_MET = "not met"
    UNDECIDED = "undecided"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Row:
    """One mechanism: figures by metric, ratios by metric and then by mechanism under the line."""

    mechanism: str
    figures: Mapping[str, Figure]
    ratios: Mapping[str, Mapping[str, Interval]]
    failure: Failure | None
    runs: int
    boots: int
    share: float | None = None
    """See :func:`refbench.report.renderings.share`."""


@dataclass(frozen=True, slots=True)
class Table:
    """One part of the experiment, measured in one environment."""

    title: str
    workload: str
    published: tuple[Line, ...]
    published_ratios: Mapping[str, tuple[float | None, ...]]
    """By metric, one for each line of ``published``: its figure over the base variant's."""
    rows: tuple[Row, ...]
    bitmaps: Bitmaps | None = None

    def row(self, mechanism: str) -> Row | None:
        """The row of a mechanism that has a result."""
        found = (row for row in self.rows if row.mechanism == mechanism and row.figures)
        return next(found, None)


@dataclass(frozen=True, slots=True)
class Judged:
    """An expectation, and what was found."""

    expectation: Expectation
    verdict: Verdict
    ratio: Interval | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """An experiment in one environment."""

    environment: Environment
    tables: tuple[Table, ...]
    judged: tuple[Judged, ...]
    differences: tuple[str, ...]
    """What was measured otherwise than published; nothing: it is reproduced."""

    @property
    def kind(self) -> str:
        """Whether it was the published program on the published input."""
        return "re-enacted" if self.differences else "reproduced"


def beside(
    registry: Registry, experiment: Experiment, measurements: Sequence[Measurement]
) -> tuple[Reproduction, ...]:
    """One reproduction for each environment, in the order in which they first appear.

    :raises UsageError: when no measurement belongs to the experiment.
    """
    groups: dict[bytes, list[Measurement]] = {}
    for measurement in measurements:
        if part_of(registry, experiment, measurement.cell.workload) is not None:
            key = msgspec.json.encode(measurement.environment)
            groups.setdefault(key, []).append(measurement)
    if not groups:
        raise UsageError(
            f"There is nothing of the experiment {experiment.name!r} in the journal.",
            remedy=f"Measure it with `refbench reproduce {experiment.name}`.",
        )
    return tuple(_reproduction(registry, experiment, group) for group in groups.values())


def part_of(registry: Registry, experiment: Experiment, workload: str) -> Part | None:
    """The part of the experiment that a workload belongs to."""
    name = workload.partition(":")[0]
    for part in experiment.parts:
        if Spec.parse(part.workload, what="workload").name != name:
            continue
        values = _values(registry, workload)
        if all(str(values[key]) == wanted for key, wanted in part.options):
            return part
    return None


def ratio(over: Measurement, under: Measurement, metric: str) -> Interval | None:
    """The metric's value in ``over`` divided by that in ``under``.

    None where one of them has no value, the lower one may be zero or less, or the counter cannot
    tell a value from nothing.
    """
    found = metrics.find(metric)
    a, b = statistics.values(over, found), statistics.values(under, found)
    if a is None or b is None or b.median <= 0 or _lost_in_batches(over, under, found):
        return None
    estimate = a.median / b.median
    if Clock(over.environment.clock).counts:
        highs, lows = a.medians, b.medians
        if lows.min() <= 0:
            return None
        ends = (float(highs.min() / lows.max()), float(highs.max() / lows.min()))
        return Interval(estimate, *ends)
    draws_a, draws_b = (
        statistics.bootstrap(values, statistics.generator("ratio", one.cell.key, metric))
        for values, one in ((a, over), (b, under))
    )
    if np.any(draws_b <= 0):
        return None
    return statistics.interval(draws_a / draws_b, estimate, CONFIDENCE)


def _lost_in_batches(over: Measurement, under: Measurement, metric: Metric) -> bool:
    """Whether reports show one of the two as less than the counter's resolution."""
    shown = (figure_of(one, metric) for one in (over, under))
    return any(figure is not None and figure.text.startswith(BELOW) for figure in shown)


def judge(expectation: Expectation, found: Interval | None, *, runs: int, counts: bool) -> Judged:
    """Met when the whole interval lies in the range, not met when all of it lies outside."""
    if found is None:
        return Judged(expectation, Verdict.NOT_MEASURED)
    needed = statistics.runs_needed(CONFIDENCE)
    if not counts and runs < needed:
        note = f"{runs} runs, at least {needed} are needed"
        return Judged(expectation, Verdict.UNDECIDED, found, note)
    if expectation.low <= found.low and found.high <= expectation.high:
        return Judged(expectation, Verdict.MET, found)
    if found.high < expectation.low or expectation.high < found.low:
        return Judged(expectation, Verdict.NOT_MET, found)
    return Judged(expectation, Verdict.UNDECIDED, found, "the interval crosses the limit")


def _reproduction(
    registry: Registry, experiment: Experiment, group: Sequence[Measurement]
) -> Reproduction:
    environment = group[0].environment
    cells: dict[tuple[int, str], list[Measurement]] = {}
    for measurement in group:
        part = part_of(registry, experiment, measurement.cell.workload)
        assert part is not None
        place = experiment.parts.index(part)
        cells.setdefault((place, measurement.cell.workload), []).append(measurement)
    tables = tuple(
        _table(experiment, experiment.parts[place], workload, members)
        for (place, workload), members in sorted(cells.items())
    )
    differences = dict.fromkeys(
        text
        for (place, _), members in cells.items()
        for text in _differences(registry, experiment.parts[place], members[0])
    )
    judged = [
        _judged(expectation, table, environment)
        for table in tables
        for expectation in experiment.expectations
    ]
    return Reproduction(environment, tables, tuple(judged), tuple(differences))


def _table(
    experiment: Experiment, part: Part, workload: str, members: Sequence[Measurement]
) -> Table:
    by_name = {member.cell.mechanism: member for member in members}
    rows = [_row(experiment, member, by_name) for member in members]
    rows.sort(key=_order)
    return Table(
        part.title,
        workload,
        part.lines,
        _published_ratios(experiment, part),
        tuple(rows),
        bitmaps(members),
    )


def _order(row: Row) -> tuple[bool, int, str]:
    """What everything is divided by first, failures last."""
    place = BASES.index(row.mechanism) if row.mechanism in BASES else len(BASES)
    return row.failure is not None, place, row.mechanism


def _row(experiment: Experiment, member: Measurement, by_name: Mapping[str, Measurement]) -> Row:
    figures, ratios = {}, {}
    for name in experiment.metrics:
        figure = figure_of(member, metrics.find(name))
        if figure is None:
            continue
        figures[name] = figure
        ratios[name] = {
            base: interval
            for base in BASES
            if base in by_name and (interval := ratio(member, by_name[base], name)) is not None
        }
    boots = len({run.boot for run in member.good})
    name, runs = member.cell.mechanism, len(member.good)
    return Row(name, figures, ratios, member.failure, runs, boots, share(member))


def _published_ratios(experiment: Experiment, part: Part) -> Mapping[str, tuple[float | None, ...]]:
    found = {}
    base = next(line for line in part.lines if line.mechanism == experiment.base)
    for name in experiment.metrics[:2]:
        under = base.figure(name)
        over = [line.figure(name) for line in part.lines]
        found[name] = tuple(value / under if value and under else None for value in over)
    return found


def _judged(expectation: Expectation, table: Table, environment: Environment) -> Judged:
    over, under = table.row(expectation.over), table.row(expectation.under)
    found = over.ratios.get(expectation.metric, {}).get(expectation.under) if over else None
    runs = min(over.runs, under.runs) if over and under else 0
    return judge(expectation, found, runs=runs, counts=Clock(environment.clock).counts)


def _differences(registry: Registry, part: Part, member: Measurement) -> Iterable[str]:
    """What makes it another program, or another input, than the published one."""
    workload = member.cell.workload
    published, measured = _values(registry, part.workload), _values(registry, workload)
    for option in registry.workload(Spec.parse(workload, what="workload")).options:
        value, wanted = measured[option.name], published[option.name]
        if value != wanted and option.kind != "path":
            yield f"{option.name} is {value}, published was {wanted}"
    if part.document and not _is_original(registry, member):
        own = measured[DOCUMENT] or "one that refbench generates"
        yield f"the document is {own}, published was {part.document}"


def _is_original(registry: Registry, member: Measurement) -> bool:
    """Whether the published document was rendered: it is recognised by its digest, and the
    program that was measured holds it."""
    from refbench.pdfium.document import document, verdict

    spec = Spec.parse(member.cell.workload, what="workload")
    workload = registry.workload(spec)
    try:
        path = document(resolve(spec, workload.options, what="workload").text(DOCUMENT))
        if verdict(path) != "reproduced":
            return False
        program = workload.program(spec, member.environment.page_size)
    except (UsageError, BackendError):
        return False
    cell = Cell(
        member.cell.workload,
        Spec.parse(member.cell.mechanism, what="mechanism"),
        Pattern(member.cell.pattern),
        program,
        thp=member.cell.thp,
    )
    return cell.key == member.cell.key


def _values(registry: Registry, workload: str) -> Mapping[str, object]:
    spec = Spec.parse(workload, what="workload")
    options: Sequence[Option] = registry.workload(spec).options
    return resolve(spec, options, what="workload").values
