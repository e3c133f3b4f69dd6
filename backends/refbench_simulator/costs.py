"""Time: what every kind of work costs, where that was found out, and how wrong it is.

The time of a phase is the sum over the events that the model counted in it (:class:`Event`), each
times its cost. Nothing else enters it: no mechanism, workload or phase has a cost of its own.
:mod:`refbench_simulator.calibration` fits costs, :mod:`refbench_simulator.cost_files` keeps them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from refbench.grammar import format_size
from refbench.samples import CLOCK_NOTE
from refbench_simulator.knobs import Kernel
from refbench_simulator.model.events import USER, Event

BY_SIZE = frozenset(
    {Event.CLEAR, Event.CLEAR_HUGE, Event.COPY, Event.FILL, Event.SWAP, Event.MERGE}
)
"""Events whose cost grows with the page: all bytes of one are touched."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The session that costs were fitted on. ``clock`` is a value of
    :class:`refbench.words.Clock`; ``date`` is ISO 8601, ``page_size`` in bytes."""

    target: str
    clock: str
    kernel: str
    arch: str
    page_size: int
    date: str


@dataclass(frozen=True, slots=True)
class Error:
    """How far modelled times were from measured ones, on cells that the fit had not seen.

    ``median`` and ``most`` (the 90th percentile) are of ``|modelled / measured - 1|`` of the whole
    time of a cell; ``cells`` is how many there were.
    """

    cells: int
    median: float
    most: float


@dataclass(frozen=True, slots=True)
class Times:
    """Modelled nanoseconds of a phase; user and system time add up to the whole."""

    ns: int
    user_ns: int
    system_ns: int


@dataclass(frozen=True, slots=True)
class Costs:
    """A cost table: nanoseconds of each event on pages of ``origin.page_size``.

    ``assumed`` are the events that no measured cell has exercised; their costs are another
    table's, made longer or shorter by as much as the measured ones differ from it.
    """

    name: str
    ns: Mapping[Event, float]
    origin: Origin
    error: Error
    assumed: frozenset[Event] = field(default=frozenset())

    def time(self, counts: Mapping[Event, int], page_size: int) -> Times:
        """The time of the events ``counts`` on pages of ``page_size`` bytes."""
        larger = page_size / self.origin.page_size
        parts = {
            event: count * self.ns[event] * (larger if event in BY_SIZE else 1.0)
            for event, count in counts.items()
        }
        # fsum() rounds once: the order in which events were met makes no difference.
        ns = round(math.fsum(parts.values()))
        user = round(math.fsum(part for event, part in parts.items() if event in USER))
        return Times(ns, user, ns - user)

    @property
    def digest(self) -> str:
        """Names the costs: equal for equal ones."""
        text = "\n".join(f"{event.value}={self.ns[event]!r}" for event in Event)
        return hashlib.sha256(f"{text}\n{self.origin.page_size}".encode()).hexdigest()[:8]

    def note(self, kernel: Kernel) -> str:
        """The phrase that stands with every time that is modelled for ``kernel``."""
        origin, error = self.origin, self.error
        what = "modelled time" if origin.clock == "real" else f"modelled {origin.clock}"
        phrase = (
            f"{what}: median error {error.median:.1%}, 90th percentile {error.most:.1%}, on "
            f"{error.cells} held-out cells; calibrated on {origin.target} (Linux {origin.kernel} "
            f"{origin.arch}, {origin.date})"
        )
        other = [
            f"{mine} instead of {theirs}"
            for mine, theirs in (
                (kernel.arch, origin.arch),
                (format_size(kernel.page_size), format_size(origin.page_size)),
            )
            if mine != theirs
        ]
        return f"{phrase}; beyond it, unchecked: {', '.join(other)}" if other else phrase

    def facts(self, kernel: Kernel) -> dict[str, str]:
        """What a session's environment says about its times."""
        return {
            "costs": f"{self.name} {self.digest}",
            "costs-error": f"{self.error.median:.1%}",
            CLOCK_NOTE: self.note(kernel),
        }
