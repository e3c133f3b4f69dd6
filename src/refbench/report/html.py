"""One self-contained HTML file: plots, tables, notes and the environment, no external assets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import jinja2

from refbench import metrics
from refbench.errors import StorageError
from refbench.metrics import Metric
from refbench.report import palette, plots, units
from refbench.report.summary import MEMORY, Block, Figure, Section, summarise
from refbench.report.table import COUNTERS, failures
from refbench.samples import Measurement
from refbench.version import VERSION
from refbench.words import Clock


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot with the words that say the same; ``svg`` is matplotlib's, texts escaped."""

    title: str
    caption: str
    svg: str
    wide: bool = False
    folded: bool = False


def write(path: Path, measurements: Sequence[Measurement], before: str = "") -> None:
    """Write the report; ``before`` is HTML that stands before the tables.

    :raises StorageError: when the file cannot be written.
    """
    document = text(measurements, before)
    try:
        path.write_text(document, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"The report {path} cannot be written: {error.strerror}.",
            remedy="Give a path in a directory that you can write to.",
        ) from None


def templates() -> jinja2.Environment:
    """The templates of the reports, in which every text is escaped."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def text(measurements: Sequence[Measurement], before: str = "") -> str:
    """The HTML document; ``before`` as for :func:`write`."""
    number = itertools.count(1)
    sections = [
        (
            section,
            [
                (
                    block,
                    [
                        replace(plot, svg=plots.with_ids(plot.svg, f"plot{next(number)}-"))
                        for plot in _plots(section, block, measurements)
                    ],
                )
                for block in section.blocks
            ],
        )
        for section in summarise(measurements)
    ]
    shown = {
        name.partition(".")[0]
        for section, _ in sections
        for block in section.blocks
        for row in block.rows
        for name in row.figures
    }
    page = templates().get_template("page.html.j2")
    return page.render(
        before=before,
        sections=sections,
        tables=_tables,
        heading=units.title,
        interval=_interval,
        reasons=failures,
        colour=palette.mechanism,
        glossary=[metric for name, metric in metrics.METRICS.items() if name in shown],
        version=VERSION,
    )


def _template(name: str) -> str:
    return resources.files("refbench.report").joinpath(name).read_text(encoding="utf-8")


def _tables(block: Block) -> list[tuple[Metric, ...]]:
    """The columns of a block's two tables: what it costs, and where memory and CPU time went."""
    times = block.times[1:]
    costs = block.columns(("lost", "time", *times, *COUNTERS, "syscalls"))
    memory = block.columns((*MEMORY[1:], "user", "system"))
    return [costs, memory] if memory else [costs]


def _interval(figure: Figure, metric: Metric) -> str:
    """``2.90 to 3.01 ms`` for what has noise or varies between runs, empty for counters."""
    if metric.deterministic or figure.low == figure.high:
        return ""
    low, high = (units.text(figure.unit, value) for value in (figure.low, figure.high))
    if low.partition(" ")[2] == high.partition(" ")[2]:
        low = low.partition(" ")[0]
    return f"{low} to {high}"


def _plots(section: Section, block: Block, measurements: Sequence[Measurement]) -> list[Plot]:
    if not any("time" in row.figures for row in block.rows):
        return []
    clock = section.environment.clock
    around = "95 % intervals, bootstrapped over runs"
    if Clock(clock).counts:
        around = "the range over the runs"
    members = {
        measurement.cell.key: measurement
        for measurement in measurements
        if measurement.environment == section.environment
    }
    made = []
    if any("lost" in row.figures for row in block.rows):
        made.append(
            Plot(
                "Memory lost against time",
                f"Lower left is better. Lines are {around}; in the shaded band the memory "
                "counter cannot tell values apart.",
                plots.scatter(block, clock, section.environment.page_size),
            )
        )
    made.append(
        Plot(
            "Traps",
            "Page faults, and the signal rounds that the kernel does not count as faults. "
            "Logarithmic axis.",
            plots.traps(block),
        )
    )
    made.append(
        Plot(
            "Time per phase",
            f"Medians with {around}.",
            plots.phases(block, clock),
            wide=True,
        )
    )
    made.append(
        Plot(
            "Every sample",
            "Each dot is one sample, each line of dots a run, in the order of measuring from "
            "bottom to top; the bar is the median of the runs' medians.",
            plots.strips(block, members, clock),
            wide=True,
            folded=True,
        )
    )
    return made
