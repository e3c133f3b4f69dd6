"""A reproduction as plain text: Markdown of at most 78 columns, fit for a mailing-list reply.

Tables are indented blocks, as the letters themselves have them: they stay readable where nothing
renders Markdown, and where somebody quotes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from refbench import metrics
from refbench.published import KIB, Experiment, Line
from refbench.report import units
from refbench.report.beside import BASES, Judged, Reproduction, Row, Table
from refbench.report.markdown import wrap
from refbench.report.summary import BELOW, Figure
from refbench.samples import Failure
from refbench.statistics import Interval
from refbench.words import Clock

WIDTH = 78
INDENT = "    "
GAP = "  "
NAME = 16
"""Columns of a mechanism's name; a longer one has a line of its own."""
NOTHING = "-"
PAGES_NAMED = 5
"""Of the pages whose bitmaps differ."""
ITSELF = ("1", NOTHING)
"""A ratio to itself has no interval."""
SAME = "same"
"""Both ends of an interval or a range are the ratio itself, to the digits shown."""


def text(experiment: Experiment, reproductions: Sequence[Reproduction]) -> str:
    """The whole answer, ending in a newline."""
    lines = [f"# {experiment.title}", "", *wrap(experiment.about), "", "Published:", ""]
    for letter in experiment.letters:
        lines += wrap(f"- {letter.source}.", indent="  ")
    for reproduction in reproductions:
        lines += ["", *_reproduction(experiment, reproduction)]
    return "\n".join(lines) + "\n"


def columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """An indented table: the first column left, the others right aligned."""
    table = [tuple(header), *map(tuple, rows)]
    short = [row for row in table if len(row[0]) <= NAME]
    first = max(len(row[0]) for row in short)
    widths = [max(len(row[at]) for row in table) for at in range(1, len(header))]
    lines = []
    for name, *cells in table:
        shown = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        long = len(name) > first
        lines += [INDENT + name] * long
        lines.append((INDENT + GAP.join([("" if long else name).ljust(first), *shown])).rstrip())
    return lines


def number(value: float) -> str:
    """A ratio: four decimals near one, three significant digits elsewhere."""
    return f"{value:.4f}" if 0.1 <= value < 10 else units.digits(value)


def interval(found: Interval | None) -> tuple[str, str]:
    """``("1.0482", "1.0471-1.0495")``; no ends where nothing differs."""
    if found is None:
        return NOTHING, NOTHING
    low, high = number(found.low), number(found.high)
    return number(found.estimate), SAME if low == high else f"{low}-{high}"


def figure(found: Figure | None) -> str:
    """Memory in KiB, as the letters give it; ASCII, as mail likes it."""
    if found is None:
        return NOTHING
    if found.unit != "bytes" or found.text.startswith(BELOW):
        return found.text.replace("µ", "u")
    return f"{found.value / KIB:.0f} KiB"


def uncertainty(reproduction: Reproduction) -> str:
    """What the ends beside a ratio are."""
    return "range" if Clock(reproduction.environment.clock).counts else "95 %"


def verdict(judged: Judged, how: str) -> str:
    """One sentence."""
    asked = judged.expectation
    wanted = f"{number(asked.low)} to {number(asked.high)}"
    if judged.ratio is None:
        return f"{asked.text} ({wanted}): {judged.verdict.value}."
    estimate, ends = interval(judged.ratio)
    note = f" ({judged.note})" if judged.note else ""
    return f"{asked.text} ({wanted}): {estimate}, {how} {ends}: {judged.verdict.value}{note}."


def _reproduction(experiment: Experiment, found: Reproduction) -> list[str]:
    where = found.environment
    lines = [f"## {where.target}, Linux {where.kernel} {where.arch}: {found.kind}", ""]
    if found.differences:
        lines += [*wrap(f"Not as published: {'; '.join(found.differences)}."), ""]
    lines += [*wrap(method(found)), ""]
    for table in found.tables:
        lines += _table(experiment, found, table)
    if found.judged:
        lines += ["### What the series expects", ""]
        for judged in found.judged:
            lines += wrap(f"- {verdict(judged, uncertainty(found))}", indent="  ")
        lines.append("")
    lines += left_out(found)
    return lines[:-1] if not lines[-1] else lines


def method(found: Reproduction) -> str:
    """How often it was measured, and what the ends beside a ratio are."""
    rows = [row for table in found.tables for row in table.rows if row.figures]
    runs = sorted({row.runs for row in rows})
    boots = max((row.boots for row in rows), default=0)
    many = " to ".join(map(str, dict.fromkeys((runs[0], runs[-1])))) if runs else "no"
    noun = "run" if many == "1" else "runs"
    spread = f" in {boots} boots" if boots > 1 else ""
    text = f"Medians of {many} {noun} a mechanism{spread}, the mechanisms taking turns."
    clock = Clock(found.environment.clock)
    if clock is Clock.REAL:
        return f"{text} 95 %: interval of the ratio, bootstrapped over boots, runs and samples."
    if many != "1":
        text += " Range: the least and the greatest ratio of any two runs; same: to these digits."
    if clock is Clock.MODELLED:
        return f"{text} Times are computed by a model; nothing was measured."
    return f"{text} Times are instructions that were executed."


