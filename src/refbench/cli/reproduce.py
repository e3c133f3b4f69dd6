"""``refbench reproduce``: a published experiment, measured again beside its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from refbench.cli import products
from refbench.cli.measuring import fill, header_of, judge, started
from refbench.cli.options import (
    check_names,
    expand_targets,
    mechanism_option,
    parse_parameters,
    target_option,
)
from refbench.cli.places import ROOT, Place, find_journal, new_place, read_journal, unfinished
from refbench.cli.screen import Screen, with_screen
from refbench.errors import RefbenchError, StorageError, UsageError
from refbench.journal import Header, Journal
from refbench.plan import AHEAD_OF_KERNELS, BENCH_MECHANISMS, Request
from refbench.plugins import Registry, registry
from refbench.published import EXPERIMENTS, Experiment
from refbench.report import beside_text
from refbench.report.beside import Reproduction, beside
from refbench.runner import Outcome
from refbench.samples import Measurement

BOOTS = 3
"""Boots that the runs in a guest are spread over."""
REPLY = "reproduce.md"
SELECTING = frozenset(
    {"targets", "mechanisms", "parameters", "runs", "iterations", "seed", "quick"}
)

_EPILOG = """\b
Examples:
  refbench reproduce v4 --quick               this machine, a tenth of the repetitions
  refbench reproduce v4 -b qemu -m anon,memset,refpage
  refbench reproduce pdfium -b host -b qemu
  refbench reproduce pdfium -p pdf=DDI0487F_b_armv8_arm.pdf
  refbench reproduce v4 --resume              go on where it was interrupted
  refbench reproduce v4 --journal reports/A   measure nothing, print it again

