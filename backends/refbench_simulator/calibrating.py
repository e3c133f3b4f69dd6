"""``refbench calibrate``: measure on a real target what the simulator's work costs there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from refbench import journal as journals
from refbench.cli.options import DEFAULT_TARGET, Duration
from refbench.cli.places import Place, find_journal, new_place, read_journal
from refbench.cli.progress import watching
from refbench.cli.screen import Interrupted, Screen, count, with_screen
from refbench.errors import CellError, RefbenchError, StorageError, UsageError
from refbench.grammar import Spec, resolve
from refbench.journal import Header, Journal
from refbench.plan import Request
from refbench.plugins import Registry, registry
from refbench.runner import execute
from refbench.samples import Environment, Measurement
from refbench.version import VERSION
from refbench.words import Clock
from refbench_simulator import calibration_cells, calibration_report, cost_files
from refbench_simulator.calibration import Observed, fit, summary, whole_errors
from refbench_simulator.costs import Costs, Origin
from refbench_simulator.observing import LeftOut, observe
from refbench_simulator.saved import load
from refbench_simulator.session import SimulatorSession
from refbench_simulator.settings import kernel_of

DEFAULT_RUNS = 10
DEFAULT_ITERATIONS = 3
LEAST_FITTED = 30
"""Cells below which nothing is fitted: there are more kinds of events than that."""

_EPILOG = """\b
Examples:
  refbench calibrate                         this machine; about ten minutes
  refbench calibrate -b qemu --runs 3 --save lab
  refbench calibrate --journal reports/A     fit again, to what was measured then
  refbench run -b simulator:like=host,costs=host

