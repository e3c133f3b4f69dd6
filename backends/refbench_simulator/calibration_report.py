"""What a calibration found: the costs, and how wrong they are by mechanism and by phase."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.cli.screen import Screen, count, grid
from refbench.report import units
from refbench_simulator.calibration import (
    Floats,
    Observed,
    modelled,
    phase_errors,
    summary,
    whole_errors,
)
from refbench_simulator.model.events import Event

if TYPE_CHECKING:
    from refbench_simulator.calibrating import Result

_WORST = 5
"""Cells that are named because they are furthest off."""


def show(screen: Screen, result: Result) -> None:
    """Tables for people."""
    costs = result.costs
    rows = [
        (
            event.value,
            _cost(costs.ns[event], costs.origin.clock),
            "assumed: no cell exercises it" if event in costs.assumed else "",
        )
        for event in Event
    ]
    screen.table(grid(("event", "cost", ""), rows, title="Costs"))
    screen.say()
    title = f"Error on {count(len(result.held_out), 'cell')} that were held out"
    header = ("time of", "cells", "median", "90 % below", "tends to")
    screen.table(grid(header, _errors(result), title=title))
    screen.say()
    worst = sorted(result.held_out, key=lambda cell: -abs(_error(cell, result)))[:_WORST]
    off = [(c.workload, c.mechanism, f"{_error(c, result):+.0%}") for c in worst]
    screen.table(grid(("workload", "mechanism", "modelled"), off, title="Furthest off"))
    for reason, cells in _reasons(result).items():
        first = cells[0]
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        screen.say(f"Left out: {first}{more}: {reason}")
    error = costs.error
    screen.say(
        f"Fitted to {count(len(result.fitted), 'cell')}; median error {error.median:.1%}, 90th "
        f"percentile {error.most:.1%}, on {error.cells} others.",
        style="bold",
    )


def document(result: Result, journal: Path, table: Path) -> dict[str, Any]:
    """The same for programs."""
    costs = result.costs
    return {
        "journal": str(journal),
        "table": str(table),
        "origin": costs.origin,
        "ns": {event.value: costs.ns[event] for event in Event},
        "assumed": sorted(event.value for event in costs.assumed),
        "fitted": {"cells": len(result.fitted), "error": _summary(result.fitted, result)},
        "held_out": {
            "error": costs.error,
            "mechanisms": {
                name: _summary(cells, result) for name, cells in _by_mechanism(result).items()
            },
            "phases": {
                name: summary(errors)
                for name, errors in phase_errors(result.held_out, costs.ns).items()
            },
            "cells": [
                {
                    "workload": cell.workload,
                    "mechanism": cell.mechanism,
                    "measured_ns": cell.ns,
                    "modelled_ns": modelled(cell.counts, costs.ns),
                }
                for cell in result.held_out
            ],
        },
        "left_out": result.left_out,
    }


def _errors(result: Result) -> Iterable[tuple[str, ...]]:
    ns = result.costs.ns
    yield _line("whole cells", whole_errors(result.held_out, ns))
    workloads = {cell.workload for cell in result.fitted}
    mechanisms = {cell.mechanism for cell in result.fitted}
    for name, cells in (
        ("other workloads", [c for c in result.held_out if c.workload not in workloads]),
        ("other options", [c for c in result.held_out if c.mechanism not in mechanisms]),
    ):
        if cells:
            yield _line(f"  {name} than the fit's", whole_errors(cells, ns))
    for name, cells in _by_mechanism(result).items():
        yield _line(f"  {name}", whole_errors(cells, ns))
    for name, errors in phase_errors(result.held_out, ns).items():
        yield _line(f"phase {name}", errors)
    yield _line("cells of the fit", whole_errors(result.fitted, ns))


def _line(name: str, errors: Floats) -> tuple[str, ...]:
    found = summary(errors)
    bias = f"{np.median(errors):+.1%}"
    return (name, str(found.cells), f"{found.median:.1%}", f"{found.most:.1%}", bias)


def _by_mechanism(result: Result) -> dict[str, list[Observed]]:
    found: dict[str, list[Observed]] = {}
    for cell in sorted(result.held_out, key=lambda cell: cell.mechanism):
        found.setdefault(cell.mechanism, []).append(cell)
    return found


def _summary(cells: Iterable[Observed], result: Result) -> object:
    return summary(whole_errors(cells, result.costs.ns))


def _error(cell: Observed, result: Result) -> float:
    return modelled(cell.counts, result.costs.ns) / cell.ns - 1


def _reasons(result: Result) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in result.left_out:
        found.setdefault(item.reason.partition(":")[0], []).append(
            f"{item.workload} {item.mechanism}"
        )
    return found


def _cost(ns: float, clock: str) -> str:
    return units.seconds(ns / 1e9) if clock == "real" else units.decimal(ns)