It says how long it will take before it starts. docs/reproduce.md explains the tables.
"""


@dataclass(frozen=True, slots=True)
class _Order:
    """What is reproduced, and where the answer goes."""

    screen: Screen
    experiment: Experiment
    markdown: bool


@click.command(epilog=_EPILOG, short_help="Measure a published experiment again.")
@click.argument("name", metavar="|".join(EXPERIMENTS), type=click.Choice(tuple(EXPERIMENTS)))
@target_option
@mechanism_option
@click.option(
    "-p",
    "--parameter",
    "parameters",
    metavar="KEY=VALUE[,...]",
    multiple=True,
    help="Put over the parameters of the published program; it is re-enacted then.",
)
@click.option("--quick", is_flag=True, help="A smaller form of the published program.")
@click.option(
    "--runs",
    type=int,
    default=None,
    help="Fresh processes a mechanism. [default: as many as published; 3 on a clock that counts]",
)
@click.option("--iterations", type=int, default=1, show_default=True, help="Samples a process.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of the cells.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"The directory of the journal and the reports. [default: {ROOT}/UTC-TIME-N]",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[PATH]",
    help="Go on with an unfinished journal, or the newest under the output directory.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Measure nothing: use the journal of an earlier run.",
)
@click.option("--markdown", is_flag=True, help="Markdown alone on standard output.")
@with_screen
@click.pass_context
def command(
    context: click.Context,
    /,
    screen: Screen,
    name: str,
    output: Path | None,
    resume: str | None,
    journal: Path | None,
    markdown: bool,
    **selection: Any,
) -> None:
    """Measure a published experiment again, under every mechanism of the target, and set what
    was published beside it.

    A guest is booted three times. The journal is one of `refbench run`: it can be reported,
    compared and resumed like any other. Ends with 1 when the variants have not done the same
    work: their bitmaps differ.
    """
    order = _Order(screen, EXPERIMENTS[name], markdown)
    if resume is not None and journal is not None:
        raise UsageError(
            "--journal measures nothing and --resume goes on measuring.", remedy="Give one of them."
        )
    if resume is not None or journal is not None:
        _refuse_selection(context, "--resume" if journal is None else "--journal")
    if journal is not None:
        measurements = read_journal(journal).measurements()
        place = None if output is None else Place(output)
        _answer(order, measurements, find_journal(journal), place)
    elif resume is not None:
        path = find_journal(Path(resume)) if resume else unfinished(output or ROOT)
        with Journal.resume(path) as opened:
            _measure(order, opened, Place(path.parent))
    else:
        header = _header(order.experiment, selection)
        place = new_place(output)
        with started(place, header) as opened:
            _measure(order, opened, place)


def _header(experiment: Experiment, selection: dict[str, Any]) -> Header:
    """What is measured, with every name checked before anything is opened or written."""
    plugins = registry()
    targets = expand_targets(selection["targets"], plugins.backends)
    quick = selection["quick"]
    request = Request(
        mechanisms=selection["mechanisms"] or _mechanisms(plugins, experiment),
        workloads=tuple(part.quick if quick else part.workload for part in experiment.parts),
        parameters=parse_parameters(selection["parameters"]),
        runs=selection["runs"],
        real_runs=experiment.runs,
        iterations=selection["iterations"],
        seed=selection["seed"],
        boots=BOOTS,
    )
    check_names(plugins, targets, request)
    return header_of(targets, request)


def _mechanisms(plugins: Registry, experiment: Experiment) -> tuple[str, ...]:
    names = (*BENCH_MECHANISMS, *AHEAD_OF_KERNELS, *experiment.mechanisms)
    return tuple(name for name in names if name.partition(":")[0] in plugins.mechanisms)


def _refuse_selection(context: click.Context, instead: str) -> None:
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in SELECTING and given:
            raise UsageError(
                f"{parameter.opts[-1]} cannot be given with {instead}: what is measured is in the "
                "journal.",
                remedy=f"Leave it out, or measure anew without {instead}.",
            )


def _measure(order: _Order, journal: Journal, place: Place) -> None:
    outcome = fill(order.screen, journal, command=f"reproduce {order.experiment.name}")
    measurements = journal.content().measurements()
    _answer(order, measurements, place.journal, place, outcome)
    judge(measurements)


def _answer(
    order: _Order,
    measurements: Sequence[Measurement],
    journal: Path,
    place: Place | None,
    outcome: Outcome | None = None,
) -> None:
    found = beside(registry(), order.experiment, measurements)
    text = beside_text.text(order.experiment, found)
    files = {} if place is None else _write(order.experiment, place, measurements, found, text)
    if order.screen.json:
        order.screen.emit(_document(order.experiment, found, journal, files, outcome))
    else:
        click.echo(text, nl=False)
    if not (order.markdown or order.screen.json):
        order.screen.say()
        for what, path in (*files.items(), ("journal", journal)):
            order.screen.say(f"{what + ':':10}{path}")
    _same_work(found)


class _Different(RefbenchError):
    """The variants have not drawn the same."""

    kind: ClassVar[str] = "different"


def _same_work(found: Sequence[Reproduction]) -> None:
    """:raises _Different: when bitmaps differ: then the times compare different work."""
    for one in found:
        for table in one.tables:
            if table.bitmaps is not None and not table.bitmaps.identical:
                names = ", ".join(table.bitmaps.different)
                raise _Different(
                    f"On {one.environment.target} the bitmaps under {names} are not those of the"
                    " others.",
                    remedy="Something reads memory that it has not written, or the document is "
                    "not the same: `refbench check` asks the mechanism.",
                )


def _document(
    experiment: Experiment,
    found: Sequence[Reproduction],
    journal: Path,
    files: dict[str, Path],
    outcome: Outcome | None,
) -> dict[str, object]:
    return {
        "experiment": experiment.name,
        "journal": str(journal),
        **{what: str(path) for what, path in files.items()},
        "failures": outcome.failures if outcome else {},
        "reproductions": [{"kind": one.kind, "found": one} for one in found],
    }


def _write(
    experiment: Experiment,
    place: Place,
    measurements: Sequence[Measurement],
    found: Sequence[Reproduction],
    text: str,
) -> dict[str, Path]:
    from refbench.report import beside_html

    files = products.write(place, measurements, beside_html.section(experiment, found))
    reply = place.directory / REPLY
    try:
        reply.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"The report {reply} cannot be written: {error.strerror}.",
            remedy="Free some space; the journal has everything, and --journal prints it again.",
        ) from None
    return {"reply": reply, **files}
