"""What every report shows: sections by environment, blocks by case, ranked rows, notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import msgspec

from refbench import metrics, readings, statistics
from refbench.metrics import Metric
from refbench.report import units
from refbench.samples import CellId, Environment, Failure, Measurement
from refbench.words import Clock

CONFIDENCE = 0.95
"""Of the intervals that reports show."""
TIMES = ("time",)
TRAPS = ("faults", "major", "sigbus", "sigsegv", "traps", "syscalls")
MEMORY = ("lost", "rss", "pss", "hwm", "shmem", "slab", "held", "vmas", "pte")
RARE = frozenset({"major", "sigbus", "sigsegv", "uffd-messages", "held"})
"""Columns that are left out where they are zero throughout."""
PROCESS_MARK = "†"
VARIES_MARK = "~"
BELOW = "<"
"""Before the resolution of a counter that cannot tell a value from nothing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one cell: the median with its interval, or a counter with its range.

    On a clock that counts there is no interval, and ``low`` and ``high`` are the range over the
    runs. Values are in ``unit``: seconds, instructions, bytes or a count. ``source`` is where the
    readings come from; ``varies`` says that a counter that should be the same in every sample was
    not: ``low`` and ``high`` are then its range.
    """

    metric: str
    unit: str
    value: float
    low: float
    high: float
    source: str
    text: str
    varies: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One cell: figures by metric name, or the failure that there is instead.

    Ranks count from 1; 0 is no rank. ``tied`` names the rankings (``lost``, ``time``) in which
    the row cannot be told from another of the same rank.
    """

    cell: CellId
    figures: Mapping[str, Figure] = field(default_factory=dict)
    failure: Failure | None = None
    runs: int = 0
    failed_runs: int = 0
    samples: int = 0
    lost_rank: int = 0
    time_rank: int = 0
    tied: tuple[str, ...] = ()

    def rank(self, name: str) -> str:
        """The rank in ``lost`` or ``time`` as text: ``2``, ``2=`` when tied, empty if none."""
        rank = self.lost_rank if name == "lost" else self.time_rank
        return f"{rank}{'=' if name in self.tied else ''}" if rank else ""


@dataclass(frozen=True, slots=True)
class Block:
    """The cells of one case and pattern, best first, failures last."""

    label: str
    workload: str
    pattern: str
    thp: bool
    phases: tuple[str, ...]
    rows: tuple[Row, ...]
    clock_note: str = ""
    """What must be read with the times of every row."""

    @property
    def title(self) -> str:
        """``sparse-write · byte:0xAA``."""
        return f"{self.label} · {self.pattern}{' · THP' if self.thp else ''}"

    def columns(self, names: Iterable[str]) -> tuple[Metric, ...]:
        """The metrics of ``names`` that any row has a value for; those of :data:`RARE` only
        where any value is not zero."""
        return tuple(metrics.find(name) for name in names if self._worth_showing(name))

    def _worth_showing(self, name: str) -> bool:
        found = [row.figures[name] for row in self.rows if name in row.figures]
        return any(figure.high for figure in found) if name in RARE else bool(found)

    @property
    def times(self) -> tuple[str, ...]:
        """The names of the time metrics: the total, its phases, the set-up, the CPU time."""
        phases = (f"time.{phase}" for phase in sorted(self.phases, key=_is_setup))
        return (*TIMES, *phases, "cpu")


@dataclass(frozen=True, slots=True)
class Section:
    """Everything that was measured in one environment."""

    environment: Environment
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """``host · Linux 6.18 x86_64 · real clock``."""
        where = self.environment
        return f"{where.target} · Linux {where.kernel} {where.arch} · {where.clock} clock"


