"""``refbench workloads``: what is done to memory, and the cases that the history tracks."""

from __future__ import annotations

import click
import msgspec

from refbench.cli.listing import OptionRecord, lines, records
from refbench.cli.screen import Screen, grid, with_screen
from refbench.plugins import Registry, registry

_EPILOG = """\b
Examples:
  refbench workloads
  refbench run -w sparse-touch:size=1GiB,order=random     a workload with parameters
  refbench run -w sparse-random                           a case: a frozen preset
"""


class WorkloadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A workload as JSON."""

    name: str
    summary: str
    plugin: str
    headline: tuple[str, ...]
    options: tuple[OptionRecord, ...]


class CaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A case as JSON."""

    name: str
    summary: str
    plugin: str
    workload: str
    bench: bool
    """Whether it is measured, too, where nobody names any."""


@click.command(epilog=_EPILOG, short_help="List workloads, their parameters, and cases.")
@with_screen
def command(screen: Screen) -> None:
    """List workloads with their parameters, and cases."""
    plugins = registry()
    if screen.json:
        screen.emit({"workloads": _workloads(plugins), "cases": _cases(plugins)})
        return
    screen.table(
        grid(
            ("workload", "parameters", "what it does"),
            [
                (name, lines(workload.options), workload.summary)
                for name, workload in plugins.workloads.items()
            ],
        )
    )
    screen.say()
    screen.table(
        grid(
            ("case", "workload", "what it does"),
            [(case.name, case.workload, _about(case)) for case in _cases(plugins)],
        )
    )


def _workloads(plugins: Registry) -> tuple[WorkloadRecord, ...]:
    return tuple(
        WorkloadRecord(
            name=name,
            summary=workload.summary,
            plugin=plugins.origins.get(f"workload {name}", ""),
            headline=workload.headline,
            options=records(workload.options),
        )
        for name, workload in plugins.workloads.items()
    )


def _about(case: CaseRecord) -> str:
    return case.summary if case.bench else f"{case.summary}; by name only"


def _cases(plugins: Registry) -> tuple[CaseRecord, ...]:
    return tuple(
        CaseRecord(
            name=name,
            summary=case.summary,
            plugin=plugins.origins.get(f"case {name}", ""),
            workload=str(case.workload),
            bench=case.bench,
        )
        for name, case in plugins.cases.items()
    )
