"""``refbench explain``: step by step, what the kernel does to each range, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from refbench.cli.options import make_request, mechanism_option
from refbench.cli.screen import Screen, with_screen
from refbench.errors import CellError, UsageError
from refbench.plan import make_plan
from refbench.plugins import registry
from refbench.samples import Failure
from refbench_simulator import explain_json, explain_tables
from refbench_simulator.backend import SimulatorBackend
from refbench_simulator.explain_text import MARK, WIDEST, Line, lines
from refbench_simulator.explaining import Explained, baselines, explain
from refbench_simulator.options import from_option, simulated
from refbench_simulator.session import SimulatorSession
from refbench_simulator.target import NAME, options_of

_EPILOG = """\b
Examples:
  refbench explain -w sparse-read -m anon       what is a page fault
  refbench explain -w sparse-write -m memfd,uffd --summary
  refbench explain -w dense-touch:size=64GiB -m refpage -b simulator:page=64KiB
  refbench explain --program mine.txt -m segv --from reports/A

Exits 5 when no mechanism could be run; why, and in which step, is printed all the same.
"""


@click.command("explain", epilog=_EPILOG, short_help="What the kernel does, step by step, and why.")
@click.option(
    "-b",
    "--backend",
    "target",
    metavar="TARGET",
    default=NAME,
    show_default=True,
    help="The simulator with its options.",
)
@from_option
@mechanism_option
@click.option(
    "-w",
    "--workload",
    "workloads",
    metavar="WORKLOAD[,...]",
    multiple=True,
    help="A case or a workload: sparse-write, dense-touch:size=64MiB.",
)
@click.option(
    "-p",
    "--parameter",
    "parameters",
    metavar="KEY=VALUE[,...]",
    multiple=True,
    help="Put over the parameters of the workload: size=64MiB,stride=4.",
)
@click.option(
    "--program",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A program of your own (docs/program-format.md) instead of a workload.",
)
@click.option(
    "--pattern",
    default="byte:0xAA",
    show_default=True,
    help="Initial content of a page: byte:0xAA or file:PATH.",
)
@click.option("--thp", is_flag=True, help="Let the kernel use transparent huge pages.")
@click.option("--summary", is_flag=True, help="The comparison alone, without the steps.")
@with_screen
def command(
    screen: Screen, target: str, source: Path | None, *, summary: bool, **selection: Any
) -> None:
    """Explain what a mechanism costs: step by step, what the kernel does to which pages.

    Everything is worked out by the simulator's model: each action names its rule's place in the
    kernel. The summary sets the mechanisms beside anon and memset, and says why they differ.
    """
    spec = simulated(target, source)
    session = SimulatorBackend().open(options_of(spec))
    with session:
        found = _explained(session, selection)
        if screen.json:
            screen.emit(explain_json.document(str(spec), session, found))
        else:
            _show(screen, session, str(spec), found, summary=summary)
    _judge(found)


def _explained(session: SimulatorSession, selection: dict[str, Any]) -> list[Explained]:
    """The cells that are asked for and, behind those of each workload, its baselines.

    :raises UsageError: when nothing is asked for, or something that does not exist.
    """
    if not selection["mechanisms"]:
        raise UsageError(
            "No mechanism to explain.", remedy="Name one or several: -m memfd:block=16,uffd."
        )
    if not selection["workloads"] and selection["program"] is None:
        raise UsageError(
            "No workload to explain.",
            remedy="Name one, -w sparse-write, or give a program: --program FILE.",
        )
    request = make_request({**selection, "runs": 1, "iterations": 1, "seed": 0})
    plan = make_plan(registry(), session.kernel.page_size, request)
    found = []
    for _, group in groupby(plan.cells, key=lambda cell: cell.workload):
        cells = list(group)
        found += [explain(session, cell) for cell in cells]
        found += [explain(session, cell, asked=False) for cell in baselines(cells)]
    return found


def _show(
    screen: Screen,
    session: SimulatorSession,
    target: str,
    found: Sequence[Explained],
    *,
    summary: bool,
) -> None:
    width = min(screen.out.width, WIDEST)
    note = f"{MARK} {session.costs.note(session.kernel)}"
    for _, group in groupby(found, key=lambda item: item.cell.workload):
        items = list(group)
        for item in items:
            if item.asked and not summary:
                _tell(screen, session, item, target, width, note)
        _compare(screen, items, width, note)


def _tell(
    screen: Screen, session: SimulatorSession, item: Explained, target: str, width: int, note: str
) -> None:
    cell = item.cell
    title = f"{cell.label} under {cell.mechanism}, {cell.pattern.text}, on {target}"
    _print(screen, Line(0, title, style="bold"), width)
    _print(screen, Line(0, note, style="dim"), width)
    for line in lines(item.story.steps):
        _print(screen, line, width)
    screen.say()
    if item.failure is not None:
        _print(screen, Line(0, _why(item.failure), style="bold red"), width)
    else:
        screen.table(
            explain_tables.phases(
                item.story, item.run.samples[-1], session.costs, session.kernel.page_size
            )
        )
        _print(screen, Line(0, explain_tables.legend(), style="dim"), width)
    screen.say()


def _compare(screen: Screen, items: Sequence[Explained], width: int, note: str) -> None:
    _print(screen, Line(0, f"{items[0].cell.label}: side by side", style="bold"), width)
    _print(screen, Line(0, note, style="dim"), width)
    screen.say()
    for table in explain_tables.side_by_side(items, width):
        screen.table(table)
        screen.say()
    for text in explain_tables.differences(items):
        _print(screen, Line(0, text.plain), width)
    for item in items:
        if item.failure is not None:
            what = f"{item.cell.mechanism}: {_why(item.failure)}"
            _print(screen, Line(0, what, style="yellow"), width)
    screen.say()


def _print(screen: Screen, line: Line, width: int) -> None:
    for text in line.render(width):
        screen.out.print(text if isinstance(text, Text) else Text(text), soft_wrap=True)


def _why(failure: Failure) -> str:
    kind = failure.kind.replace("-", " ")
    return f"{kind}: {failure.message} {failure.remedy}".rstrip()


class _NothingRan(CellError):
    """No cell that was asked for has a result."""

    kind = "nothing-measured"


def _judge(found: Sequence[Explained]) -> None:
    """:raises CellError: when all cells that were asked for failed, as ``refbench run`` does."""
    asked = [item for item in found if item.asked]
    failures = [item.failure for item in asked if item.failure is not None]
    if len(failures) < len(asked):
        return
    first, cell = failures[0], asked[0].cell
    what = f"{cell.label} under {cell.mechanism}: {first.kind.replace('-', ' ')}: {first.message}"
    if len(failures) > 1:
        what = f"None of {len(failures)} cells could be run; the first: {what}"
    raise _NothingRan(what, remedy=first.remedy)
