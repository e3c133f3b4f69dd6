"""``refbench plan``: what ``refbench run`` would do, without doing it."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from refbench.cli.options import check_names, expand_targets, make_request, with_selection
from refbench.cli.screen import Screen, count, duration, grid, with_screen
from refbench.plan import Plan
from refbench.plugins import registry
from refbench.runner import open_target, plan_for
from refbench.words import Capabilities, Cell

_EPILOG = """\b
Examples:
  refbench plan -w sparse-* -m memfd*
  refbench plan -b host -w dense-touch:size=1GiB --json
"""


class PlannedCell(msgspec.Struct, frozen=True, kw_only=True):
    """A cell as JSON."""

    label: str
    workload: str
    mechanism: str
    pattern: str
    thp: bool
    key: str
    seconds: float
    """Of one run, estimated."""
    unsupported: str
    """Why it will be skipped; empty when it will not."""


class PlannedTarget(msgspec.Struct, frozen=True, kw_only=True):
    """What would be measured on one target, as JSON."""

    target: str
    kernel: str
    cells: tuple[PlannedCell, ...]
    runs: int
    iterations: int
    seed: int
    seconds: float
    """Of everything, estimated."""


@click.command(epilog=_EPILOG, short_help="Show what run would measure, and how long it takes.")
@with_selection
@with_screen
def command(screen: Screen, **selection: Any) -> None:
    """Show the cells, the number of runs and about how long they take.

    Opens the target, because only it knows its page size and which mechanisms work there, but
    measures nothing.
    """
    plugins = registry()
    targets = expand_targets(selection["targets"], plugins.backends)
    request = make_request(selection)
    check_names(plugins, targets, request)
    planned = []
    for text in targets:
        target, session = open_target(plugins, text)
        with session:
            capabilities = session.capabilities()
            plan = plan_for(plugins, session, capabilities, request)
        planned.append(_planned(str(target), capabilities, plan))
    if screen.json:
        screen.emit({"targets": planned})
        return
    for item in planned:
        _show(screen, item)


def _planned(target: str, capabilities: Capabilities, plan: Plan) -> PlannedTarget:
    cells = tuple(_cell(cell, capabilities, plan) for cell in plan.cells)
    return PlannedTarget(
        target=target,
        kernel=capabilities.kernel,
        cells=cells,
        runs=plan.runs,
        iterations=plan.iterations,
        seed=plan.seed,
        seconds=plan.runs * sum(cell.seconds for cell in cells if not cell.unsupported),
    )


def _cell(cell: Cell, capabilities: Capabilities, plan: Plan) -> PlannedCell:
    found = capabilities.mechanisms.get(cell.mechanism.name)
    return PlannedCell(
        label=cell.label,
        workload=cell.workload,
        mechanism=str(cell.mechanism),
        pattern=cell.pattern.text,
        thp=cell.thp,
        key=cell.key,
        seconds=plan.run_seconds(cell),
        unsupported="" if found is None or found.ok else found.reason,
    )


def _show(screen: Screen, item: PlannedTarget) -> None:
    screen.table(
        grid(
            ("case", "workload", "mechanism", "a run", ""),
            [
                (
                    cell.label if cell.label != cell.workload else "",
                    cell.workload,
                    cell.mechanism,
                    f"{cell.seconds * 1e3:.0f} ms" if not cell.unsupported else "",
                    f"skipped: {cell.unsupported}" if cell.unsupported else "",
                )
                for cell in item.cells
            ],
            title=f"{item.target}, Linux {item.kernel}",
        )
    )
    screen.say(
        f"{count(len(item.cells), 'cell')}, {count(item.runs, 'run')} each of "
        f"1 + {item.iterations} samples, in an order drawn from seed {item.seed}: "
        f"{duration(item.seconds)}."
    )
