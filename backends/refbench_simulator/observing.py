"""Measured cells beside simulated ones: the equations that costs are fitted to.

A phase's measured time is the lower quartile over the runs of the median over each run's samples,
as :mod:`refbench.compare` takes it: interference only ever adds time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from refbench import metrics, statistics
from refbench.compare import LOWER
from refbench.errors import CellError
from refbench.grammar import Spec
from refbench.plugins import Registry
from refbench.samples import Measurement
from refbench.words import Cell, Pattern
from refbench_simulator.calibration import Observed, Part
from refbench_simulator.model.events import Event

Count = Callable[[Cell], Mapping[str, Counter[Event]]]
"""What the model counts in a cell, by phase."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A measured cell that cannot be used, and why."""

    workload: str
    mechanism: str
    reason: str


def observe(
    registry: Registry, measurements: Sequence[Measurement], count: Count
) -> Iterator[Observed | LeftOut]:
    """Simulate every measured cell, one after the other.

    :raises UsageError: for a journal that names what is not registered any more.
    """
    for measurement in measurements:
        yield _observe(registry, measurement, count)


def cell_of(registry: Registry, measurement: Measurement) -> Cell:
    """The cell that was measured, built anew from its names.

    :raises UsageError: when they are not registered.
    """
    cell = measurement.cell
    workload = Spec.parse(cell.workload, what="workload")
    page_size = measurement.environment.page_size
    return Cell(
        cell.workload,
        Spec.parse(cell.mechanism, what="mechanism"),
        Pattern.parse(cell.pattern),
        registry.workload(workload).program(workload, page_size),
        cell.case,
        cell.thp,
    )


def _observe(registry: Registry, measurement: Measurement, count: Count) -> Observed | LeftOut:
    names = (measurement.cell.workload, measurement.cell.mechanism)
    if measurement.failure is not None:
        return LeftOut(*names, f"{measurement.failure.kind}: {measurement.failure.message}")
    times = _times(measurement)
    whole = times.pop("", None)
    if not whole:
        return LeftOut(*names, "It has no time.")
    try:
        counts = count(cell_of(registry, measurement))
    except CellError as error:
        return LeftOut(*names, f"The model refuses: {error.message}")
    if set(counts) != set(times):
        return LeftOut(
            *names,
            f"Measured are the phases {_names(times)}, modelled {_names(counts)}.",
        )
    phases = {name: Part(counts[name], ns) for name, ns in times.items()}
    return Observed(*names, whole, phases)


def _times(measurement: Measurement) -> dict[str, float]:
    """Nanoseconds by phase, the whole under the empty name."""
    samples = [sample for run in measurement.good for sample in run.kept]
    found = {}
    for part in ("", *metrics.phases(samples)):
        metric = metrics.find("time").of(part) if part else metrics.find("time")
        values = statistics.values(measurement, metric)
        if values is not None:
            found[part] = values.quantile(LOWER) * 1e9
    return found


def _names(phases: Mapping[str, object]) -> str:
    return ", ".join(sorted(phases)) or "none"
