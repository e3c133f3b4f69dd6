"""``refbench run``: measure, show the table, say where the files are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from refbench.cli import products
from refbench.cli.measuring import fill, header_of, judge, started
from refbench.cli.options import (
    SELECTING,
    Duration,
    check_names,
    expand_targets,
    make_request,
    with_selection,
)
from refbench.cli.places import ROOT, Place, find_journal, new_place, unfinished
from refbench.cli.screen import Screen, with_screen
from refbench.errors import UsageError
from refbench.journal import Header, Journal
from refbench.plugins import registry
from refbench.runner import Outcome
from refbench.samples import Measurement

_EPILOG = """\b
Examples:
  refbench run                                   everything: it says how long before it starts
  refbench run -m anon,memfd:block=16 -w sparse-*
  refbench run -w dense-touch -p size=256MiB,access=read --runs 30
  refbench run --program mine.txt --pattern file:page.bin
  refbench run --budget 60s -o reports/quick     as many rounds as fit
  refbench run --resume                          the newest unfinished run under reports/

Exits 0 also when some cells failed: that is a result, and the table says why. Exits 5 when
nothing at all could be measured.
"""


@dataclass(frozen=True, slots=True)
class _Order:
    """What ``refbench run`` does once the journal is known."""

    screen: Screen
    place: Place
    budget: float | None


@click.command(epilog=_EPILOG, short_help="Measure, show the table, write the reports.")
@with_selection
@click.option(
    "--budget",
    type=Duration(),
    metavar="TIME",
    help="Stop after the last round that fits: 120s, 2m. At least three rounds are measured.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"The directory of this run. [default: {ROOT}/UTC-TIME-N]",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[PATH]",
    help="Go on with an unfinished run: its journal, or the newest under the output directory.",
)
@with_screen
@click.pass_context
def command(
    context: click.Context,
    /,
    screen: Screen,
    budget: float | None,
    output: Path | None,
    resume: str | None,
    **selection: Any,
) -> None:
    """Measure cells and report.

    A cell is a case or workload under one mechanism. Each run of it is a fresh process; every
    cell is measured once before any is measured again. Every run is on the disk before the
    next one starts.
    """
    if resume is None:
        header = _header(selection)
        place = new_place(output)
        with started(place, header) as journal:
            _measure(_Order(screen, place, budget), journal)
    else:
        _refuse_selection(context)
        path = find_journal(Path(resume)) if resume else unfinished(output or ROOT)
        with Journal.resume(path) as journal:
            _measure(_Order(screen, Place(path.parent), budget), journal)


def _header(selection: dict[str, Any]) -> Header:
    """What is asked for, with every name checked before anything is opened or written."""
    plugins = registry()
    targets = expand_targets(selection["targets"], plugins.backends)
    request = make_request(selection)
    check_names(plugins, targets, request)
    return header_of(targets, request)


def _refuse_selection(context: click.Context) -> None:
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in SELECTING and given:
            raise UsageError(
                f"{parameter.opts[-1]} cannot be given with --resume: what is measured is in the "
                "journal.",
                remedy="Leave it out, or start a new run without --resume.",
            )


def _measure(order: _Order, journal: Journal) -> None:
    outcome = fill(order.screen, journal, budget=order.budget)
    measurements = journal.content().measurements()
    files = products.write(order.place, measurements)
    if order.screen.json:
        order.screen.emit(_document(order, outcome, files, measurements))
    else:
        products.show(order.screen, measurements)
        for what, path in (*files.items(), ("journal", order.place.journal)):
            order.screen.say(f"{what + ':':10}{path}")
    judge(measurements)


def _document(
    order: _Order,
    outcome: Outcome,
    files: dict[str, Path],
    measurements: Sequence[Measurement],
) -> dict[str, object]:
    return {
        "journal": str(order.place.journal),
        **{what: str(path) for what, path in files.items()},
        "measured": outcome.measured,
        "kept": outcome.kept,
        "rounds": outcome.rounds,
        "failures": outcome.failures,
        "report": products.raw(measurements),
    }
