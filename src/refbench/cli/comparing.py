"""``refbench compare``: did anything change between two runs?"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refbench.cli.places import read_journal
from refbench.cli.screen import Screen, with_screen
from refbench.errors import UsageError
from refbench.grammar import suggest

if TYPE_CHECKING:
    from refbench.compare import CellComparison, Comparison

_EPILOG = """\b
Examples:
  refbench compare reports/before reports/after
  refbench compare A/journal.jsonl B/journal.jsonl --threshold 5 --all
  refbench compare A B --markdown > change.md

Exits 1 when B is worse than A in anything: more time, more memory, more faults, or a cell that
fails in B only. Improvements and undecided metrics exit 0. docs/statistics.md has the rule.
"""


@click.command(epilog=_EPILOG, short_help="Compare two runs: effect sizes with intervals.")
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="The least change that matters. [default: 2]",
)
@click.option(
    "--confidence",
    type=click.FloatRange(50, 100, max_open=True),
    metavar="PERCENT",
    help="Of a cell: at most the rest of unchanged cells is flagged. [default: 99]",
)
@click.option(
    "--metric",
    "metrics",
    metavar="GLOB",
    multiple=True,
    help="Only these metrics: time*, lost. Repeatable. [default: all]",
)
@click.option("--all", "everything", is_flag=True, help="Show what did not change, too.")
@click.option("--markdown", is_flag=True, help="Write Markdown to standard output.")
@with_screen
def command(
    screen: Screen,
    a: Path,
    b: Path,
    threshold: float | None,
    confidence: float | None,
    metrics: tuple[str, ...],
    everything: bool,
    markdown: bool,
) -> None:
    """Compare the run B with the run A: journals, or directories of runs.

    Every cell that both have is compared in every metric: the ratio with its interval, from a
    bootstrap over runs, against a threshold that is fixed beforehand.
    """
    from refbench import compare
    from refbench.report import comparison as as_text

    standard = compare.Rule()
    rule = compare.Rule(
        confidence=standard.confidence if confidence is None else confidence / 100,
        threshold=standard.threshold if threshold is None else threshold / 100,
    )
    before, after = (read_journal(path).measurements() for path in (a, b))
    result = compare.compare(before, after, rule)
    if not result.cells:
        raise UsageError(
            f"{a} and {b} have no cell in common.",
            remedy="Measure the same workloads, mechanisms and pattern on both sides.",
        )
    if metrics:
        result = _only(result, metrics)
    if screen.json:
        click.echo(as_text.json(result), nl=False)
    elif markdown:
        click.echo(as_text.markdown(result, everything=everything), nl=False)
    else:
        as_text.render(screen.out, result, everything=everything)
    if all(cell.refused for cell in result.cells):
        raise UsageError(
            f"Nothing of {a} and {b} can be compared: {result.cells[0].refused}.",
            remedy="Compare runs that were taken under the same clock and conditions.",
        )
    if any(_worse(cell) for cell in result.cells):
        raise click.exceptions.Exit(1)


def _only(comparison: Comparison, globs: Sequence[str]) -> Comparison:
    """The comparison without other metrics. The confidence stays that of all of them."""
    names = {effect.metric for cell in comparison.cells for effect in cell.effects}
    chosen: set[str] = set()
    for glob in globs:
        matching = fnmatch.filter(names, glob)
        if not matching:
            raise UsageError(f"No compared metric matches {glob!r}.", remedy=suggest(glob, names))
        chosen.update(matching)
    cells = tuple(
        replace(cell, effects=tuple(e for e in cell.effects if e.metric in chosen))
        for cell in comparison.cells
    )
    return replace(comparison, cells=cells)


def _worse(cell: CellComparison) -> bool:
    from refbench.compare import Verdict

    failed = cell.broke and cell.failed.startswith("B ")
    return failed or any(effect.verdict is Verdict.MORE for effect in cell.effects)
