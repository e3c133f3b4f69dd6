"""Blocks that repeat themselves: when the machine is as it was some rounds ago, what those rounds
counted is counted again for all that are left.

The model is deterministic, so that equal states have equal futures. Two states are equal when
everything that a machine and a process are made of is; only the numbers of ``anon_vma``
structures, which count up for ever, are put in order before.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from refbench_simulator.content import Contents
from refbench_simulator.model.events import Event, Ledger
from refbench_simulator.model.machine import Counters, Machine
from refbench_simulator.model.tables import Layout
from refbench_simulator.phases import FIELDS, Phases, Total
from refbench_simulator.process import Process
from refbench_simulator.rows import Rows

FEW = 3
"""Rounds that are worth no look at all."""
LOOKS = 12
"""Rounds after which a block that does not repeat itself is taken to be one that never will."""


@dataclass(frozen=True, slots=True)
class _Seen:
    round: int
    totals: dict[str, Total]
    counters: Counters


class Rounds:
    """The rounds of one ``repeat`` of a process."""

    def __init__(self, machine: Machine, process: Process, phases: Phases) -> None:
        self.machine, self.process, self.phases = machine, process, phases

    def run(self, count: int, once: Callable[[], None], quiet: Callable[[], bool]) -> None:
        """Do it ``count`` times. ``quiet``: whether nothing was observed so far that would have
        to be observed again."""
        seen: dict[bytes, _Seen] = {}
        at = 0
        while at < count:
            once()
            at += 1
            if count <= FEW or at > LOOKS or not quiet():
                continue
            state = self._state()
            before = seen.get(state) if state else None
            if before is not None:
                at += self._again(before, at, count)
                seen = {}
            elif state:
                seen[state] = self._now(at)

    def _now(self, at: int) -> _Seen:
        self.phases.go(self.phases.stop())
        counters = Counters(**{name: getattr(self.machine.counters, name) for name in FIELDS})
        return _Seen(at, deepcopy(self.phases.totals), counters)

    def _again(self, before: _Seen, at: int, count: int) -> int:
        """Count what the rounds since ``before`` counted as often as fits; the rounds skipped."""
        span = at - before.round
        times = (count - at) // span
        if not times:
            return 0
        phase = self.phases.stop()
        for name in FIELDS:
            now = getattr(self.machine.counters, name)
            more = times * (now - getattr(before.counters, name))
            setattr(self.machine.counters, name, now + more)
        for name, total in self.phases.totals.items():
            old = before.totals.get(name, Total())
            total.entries += times * (total.entries - old.entries)
            for key in FIELDS:
                total.counts[key] += times * (total.counts[key] - old.counts[key])
            more_events = Counter[Event](total.events)
            more_events.subtract(old.events)
            for event, number in more_events.items():
                total.events[event] += times * number
        self.phases.skip(phase)
        return times * span

    def _state(self) -> bytes:
        """A digest of everything that what comes next depends on; empty when there is none."""
        _put_in_order(self.machine)
        digest = hashlib.blake2b()
        buffer = io.BytesIO()
        taken: list[pickle.PickleBuffer] = []
        pickler = _Pickler(buffer, protocol=5, buffer_callback=taken.append)
        machine = self.machine
        counters, machine.counters = machine.counters, Counters()
        try:
            pickler.dump((machine, self.process, self.phases.current))
        except (pickle.PicklingError, TypeError, AttributeError):
            return b""
        finally:
            machine.counters = counters
        digest.update(buffer.getbuffer())
        for part in taken:
            digest.update(part.raw())
        return digest.digest()


class _Pickler(pickle.Pickler):
    """Leaves out what never changes, and the ledger, which looks back only."""

    def persistent_id(self, obj: object) -> str | None:
        if isinstance(obj, (Rows, Layout, Ledger)):
            return type(obj).__name__
        # Contents come back to the numbers that they had: see Contents.stamped().
        return "Contents" if isinstance(obj, Contents) else None


def _put_in_order(machine: Machine) -> None:
    """Number the ``anon_vma`` structures from 1 on, in the order of their old numbers."""
    there = np.zeros(machine.next_anon_vma, np.bool_)
    for space in machine.spaces:
        there[space.anon_vma] = True
    there[0] = False
    numbers = np.cumsum(there).astype(np.int32)
    numbers[0] = 0
    for space in machine.spaces:
        space.anon_vma = numbers[space.anon_vma]
    machine.next_anon_vma = int(numbers[-1]) + 1
