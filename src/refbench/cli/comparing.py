"""``refbench compare``: did anything change between two runs?"""

from __future__ import annotations

from pathlib import Path

import click

from refbench.cli import sources
from refbench.cli.screen import Screen, with_screen
from refbench.errors import UsageError

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
@click.option("--all", "everything", is_flag=True, help="Show what did not change, too.")
@click.option("--markdown", is_flag=True, help="Write Markdown to standard output.")
@with_screen
def command(
    screen: Screen,
    a: Path,
    b: Path,
    threshold: float | None,
    confidence: float | None,
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
    before, after = (sources.read(path).measurements() for path in (a, b))
    result = compare.compare(before, after, rule)
    if not result.cells:
        raise UsageError(
            f"{a} and {b} have no cell in common.",
            remedy="Measure the same workloads, mechanisms and pattern on both sides.",
        )
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


def _worse(cell: object) -> bool:
    from refbench.compare import CellComparison, Verdict

    assert isinstance(cell, CellComparison)
    failed = cell.broke and cell.failed.startswith("B ")
    return failed or any(effect.verdict is Verdict.MORE for effect in cell.effects)