def _table(experiment: Experiment, found: Reproduction, table: Table) -> list[str]:
    clock = found.environment.clock
    lines = []
    for at, name in enumerate(experiment.metrics):
        title = units.title(metrics.find(name), clock)
        lines += [f"### {title[0].upper()}{title[1:]}: {table.title}", ""]
        if at < 2:
            lines += [*_published(experiment, found, table, name), ""]
        if any(row.figures for row in table.rows):
            lines += [*_every(found, table, name), ""]
    if said := of_the_program(table):
        lines += ["### What the program said", ""]
        for sentence in said:
            lines += wrap(f"- {sentence}", indent="  ")
        lines.append("")
    return lines


def of_the_program(table: Table) -> list[str]:
    """Sentences on the bitmaps, and on whose memory was used; none of a workload without."""
    sentences = []
    drawn = table.bitmaps
    if drawn is not None:
        what = f"{drawn.renderings} renderings of {drawn.pages} pages under {drawn.mechanisms}"
        what += f" mechanism{'s' if drawn.mechanisms > 1 else ''}"
        if drawn.identical:
            sentences.append(f"The bitmaps are byte-identical: {what}.")
        else:
            pages = ", ".join(map(str, drawn.different_pages[:PAGES_NAMED]))
            more = len(drawn.different_pages) - PAGES_NAMED
            pages += f" and {more} more" if more > 0 else ""
            sentences.append(
                f"The bitmaps differ: {what}; page {pages} under {', '.join(drawn.different)}."
            )
    shares = [(row.share, row.mechanism) for row in table.rows if row.share is not None]
    if shares:
        least, name = min(shares)
        sentences.append(
            f"Of the program's private memory the mechanism supplied {least:.1%} at least ({name})."
        )
    return sentences


def _published(
    experiment: Experiment, found: Reproduction, table: Table, name: str
) -> Iterable[str]:
    base = experiment.base
    header = ("variant", "published", f"/ {base}", "here", f"/ {base}", uncertainty(found))
    rows = []
    for line, published in zip(table.published, table.published_ratios[name], strict=True):
        row = table.row(line.mechanism)
        here = row.figures.get(name) if row else None
        over = row.ratios.get(name, {}).get(base) if row else None
        rows.append(
            (
                line.variant,
                said(line, name),
                NOTHING if published is None else number(published),
                figure(here),
                *(ITSELF if line.mechanism == base and here else interval(over)),
            )
        )
    lines = columns(header, rows)
    notes: dict[str, list[str]] = {}
    for line in table.published:
        notes.setdefault(line.note, []).append(line.variant)
    for note, variants in notes.items():
        if note and name != "time":
            lines += ["", *wrap(f"{', '.join(variants)}: {note}.")]
    return lines


def said(line: Line, name: str) -> str:
    """A published figure as it was published."""
    if name == "time":
        return f"{line.seconds} s"
    return NOTHING if line.peak is None else f"{line.peak} KiB"


def _every(found: Reproduction, table: Table, name: str) -> Iterable[str]:
    how = uncertainty(found)
    header = ["mechanism", "here"]
    for base in BASES:
        header += [f"/ {base}", how]
    rows = []
    for row in table.rows:
        if not row.figures:
            continue
        cells = [row.mechanism, figure(row.figures.get(name))]
        for base in BASES:
            itself = base == row.mechanism
            cells += ITSELF if itself else interval(row.ratios.get(name, {}).get(base))
        rows.append(cells)
    return columns(header, rows)


def left_out(found: Reproduction) -> list[str]:
    """The mechanisms without a result, by the reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in _failed(found):
        assert row.failure is not None
        reasons.setdefault(_reason(row.failure), []).append(row.mechanism)
    if not reasons:
        return []
    lines = ["### Without a result", ""]
    for (kind, message), names in reasons.items():
        shown = ", ".join(dict.fromkeys(names))
        lines += wrap(f"- {shown}: {kind}: {message}", indent="  ")
    return [*lines, ""]


def _failed(found: Reproduction) -> Iterable[Row]:
    return (row for table in found.tables for row in table.rows if row.failure is not None)


def _reason(failure: Failure) -> tuple[str, str]:
    return failure.kind.replace("-", " "), f"{failure.message} {failure.remedy}".strip()
