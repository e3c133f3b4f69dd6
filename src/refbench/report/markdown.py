"""Markdown for a mailing-list reply: plain tables of at most 100 columns, readable as text."""

from __future__ import annotations

from collections.abc import Sequence

from refbench.metrics import Metric
from refbench.report import units
from refbench.report.summary import MEMORY, Block, Row, Section, summarise
from refbench.report.table import NOTHING, failures
from refbench.samples import Measurement

WIDTH = 100
COUNTERS = ("faults", "traps")


def text(measurements: Sequence[Measurement]) -> str:
    """The report, ending in a newline. Paragraphs are wrapped at 72 columns."""
    return "\n".join(_section(section) for section in summarise(measurements))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of one Markdown table: the first column left, the others right aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [_line(cells, widths) for cells in (header, rule, *rows)]


def wrap(paragraph: str, *, indent: str = "") -> list[str]:
    """A list item of wrapped lines."""
    lines = [""]
    for word in paragraph.split():
        if len(indent) + len(lines[-1]) + 1 + len(word) > 72 and lines[-1]:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [indent + line if at else line for at, line in enumerate(lines)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if at else cell.ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"


def _section(section: Section) -> str:
    lines = [f"## {section.title}", ""]
    for block in section.blocks:
        lines += [*_block(block, section.environment.clock), ""]
    for note in section.notes:
        lines += wrap(f"- {note}", indent="  ")
    return "\n".join(lines) + "\n"


def _block(block: Block, clock: str) -> list[str]:
    workload = f" ({block.workload})" if block.workload != block.label else ""
    lines = [f"### {block.title}{workload}", ""]
    if block.clock_note:
        lines += [*wrap(block.clock_note), ""]
    main = block.columns(("lost", "time"))
    times = block.columns(block.times[1:])
    numbers = {row.cell.key: number for number, row in failures(block.rows)}
    header, rows = _grid(block, (*main, *times, *block.columns(COUNTERS)), clock, numbers)
    lines += _within(header, rows, len(main))
    good = [row for row in block.rows if row.failure is None]
    beside = block.columns(name for name in MEMORY if name not in {"lost", "hwm"})
    if good and beside:
        header = ["mechanism", *(units.title(metric, clock) for metric in beside)]
        lines += ["", *_within(header, [_figures(row, beside) for row in good], 0)]
    reasons = {number: row.failure for number, row in failures(block.rows)}
    for number, failure in reasons.items():
        if failure is not None:
            reason = f"{failure.message} {failure.remedy}".rstrip()
            lines += ["", *wrap(f"[{number}] {reason}", indent="    ")]
    return lines


def _grid(
    block: Block, columns: Sequence[Metric], clock: str, numbers: dict[str, int]
) -> tuple[list[str], list[list[str]]]:
    header = ["mechanism", *(units.title(metric, clock) for metric in columns)]
    rows = []
    for row in block.rows:
        cells = _figures(row, columns)
        for at, metric in enumerate(columns[:2], 1):
            if row.rank(metric.name):
                cells[at] += f" ({row.rank(metric.name)})"
        if row.failure is not None:
            reason = f"{row.failure.kind.replace('-', ' ')} [{numbers[row.cell.key]}]"
            cells[1:2] = [reason]
            header = header if columns else ["mechanism", "result"]
        rows.append(cells)
    return header, rows


def _figures(row: Row, columns: Sequence[Metric]) -> list[str]:
    return [
        row.cell.mechanism,
        *(row.figures[m.name].text if m.name in row.figures else NOTHING for m in columns),
    ]


def _within(header: Sequence[str], rows: Sequence[Sequence[str]], keep: int) -> list[str]:
    """The table, continued in a second one where it is wider than :data:`WIDTH`."""
    lines = table(header, rows)
    cut = len(header)
    while max(map(len, lines)) > WIDTH and cut > keep + 2:
        cut -= 1
        lines = table(header[:cut], [row[:cut] for row in rows])
    if cut == len(header):
        return lines
    rest_header = [header[0], *header[cut:]]
    rest = [[row[0], *row[cut:]] for row in rows]
    return [*lines, "", *_within(rest_header, rest, 0)]
