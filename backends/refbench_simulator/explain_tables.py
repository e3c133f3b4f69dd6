"""Totals of cells: a table a phase, and mechanisms side by side with why they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from refbench.readings import START
from refbench.report import units
from refbench.report.table import NOTHING
from refbench.samples import Sample
from refbench_simulator.costs import Costs
from refbench_simulator.explain_text import MARK, shares, time
from refbench_simulator.explaining import BASELINES, PARTS, Explained, Summary, reasons
from refbench_simulator.telling import Teller
from refbench_simulator.work import KINDS, bar, by_kind

_BAR = 26
_COLUMN = 12
_FIRST = 22
_SAME = 0.005
"""Relative differences below this are none."""


def phases(story: Teller, sample: Sample, costs: Costs, page_size: int) -> Table:
    """What each phase adds up to; a bar of :data:`_BAR` signs says where its time goes."""
    table = _table(("phase", "faults", "traps", "calls", f"time ({MARK})"), "where it goes")
    for name, found in sample.phases.items():
        total = story.totals.get(name)
        events = total.events if total else {}
        table.add_row(
            name,
            str(found.faults),
            str(found.traps),
            str(found.syscalls),
            time(found.ns),
            bar(by_kind(events, costs, page_size), _BAR),
        )
    return table


def legend() -> str:
    """What the signs of bars mean."""
    return ", ".join(f"{kind.sign} {kind.name}" for kind in KINDS)


def _table(numbers: Sequence[str], last: str = "") -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(numbers[0], no_wrap=True)
    for heading in numbers[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    if last:
        table.add_column(last, no_wrap=True)
    return table


def side_by_side(found: Sequence[Explained], width: int) -> Iterator[Table]:
    """Mechanisms in columns, as many as fit; those that failed have none."""
    good = [(item, item.summary) for item in found if item.summary is not None]
    fit = max(1, (width - _FIRST) // _COLUMN)
    for at in range(0, len(good), fit):
        yield _columns(good[at : at + fit])


def _columns(good: Sequence[tuple[Explained, Summary]]) -> Table:
    table = _table(("", *(str(item.cell.mechanism) for item, _ in good)))
    sums = [summary for _, summary in good]
    table.add_row(f"time ({MARK})", *(time(item.ns) for item in sums), style="bold")
    for kind in KINDS:
        times = [item.times[kind.name] for item in sums]
        if any(times):
            table.add_row(f"  {kind.name}", *(time(ns) if ns else "-" for ns in times))
    table.add_row("memory lost", *(_lost(item) for item in sums), style="bold")
    for name, _ in PARTS:
        sizes = [item.memory[name] for item in sums]
        if any(sizes):
            table.add_row(f"  {name}", *(units.size(size) if size else "-" for size in sizes))
    if any(item.label != START for item in sums):
        table.add_row("  at the stop", *(item.label for item in sums))
    for title, counts in (
        ("faults", [item.faults for item in sums]),
        ("traps", [item.traps for item in sums]),
        ("system calls", [item.syscalls for item in sums]),
        ("VMAs", [item.vmas for item in sums]),
    ):
        table.add_row(title, *map(str, counts))
    return table


def differences(found: Sequence[Explained]) -> Iterator[Text]:
    """A paragraph for each mechanism that was asked for and each baseline: how much, and why."""
    sums = {str(item.cell.mechanism): item.summary for item in found if item.summary}
    names = [str(spec) for spec in BASELINES if str(spec) in sums]
    for item in found:
        mine = str(item.cell.mechanism)
        if item.asked and item.summary is not None:
            yield Text(f"{mine}: {shares(item.summary.times)}.")
            for name in names:
                other = sums[name]
                if name != mine and other is not None:
                    yield Text(f"{mine} against {name}: {_against(item.summary, other)}")


def _against(mine: Summary, other: Summary) -> str:
    return f"{_time(mine, other)}; {_memory(mine, other)}."


def _time(mine: Summary, other: Summary) -> str:
    if not other.ns or abs(mine.ns / other.ns - 1) < _SAME:
        return "the same time"
    parts = [
        f"{name} {MARK}{_signed(units.seconds(abs(change) / 1e9), change)}"
        for name, change in reasons(mine.times, other.times)
    ]
    return f"{units.digits(mine.ns / other.ns)} times the time ({', '.join(parts)})"


def _lost(summary: Summary) -> str:
    """Nothing is known where the program has no stop to look."""
    return units.size(summary.lost) if summary.label != START else NOTHING


def _memory(mine: Summary, other: Summary) -> str:
    if START in (mine.label, other.label):
        return "no `measure` step, so nothing about memory"
    change = mine.lost - other.lost
    if not change:
        return "the same memory"
    parts = [
        f"{name} {_signed(units.size(abs(part)), part)}"
        for name, part in reasons(mine.memory, other.memory)
    ]
    ratio = f"{units.digits(mine.lost / other.lost)} times the memory" if other.lost > 0 else "more"
    return f"{ratio} ({', '.join(parts)})"


def _signed(text: str, change: int) -> str:
    return f"{'+' if change > 0 else '-'}{text}"
