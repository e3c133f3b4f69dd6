"""A comparison as a terminal table, Markdown and JSON: what changed first, then everything."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refbench.compare import CellComparison, Comparison, Effect, Verdict
from refbench.report import markdown as md
from refbench.report import units
from refbench.samples import CellId
from refbench.statistics import Agreement
from refbench.words import Clock

VERSION = 1
HEADER = ("cell", "metric", "A", "B", "B / A", "interval", "verdict")
_STYLES = {Verdict.MORE: "bold red", Verdict.LESS: "bold green", Verdict.UNDECIDED: "yellow"}


def render(console: Console, comparison: Comparison, *, everything: bool = False) -> None:
    """Print what changed, or with ``everything`` every metric, then notes and a conclusion."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for at, name in enumerate(HEADER):
        table.add_column(name, justify="left" if at in {0, 1, 6} else "right", overflow="fold")
    rows = _rows(comparison, everything=everything)
    for cells, verdict in rows:
        table.add_row(*cells[:-1], Text(cells[-1], style=_STYLES.get(verdict, "")))
    if rows:
        console.print(table)
    for note in notes(comparison):
        console.print(Text(note, style="yellow"))
    console.print(Text(conclusion(comparison), style="bold"))


def markdown(comparison: Comparison, *, everything: bool = False) -> str:
    """The same for a mailing-list reply."""
    rows = [cells for cells, _ in _rows(comparison, everything=everything)]
    lines = [*md.wrap(conclusion(comparison)), ""]
    if rows:
        lines += [*md.table(HEADER, rows), ""]
    for note in notes(comparison):
        lines += md.wrap(f"- {note}", indent="  ")
    return "\n".join(lines).rstrip() + "\n"


def json(comparison: Comparison) -> str:
    """The whole comparison: ``version``, ``flagged`` (the number of cells) and its fields."""
    document = {
        "version": VERSION,
        "flagged": len(comparison.flagged),
        "comparison": comparison,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def conclusion(comparison: Comparison) -> str:
    """One sentence: how many cells changed, by which rule."""
    compared = sum(1 for cell in comparison.cells if cell.effects)
    rule = comparison.rule
    still_open = sum(1 for cell in comparison.cells if _undecided(cell))
    open_text = f", {still_open} too few runs to decide" if still_open else ""
    least = f"{100 * rule.threshold:g}%"
    how = f"with {rule.confidence:.0%} confidence for each cell"
    if comparison.cells and all(Clock(cell.clock).counts for cell in comparison.cells):
        how = "between the nearest runs of both sides"
    return (
        f"{len(comparison.flagged)} of {len(comparison.cells)} cells changed ({compared} have "
        f"numbers on both sides{open_text}); a change is more than {least}, {how}."
    )


def notes(comparison: Comparison) -> list[str]:
    """Warnings, refusals, failures, undecided metrics and cells without a partner."""
    found = [f"Mind: {text}." for text in comparison.warnings]
    for cell in comparison.cells:
        if cell.refused:
            found.append(f"{_label(cell.cell)}: not compared: {cell.refused}.")
        if cell.failed:
            found.append(f"{_label(cell.cell)}: {cell.failed}")
        if _only_on_the_clock(cell):
            found.append(
                f"{_label(cell.cell)}: time changed and CPU time did not: there was more or less "
                "waiting, which other work on the machine causes too. Measure both sides again."
            )
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in comparison.cells:
        if undecided := _undecided(cell):
            names = ", ".join(effect.metric for effect in undecided)
            reasons.setdefault((names, undecided[0].note), []).append(_label(cell.cell))
    for (names, why), cells in reasons.items():
        where = cells[0] if len(cells) == 1 else f"{len(cells)} cells ({cells[0]} and others)"
        found.append(f"{where}: undecided: {names} ({why}).")
    for side, alone in (("A", comparison.only_a), ("B", comparison.only_b)):
        found += [f"{_label(cell)}: only in {side}." for cell in alone]
    return found


def _undecided(cell: CellComparison) -> list[Effect]:
    return [effect for effect in cell.effects if effect.verdict is Verdict.UNDECIDED]


def _only_on_the_clock(cell: CellComparison) -> bool:
    changed = {effect.metric for effect in cell.effects if effect.flagged}
    compared = {effect.metric for effect in cell.effects}
    times = {name for name in changed if name.partition(".")[0] == "time"}
    return cell.clock == "real" and bool(times) and "cpu" in compared - changed


def _rows(comparison: Comparison, *, everything: bool) -> list[tuple[list[str], Verdict]]:
    return [
        (_cells(cell, effect), effect.verdict)
        for cell in sorted(comparison.cells, key=lambda cell: not cell.flagged)
        for effect in cell.effects
        if everything or effect.flagged
    ]


def _cells(cell: CellComparison, effect: Effect) -> list[str]:
    sides = [
        units.text(effect.unit, value) if seen is None else _range(seen, effect.unit)
        for value, seen in ((effect.a, effect.a_range), (effect.b, effect.b_range))
    ]
    if effect.ratio is not None:
        ratio = f"{effect.ratio.estimate:.3f}"
        span = f"{effect.ratio.low:.3f} to {effect.ratio.high:.3f}"
    elif effect.difference is not None:
        ratio = "n/a"
        low, high = (
            units.text(effect.unit, value)
            for value in (effect.difference.low, effect.difference.high)
        )
        span = f"{low} to {high}"
    else:
        ratio = f"{effect.b / effect.a:.3f}" if effect.a else "n/a"
        span = "exact" if not effect.note else "varies"
    return [_label(cell.cell), effect.metric, *sides, ratio, span, effect.verdict.value]


def _range(seen: Agreement, unit: str) -> str:
    low, high = (units.text(unit, value) for value in (seen.low, seen.high))
    return low if seen.equal else f"{low}..{high}"


def _label(cell: CellId) -> str:
    words: Sequence[str] = (cell.label, cell.mechanism)
    return " ".join([*words, "thp"] if cell.thp else words)
