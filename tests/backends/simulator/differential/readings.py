"""Every number of a run under the name of its place, less the agent's own share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refbench.program import Program, Step
from refbench.program import steps as s
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
SYSTEM_SHMEM = "sys_shmem"
CHARGED = ("cgroup_anon", "cgroup_shmem")
"""Within bounds only, as growth since the start: the rest of the system is in it."""


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
        for counter in (SYSTEM_SHMEM, *CHARGED):
            value, before = (getattr(m, counter) for m in (memory, sample.memory["start"]))
            if value is not None and before is not None:
                found[Place(f"memory {label}", counter)] = value - before
        found[Place(f"memory {label}", HELD)] = memory.held
    for number, seen in enumerate(sorted(sample.observations, key=_order)):
        found[Place(f"line {seen.line} #{number}", f"{seen.step} is")] = _told(seen)
    return found


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


def processes(program: Program) -> Mapping[str, int]:
    """By label: how many processes live when the snapshot is taken."""
    found = {"start": 1}
    _count(program.steps, 1, found)
    return found


def _count(steps: Sequence[Step], alive: int, found: dict[str, int]) -> None:
    for step in steps:
        match step:
            case s.Measure(label):
                found[label] = alive
            case s.Fork(child, parent, _):
                _count(child, alive + 1, found)
                _count(parent, alive + 1, found)
            case s.Repeat(_, body):
                _count(body, alive, found)