The cells are fixed; some of them are held out of the fit, and the error on those is printed
with every time that is modelled with the table. docs/simulator.md says what it means.
"""


class CalibrationFailure(CellError):
    """Too few cells have a result."""

    kind = "calibration"


@dataclass(frozen=True, slots=True)
class Result:
    """A fitted table, with the cells behind it."""

    costs: Costs
    fitted: tuple[Observed, ...]
    held_out: tuple[Observed, ...]
    left_out: tuple[LeftOut, ...]


@click.command(
    "calibrate", epilog=_EPILOG, short_help="Fit the simulator's times to a real target."
)
@click.option(
    "-b",
    "--backend",
    "target",
    metavar="TARGET",
    default="",
    help=f"Where to measure. [default: {DEFAULT_TARGET}]",
)
@click.option("--runs", type=int, default=DEFAULT_RUNS, show_default=True, help="Runs a cell.")
@click.option(
    "--iterations",
    type=int,
    default=DEFAULT_ITERATIONS,
    show_default=True,
    help="Samples a run, after one warm-up sample.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order of the cells.")
@click.option("--budget", type=Duration(), metavar="TIME", help="Stop after the last round in it.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The directory of the journal. [default: reports/UTC-TIME-N]",
)
@click.option(
    "--journal",
    "journal",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Measure nothing: fit to a journal of an earlier calibration.",
)
@click.option(
    "--save",
    metavar="NAME|FILE",
    default="",
    help="Keep the table under a name for costs=NAME, or in a file that ends in .toml. "
    "[default: the backend's name]",
)
@with_screen
def command(
    screen: Screen,
    target: str,
    runs: int,
    iterations: int,
    seed: int,
    budget: float | None,
    output: Path | None,
    journal: Path | None,
    save: str,
) -> None:
    """Measure cells on TARGET, and fit the cost of every event of the model to their times.

    A calibration is a run like any other: its journal stays, and --journal fits to it again.
    """
    plugins = registry()
    name = _backend(plugins, target or DEFAULT_TARGET).name
    if journal is None:
        _place(save or name)  # what is wrong with it is said before an hour of measuring
        requests = calibration_cells.requests(runs=runs, iterations=iterations, seed=seed)
        place = new_place(output)
        _measure(screen, plugins, target or DEFAULT_TARGET, requests, place, budget=budget)
        journal = place.journal
    else:
        journal = find_journal(journal)
    measurements, environment = _of_target(journal, target)
    to = _place(save or Spec.parse(environment.target, what="target").name)
    result = calibrated(screen, plugins, journal, measurements, environment, name=to.stem)
    cost_files.save(result.costs, to)
    if screen.json:
        screen.emit(calibration_report.document(result, journal, to))
        return
    calibration_report.show(screen, result)
    use = to.stem if to.parent == cost_files.directory() else to
    screen.say(f"journal:  {journal}")
    screen.say(f"table:    {to}; use it with -b simulator:costs={use}")


def calibrated(
    screen: Screen,
    plugins: Registry,
    journal: Path,
    measurements: Sequence[Measurement],
    environment: Environment,
    *,
    name: str,
) -> Result:
    """Fit a table to measurements of one target.

    :raises CalibrationFailure: when too few cells can be fitted to, or none is held out.
    """
    kernel = kernel_of(load(journal).knobs)
    built_in = cost_files.default()
    screen.note(f"Simulating {count(len(measurements), 'cell')} on {kernel}.")
    with SimulatorSession(kernel, built_in) as session:
        found = list(observe(plugins, measurements, session.counted))
    left_out = tuple(item for item in found if isinstance(item, LeftOut))
    fitted, held = calibration_cells.split(
        plugins, [item for item in found if isinstance(item, Observed)]
    )
    if len(fitted) < LEAST_FITTED or not held:
        why = f" The first that failed: {left_out[0].reason}" if left_out else ""
        raise CalibrationFailure(
            f"{journal} has {count(len(fitted), 'cell')} to fit to, {LEAST_FITTED} are needed, "
            f"and {len(held)} to judge by.{why}",
            remedy="Measure with `refbench calibrate`, without --journal.",
        )
    costs = fit(fitted, built_in.ns)
    error = summary(whole_errors(held, costs.ns))
    origin = Origin(
        target=environment.target,
        clock=environment.clock,
        kernel=environment.kernel,
        arch=environment.arch,
        page_size=environment.page_size,
        date=_date(measurements),
    )
    return Result(Costs(name, costs.ns, origin, error, costs.assumed), fitted, held, left_out)


def _measure(
    screen: Screen,
    plugins: Registry,
    target: str,
    requests: Sequence[Request],
    place: Place,
    *,
    budget: float | None,
) -> None:
    header = Header(
        refbench=VERSION,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        targets=(target,),
        request=requests[0],
    )
    try:
        file = Journal.create(place.journal, header)
    except StorageError:
        place.discard_empty()
        raise
    try:
        with file, watching(screen, budget) as watcher:
            for request in requests:
                execute(plugins, (target,), request, file, watcher, budget=budget)
    except KeyboardInterrupt:
        if not _discarded(place):
            raise Interrupted(
                f"Interrupted. What was measured is kept in {place.journal}.",
                remedy=f"Go on with: refbench run --resume {place.journal}; then refbench "
                f"calibrate --journal {place.journal}",
            ) from None
        raise Interrupted("Interrupted before anything was measured; nothing is kept.") from None
    except RefbenchError:
        _discarded(place)
        raise


def _discarded(place: Place) -> bool:
    """Whether nothing was measured; then nothing of it stays."""
    if journals.read(place.journal).runs:
        return False
    place.discard()
    return True


def _of_target(journal: Path, target: str) -> tuple[tuple[Measurement, ...], Environment]:
    """The measurements of one target, and its environment.

    :raises UsageError: when there are several and none is chosen, or their times are no times.
    """
    measurements = read_journal(journal).measurements()
    there = sorted({measurement.environment.target for measurement in measurements})
    wanted = target or there[0]
    chosen = tuple(m for m in measurements if m.environment.target == wanted)
    if not chosen or (not target and len(there) > 1):
        raise UsageError(
            f"{journal} holds the targets {', '.join(there)}.", remedy="Choose one of them with -b."
        )
    environment = chosen[-1].environment
    if environment.clock == Clock.MODELLED.value:
        raise UsageError(
            f"The times of {wanted} are modelled: nothing can be learnt from them.",
            remedy="Calibrate on a target that measures.",
        )
    return chosen, environment


def _backend(plugins: Registry, target: str) -> Spec:
    """The target, checked.

    :raises UsageError: when it does not exist, or its clock is a model's.
    """
    spec = Spec.parse(target, what="target")
    backend = plugins.backend(spec)
    resolve(spec, backend.options, what="target")
    if spec.name == "simulator":
        raise UsageError(
            "The simulator cannot be calibrated on itself.",
            remedy=f"Give a target that measures, such as -b {DEFAULT_TARGET}.",
        )
    return spec


def _place(save: str) -> Path:
    """Where the table goes."""
    if save.endswith(".toml") or "/" in save:
        return Path(save).expanduser()
    return cost_files.place(save)


def _date(measurements: Sequence[Measurement]) -> str:
    """The day of the last run, ISO 8601."""
    return max(run.started for measurement in measurements for run in measurement.runs)[:10]
