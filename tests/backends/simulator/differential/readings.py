"""Every number of a run under the name of its place, less the agent's own share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refbench.samples import Observation, Sample

OWN_FAULTS = ("minor_faults", "major_faults")
"""Of a phase: the agent itself faults here, and its share is taken off."""
COUNTED = ("sigbus", "sigsegv", "uffd_messages", "syscalls", "entries")
"""Of a phase: counted by the program alone."""
OWN_MEMORY = ("rss_anon", "rss_file", "rss_shmem", "pte", "vmas", "uss", "swap", "pss")
"""Of a snapshot: the agent's own pages, tables and mappings are in it and taken off."""
HELD = "held"
"""Bytes of the mechanism's files; exact, and nobody else's."""
PEAK = "hwm"
"""Within bounds only, the agent's share taken off."""
CHARGED = ("cgroup_anon", "cgroup_shmem")
"""Within bounds only, as growth since the start: the rest of the system is in it. The agent's
own processes' growth is taken off."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a number was read: ``phase p1``, ``memory m3`` or ``line 12``, and which number."""

    where: str
    counter: str

    def __str__(self) -> str:
        return f"{self.where}: {self.counter}"


Readings = Mapping[Place, int | str]


def readings(sample: Sample, own: Sample) -> Readings:
    """What ``sample`` says of the program; ``own`` is the same sample of its skeleton."""
    found: dict[Place, int | str] = {}
    for name, phase in sample.phases.items():
        less = own.phases.get(name)
        for counter in OWN_FAULTS:
            share = getattr(less, counter) if less else 0
            found[Place(f"phase {name}", counter)] = getattr(phase, counter) - share
        for counter in COUNTED:
            found[Place(f"phase {name}", counter)] = getattr(phase, counter)
    for label, memory in sample.memory.items():
        share_of = own.memory.get(label)
        for counter in (*OWN_MEMORY, PEAK):
            value, share = getattr(memory, counter), getattr(share_of, counter, None)
            if value is not None and share is not None:
                found[Place(f"memory {label}", counter)] = value - share
        for counter in CHARGED:
            grown = _growth(sample, label, counter), _growth(own, label, counter)
            if grown[0] is not None and grown[1] is not None:
                found[Place(f"memory {label}", counter)] = grown[0] - grown[1]
        found[Place(f"memory {label}", HELD)] = memory.held
    for number, seen in enumerate(sorted(sample.observations, key=_order)):
        found[Place(f"line {seen.line} #{number}", f"{seen.step} is")] = _told(seen)
    return found


def _growth(sample: Sample, label: str, counter: str) -> int | None:
    """Since the start; ``None`` where it cannot be read."""
    if label not in sample.memory:
        return None
    now, before = (getattr(sample.memory[each], counter) for each in (label, "start"))
    return None if now is None or before is None else int(now - before)


def _order(seen: Observation) -> tuple[int, int, int]:
    """Threads report in any order."""
    return seen.line, seen.errno, seen.offset


def _told(seen: Observation) -> str:
    """An observation as one text; of its detail only the signal, which is the kernel's."""
    if seen.ok:
        return "ok"
    told = [seen.detail.split()[0]] if seen.detail.startswith("SIG") else []
    told += [f"errno {seen.errno}"] if seen.errno else []
    told += [f"at {seen.offset}"] if seen.offset else []
    if seen.errors:
        told += [f"{seen.errors} wrong, {seen.got} instead of {seen.wanted}"]
    return ", ".join(told) or f"failed: {seen.detail}"
