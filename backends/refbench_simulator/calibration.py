"""Fitting costs to measured times, and finding out how wrong the modelled ones are.

Every phase of every training cell gives one equation: the events that the model counts in it,
each times its unknown cost, add up to the time that was measured. Costs cannot be negative, and
what counts is the *relative* error, so that each equation is divided by its measured time; then
non-negative least squares (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23)
solve them. Equations that stay far off weigh less the next time, as Huber's estimator has it
(Robust Statistics, 1981, section 7.8): an outlier must not move everybody's costs.

A prior holds on to what the cells cannot tell, such as which of two events that always come
together is the dearer one, and what an event costs that no cell has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from refbench.readings import SETUP
from refbench_simulator.costs import Error
from refbench_simulator.model.events import Event

Floats = npt.NDArray[np.float64]

HOLD = 0.01
"""How strongly the prior holds: an event that makes up a share *s* of the time of *n* equations
is held with the weight HOLD² against n·s²."""
BEND = 0.1
"""The relative error from which on an equation weighs less."""
ROUNDS = 30
"""Most repetitions of the weighting; it stands still long before."""
LEAST_NS = 1000.0
"""Phases that are shorter are not judged by themselves: entering and leaving one reads clocks
and counters by system calls, which takes a good part of that."""
TINY = 0.1
"""Nanoseconds that the prior gives every event at least, so that a ratio to it exists."""


@dataclass(frozen=True, slots=True)
class Part:
    """One phase: what the model counted, and the nanoseconds that were measured."""

    counts: Mapping[Event, int]
    ns: float


@dataclass(frozen=True, slots=True)
class Observed:
    """One cell, simulated and measured. ``ns`` is its whole time, without the set-up."""

    workload: str
    mechanism: str
    ns: float
    phases: Mapping[str, Part]

    @property
    def counts(self) -> Counter[Event]:
        """What the model counted in the whole cell, without the set-up."""
        total: Counter[Event] = Counter()
        for name, part in self.phases.items():
            if name != SETUP:
                total.update(part.counts)
        return total

    @property
    def whole(self) -> Part:
        """The cell as one part."""
        return Part(self.counts, self.ns)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Nanoseconds of every event, and the events that no cell has exercised."""

    ns: Mapping[Event, float]
    assumed: frozenset[Event]


def fit(cells: Sequence[Observed], prior: Mapping[Event, float]) -> Fitted:
    """Costs that explain the times of ``cells``; ``prior`` holds the ratios between costs that
    are likely, its unit does not matter.

    :raises ValueError: for no cells.
    """
    if not cells:
        raise ValueError("no cells to fit to")
    equations = [(part, weight) for cell in cells for part, weight in _equations(cell)]
    matrix = np.array([[part.counts.get(event, 0) for event in Event] for part, _ in equations])
    matrix = matrix / np.array([[part.ns] for part, _ in equations])
    weights = np.array([weight for _, weight in equations])
    guess = np.array([max(prior[event], TINY) for event in Event])
    # The other machine may be faster or slower as a whole, or count in another unit.
    modelled = matrix @ guess
    guess = guess / np.median(modelled[modelled > 0])
    exercised = matrix.any(axis=0)
    found = guess * _solve(matrix[:, exercised] * guess[exercised], weights, exercised)
    found[~exercised] = guess[~exercised] * np.median((found / guess)[exercised])
    return Fitted(
        {event: float(value) for event, value in zip(Event, found, strict=True)},
        frozenset(event for event, used in zip(Event, exercised, strict=True) if not used),
    )


def _equations(cell: Observed) -> Iterable[tuple[Part, float]]:
    """The cell as a whole, and each phase with the weight of its share of the time."""
    yield cell.whole, 1.0
    for part in cell.phases.values():
        if part.ns >= LEAST_NS and any(part.counts.values()):
            yield part, float(np.sqrt(min(1.0, part.ns / cell.ns)))


def _solve(matrix: Floats, weights: Floats, exercised: npt.NDArray[np.bool_]) -> Floats:
    """Factors of the prior's costs, 1 for what is not exercised."""
    count = matrix.shape[1]
    factors = np.ones(count)
    robust = np.ones(len(matrix))
    for _ in range(ROUNDS):
        scale = weights * np.sqrt(robust)
        rows = np.vstack((matrix * scale[:, None], HOLD * np.eye(count)))
        wanted = np.concatenate((scale, np.full(count, HOLD)))
        before, (factors, _) = factors, nnls(rows, wanted)
        if np.allclose(before, factors, rtol=1e-6):
            break
        off = np.abs(matrix @ factors - 1)
        robust = np.minimum(1.0, BEND / np.maximum(off, BEND))
    everything = np.ones(exercised.size)
    everything[exercised] = factors
    return everything


def modelled(counts: Mapping[Event, int], ns: Mapping[Event, float]) -> float:
    """Nanoseconds of ``counts``, on pages of the size that the costs ``ns`` are for."""
    return sum(count * ns[event] for event, count in counts.items())


def whole_errors(cells: Iterable[Observed], ns: Mapping[Event, float]) -> Floats:
    """``modelled / measured - 1`` of every cell's whole time."""
    return np.array([modelled(cell.counts, ns) / cell.ns - 1 for cell in cells])


def phase_errors(cells: Iterable[Observed], ns: Mapping[Event, float]) -> dict[str, Floats]:
    """The same of every phase that is long enough to be judged, by its name."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        for name, part in cell.phases.items():
            if part.ns >= LEAST_NS:
                found.setdefault(name, []).append(modelled(part.counts, ns) / part.ns - 1)
    return {name: np.array(errors) for name, errors in sorted(found.items())}


def summary(errors: Floats) -> Error:
    """Median and 90th percentile of the errors' sizes."""
    sizes = np.abs(errors)
    return Error(len(sizes), float(np.median(sizes)), float(np.quantile(sizes, 0.9)))