def summarise(measurements: Sequence[Measurement]) -> tuple[Section, ...]:
    """The sections of a report, in the order in which their environments first appear.

    Blocks within a section are in the order of their labels: rounds are measured in random order.
    """
    groups: dict[bytes, list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault(msgspec.json.encode(measurement.environment), []).append(measurement)
    return tuple(_section(group) for group in groups.values())


def _section(group: list[Measurement]) -> Section:
    blocks: dict[tuple[str, str, str, bool], list[Measurement]] = {}
    for measurement in group:
        cell = measurement.cell
        blocks.setdefault((cell.label, cell.workload, cell.pattern, cell.thp), []).append(
            measurement
        )
    made = tuple(_block(members) for _, members in sorted(blocks.items()))
    return Section(group[0].environment, made, _notes(group[0].environment, made))


def _block(members: list[Measurement]) -> Block:
    phases = metrics.phases(s for m in members for run in m.good for s in run.kept)
    rows = [_row(measurement, phases) for measurement in members]
    page_size = members[0].environment.page_size
    rows = _ranked(rows, "lost", metrics.find("lost").apart(page_size))
    rows = _ranked(rows, "time", 0.0)
    rows.sort(key=lambda row: (not row.lost_rank, row.lost_rank, row.time_rank, _name(row)))
    cell = members[0].cell
    note = members[0].environment.clock_note if any("time" in r.figures for r in rows) else ""
    return Block(cell.label, cell.workload, cell.pattern, cell.thp, phases, tuple(rows), note)


def _is_setup(phase: str) -> bool:
    return phase == readings.SETUP


def _name(row: Row) -> str:
    return row.cell.mechanism


def _row(measurement: Measurement, phases: tuple[str, ...]) -> Row:
    names = (*TIMES, *(f"time.{phase}" for phase in phases), "user", "system", *TRAPS, *MEMORY)
    figures = {}
    for name in dict.fromkeys((*names, *metrics.METRICS)):
        figure = figure_of(measurement, metrics.find(name))
        if figure is not None:
            figures[name] = figure
    return Row(
        cell=measurement.cell,
        figures=figures,
        failure=measurement.failure,
        runs=len(measurement.good),
        failed_runs=len(measurement.runs) - len(measurement.good),
        samples=sum(len(run.kept) for run in measurement.good),
    )


def figure_of(measurement: Measurement, metric: Metric) -> Figure | None:
    """One metric of one cell, ``None`` where it has no value."""
    values = statistics.values(measurement, metric)
    if values is None:
        return None
    reading = metric.read(measurement.good[0].kept[0])
    assert reading is not None
    clock = measurement.environment.clock
    varies = False
    if metric.deterministic:
        seen = statistics.agreement(values)
        text = units.show(metric, seen.low, clock)
        if not seen.equal:
            text += f"..{units.show(metric, seen.high, clock)}{VARIES_MARK}"
        low, high, varies = seen.low, seen.high, not seen.equal
    elif Clock(clock).counts:
        text = units.show(metric, values.median, clock)
        low, high = float(values.medians.min()), float(values.medians.max())
    else:
        random = statistics.generator("report", measurement.cell.key, metric.name)
        interval = statistics.median_interval(values, random, CONFIDENCE)
        text = units.show(metric, values.median, clock)
        low, high = interval.low, interval.high
    resolution = metric.resolution(measurement.environment.page_size)
    if reading.source == "cgroup" and abs(values.median) < resolution:
        text = f"{BELOW}{units.tick(units.show(metric, resolution, clock))}"
    if metric.name.partition(".")[0] == "lost" and reading.source == "process":
        text += PROCESS_MARK
    median, low, high = (units.amount(metric, value, clock) for value in (values.median, low, high))
    unit = units.unit(metric, clock)
    return Figure(metric.name, unit, median, low, high, reading.source, text, varies)


def _ranked(rows: list[Row], name: str, apart: float) -> list[Row]:
    """The rows with their rank in one metric.

    Rows that cannot be told apart share a rank: their intervals overlap that of the best of
    them, or they are no further from it than two growths must be ``apart``.
    """
    with_value = sorted(
        (row for row in rows if name in row.figures), key=lambda row: row.figures[name].value
    )
    ranks: dict[str, int] = {}
    best: Figure | None = None
    rank = 0
    for place, row in enumerate(with_value, 1):
        figure = row.figures[name]
        near = best is not None and (figure.value - best.value <= apart or figure.low <= best.high)
        if not near:
            best, rank = figure, place
        ranks[row.cell.key] = rank
    shared = {a for a, b in pairwise(sorted(ranks.values())) if a == b}
    return [_with_rank(row, name, ranks.get(row.cell.key, 0), shared) for row in rows]


def _with_rank(row: Row, name: str, rank: int, shared: set[int]) -> Row:
    tied = (*row.tied, name) if rank in shared else row.tied
    if name == "lost":
        return replace(row, lost_rank=rank, tied=tied)
    return replace(row, time_rank=rank, tied=tied)


def _notes(environment: Environment, blocks: tuple[Block, ...]) -> tuple[str, ...]:
    rows = [row for block in blocks for row in block.rows]
    good = [row for row in rows if row.figures]
    notes = []
    if good:
        runs = _span(row.runs for row in good)
        samples = _span(row.samples for row in good)
        notes.append(
            f"Medians over {runs} {'run' if runs == '1' else 'runs'} a cell, {samples} "
            f"{'sample' if samples == '1' else 'samples'} without the warm-up; "
            f"{_uncertain(good, environment)}. "
            "Memory is growth since start; time is without setup."
        )
        notes.append(
            "Ranks: 1 is best; = marks rows that share a rank because they cannot be told apart."
        )
    notes += _sources(good, environment)
    varying = [
        (row.cell.key, name)
        for row in good
        for name, figure in row.figures.items()
        if figure.varies
    ]
    if varying:
        keys, names = (sorted(set(side)) for side in zip(*varying, strict=True))
        notes.append(
            f"{VARIES_MARK} Counters that should be the same in every sample were not, in "
            f"{len(keys)} of {len(good)} rows ({', '.join(names)}); shown is their range."
        )
    notes += [
        f"{row.cell.label}, {row.cell.mechanism}: {row.failed_runs} of "
        f"{row.runs + row.failed_runs} runs failed and are left out."
        for row in good
        if row.failed_runs
    ]
    return tuple(notes)


def _uncertain(rows: list[Row], environment: Environment) -> str:
    """How the values of equal runs differ: an interval, or on a clock that counts what there is."""
    if not Clock(environment.clock).counts:
        return f"intervals: {CONFIDENCE:.0%}, bootstrap over runs"
    if max(row.runs for row in rows) == 1:
        return "no interval: the clock counts, another run would say the same"
    times = [row.figures["time"] for row in rows if "time" in row.figures]
    most = max(((one.high - one.low) / one.value for one in times if one.value), default=0.0)
    if not most:
        return "no interval: the clock counts, and every run took the same time"
    return f"no interval: the clock counts, and no two runs' times differ by more than {most:.2%}"


def _sources(rows: list[Row], environment: Environment) -> list[str]:
    sources = {row.figures["lost"].source for row in rows if "lost" in row.figures}
    notes = []
    if "cgroup" in sources:
        apart = units.tick(units.size(metrics.find("lost").apart(environment.page_size)))
        notes.append(
            "lost: growth of the run's memory cgroup, kernel memory included; its counters are "
            f"batched, differences below {apart} between two rows mean nothing."
        )
    if "process" in sources:
        notes.append(
            f"{PROCESS_MARK} No memory cgroup here: lost is anonymous RSS, held files and page "
            "tables of the process. It does not see slab (VMAs) and kernel stacks."
        )
    system = sorted(
        {
            figure.metric
            for row in rows
            for figure in row.figures.values()
            if figure.source == "system"
        }
    )
    if system:
        verb = "is" if len(system) == 1 else "are"
        notes.append(f"{' and '.join(system)} {verb} of the whole system, other work included.")
    clock = environment.clock
    if clock == "instructions" and not environment.clock_note:
        notes.append(
            "Times are instructions that were executed, each counting as much as any other: what "
            "caches, memory bandwidth, page-table walks and the processor's own overlap do is not "
            "in them."
        )
    if clock == "modelled":
        notes.append("Times are computed by a model; nothing was measured.")
    return notes


def _span(numbers: Iterable[int]) -> str:
    seen = sorted(set(numbers))
    return str(seen[0]) if len(seen) == 1 else f"{seen[0]} to {seen[-1]}"
