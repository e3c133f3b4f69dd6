"""The terminal table: a block a case, ranked by the memory that the system loses and by time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement as Width
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from refbench.metrics import Metric
from refbench.report import units
from refbench.report.summary import MEMORY, TRAPS, Block, Row, Section, summarise
from refbench.samples import Measurement

MAIN = ("lost", "time")
COUNTERS = ("faults", "major", "sigbus", "sigsegv", "traps")
BESIDE = tuple(name for name in MEMORY if name not in {"lost", "hwm"})
NOTHING = "n/a"


def render(console: Console, measurements: Sequence[Measurement]) -> None:
    """Print the tables of all environments, each with its notes."""
    for section in summarise(measurements):
        console.print(Rule(Text(section.title, style="bold"), align="left", style="dim"))
        for block in section.blocks:
            console.print(_block(console, block, section.environment.clock))
        console.print(_footer(section))


def failures(rows: Iterable[Row]) -> list[tuple[int, Row]]:
    """The failed rows with the numbers of their footnotes; equal reasons share a number."""
    numbers: dict[tuple[str, str, str], int] = {}
    found = []
    for row in rows:
        if row.failure is not None:
            reason = (row.failure.kind, row.failure.message, row.failure.remedy)
            found.append((numbers.setdefault(reason, len(numbers) + 1), row))
    return found


def _block(console: Console, block: Block, clock: str) -> Group:
    heading = Text(block.title, style="bold cyan")
    if block.workload != block.label:
        heading.append(f"   {block.workload}", style="dim")
    if block.clock_note:
        heading.append(f"\n{block.clock_note}", style="not bold dim")
    tables = _packed(console, block, clock)
    notes = {number: row.failure for number, row in failures(block.rows)}
    reasons = [
        Text(f"[{number}] {failure.message} {failure.remedy}".rstrip(), style="yellow")
        for number, failure in notes.items()
        if failure is not None
    ]
    return Group(
        Text(), heading, *tables, *(Padding(text, (0, 0, 0, 1), expand=False) for text in reasons)
    )


def _packed(console: Console, block: Block, clock: str) -> list[Table]:
    """As few tables as the console's width allows.

    A group of columns is torn apart only where it is wider than the console by itself.
    """
    groups = [
        block.columns(block.times[1:]),
        block.columns(COUNTERS),
        block.columns(BESIDE),
    ]
    columns: tuple[Metric, ...] = ()
    main = block.columns(MAIN)
    tables = [_table(block, main, (), clock)]
    waiting = [group for group in groups if group]
    while waiting:
        group = waiting.pop(0)
        wider = _table(block, main, columns + group, clock)
        needed = Width.get(console, console.options.update(max_width=1000), wider).maximum
        if needed <= console.width or (not main and not columns and len(group) == 1):
            columns += group
            tables[-1] = wider
        elif main or columns:
            columns, main = (), ()
            tables.append(wider)
            waiting.insert(0, group)
        else:
            waiting[:0] = [group[:-1], group[-1:]]
    return tables


def _table(block: Block, main: Sequence[Metric], beside: Sequence[Metric], clock: str) -> Table:
    """One table; ``main`` columns come with their rank and name what failed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("mechanism", no_wrap=True)
    for metric in main:
        table.add_column("#", justify="right", style="bold", no_wrap=True)
        table.add_column(units.title(metric, clock), justify="right", no_wrap=True)
    for metric in beside:
        table.add_column(units.title(metric, clock), justify="right", no_wrap=True)
    if not main and not beside:
        table.add_column("result", no_wrap=True)
    numbers = {row.cell.key: number for number, row in failures(block.rows)}
    for row in block.rows:
        if row.failure is not None and beside and not main:
            continue
        cells: list[Text | str] = [row.cell.mechanism]
        for metric in main:
            style = "green" if row.rank(metric.name) in {"1", "1="} else ""
            cells += [Text(row.rank(metric.name), style=style), _figure(row, metric.name)]
        cells += [_figure(row, metric.name) for metric in beside]
        if row.failure is not None:
            at = 2 if main else 1
            cells[at : at + 1] = [_failed(row, numbers[row.cell.key])]
        table.add_row(*cells)
    return table


def _figure(row: Row, name: str) -> Text:
    figure = row.figures.get(name)
    if figure is None:
        return Text(NOTHING, style="dim")
    quiet = name in {*TRAPS, *MEMORY} and figure.value == 0
    return Text(figure.text, style="dim" if quiet else "yellow" if figure.varies else "")


def _failed(row: Row, note: int) -> Text:
    assert row.failure is not None
    kind = row.failure.kind.replace("-", " ")
    return Text(f"{kind} [{note}]", style="red" if kind == "wrong content" else "yellow")


def _footer(section: Section) -> Group:
    return Group(Text(), *(Text(note, style="dim") for note in section.notes), Text())
