"""The phases of a sample: what was counted under each name, and the time that it takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from refbench.samples import PhaseCounters
from refbench_simulator.costs import Costs
from refbench_simulator.model.events import Event
from refbench_simulator.model.machine import Machine

FIELDS = ("minor", "major", "syscalls", "sigbus", "sigsegv", "messages")


@dataclass(slots=True)
class Total:
    """What is under one name so far."""

    entries: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FIELDS, 0))
    events: Counter[Event] = field(default_factory=Counter)


class Phases:
    """The clock of one sample. Only one process runs at a time, so there is one."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.current = ""
        self.totals: dict[str, Total] = {}
        self._since = self._now()

    def enter(self, name: str) -> None:
        """What follows is under ``name``; empty: under none."""
        self.stop()
        self.current = name
        if name:
            self.totals.setdefault(name, Total()).entries += 1

    def stop(self) -> str:
        """The clock stands; what :meth:`go` takes to go on."""
        name, self.current = self.current, ""
        now = self._now()
        events = self.machine.ledger.take()
        if name:
            total = self.totals[name]
            for field_name in FIELDS:
                total.counts[field_name] += now[field_name] - self._since[field_name]
            total.events += events
        self._since = now
        return name

    def go(self, name: str) -> None:
        """The clock goes on under the name that :meth:`stop` gave back."""
        self.stop()
        self.current = name

    def skip(self, name: str) -> None:
        """The clock goes on under ``name``; what was counted since it stood is in the totals."""
        self._since = self._now()
        self.current = name

    def _now(self) -> dict[str, int]:
        counters = self.machine.counters
        return {name: getattr(counters, name) for name in FIELDS}

    def drop(self, name: str) -> None:
        """Forget a name: there was nothing to do under it."""
        self.stop()
        self.totals.pop(name, None)

    def counters(self, costs: Costs, page_size: int) -> dict[str, PhaseCounters]:
        """As a sample has them."""
        found = {}
        for name, total in self.totals.items():
            times = costs.time(total.events, page_size)
            found[name] = PhaseCounters(
                ns=times.ns,
                user_ns=times.user_ns,
                system_ns=times.system_ns,
                minor_faults=total.counts["minor"],
                major_faults=total.counts["major"],
                syscalls=total.counts["syscalls"],
                sigbus=total.counts["sigbus"],
                sigsegv=total.counts["sigsegv"],
                uffd_messages=total.counts["messages"],
                entries=total.entries,
            )
        return found
