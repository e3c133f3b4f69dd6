"""Numbers read out of samples: sums over phases, growth of memory between two snapshots.

Each function takes a sample and a *part*, the name of a phase or the label of a snapshot; an empty
part stands for all of them. It gives ``None`` where the sample does not have the number. What the
numbers are called and mean is in :mod:`refbench.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from refbench.samples import MemorySnapshot, PhaseCounters, Sample

Source = Literal["clock", "process", "cgroup", "system"]

SETUP = "setup"
START = "start"


_OF_PROCESS = (
    *("rss", "rss_anon", "rss_file", "rss_shmem", "hwm", "pte", "vmas"),
    *("pss", "uss", "swap", "ksm", "held"),
)
"""The fields of a snapshot that are the process's own."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A value and where it comes from: the session's clock, the process, the memory cgroup of
    the run, or the whole system."""

    value: float
    source: Source


# -- phases ------------------------------------------------------------------------------------


def _counted(sample: Sample, part: str) -> list[PhaseCounters]:
    if part:
        return [sample.phases[part]] if part in sample.phases else []
    return [counters for name, counters in sample.phases.items() if name != SETUP]


def seconds(field: str, sample: Sample, part: str) -> Reading | None:
    """Nanoseconds of ``field``, summed over the phases, in seconds."""
    found = _counted(sample, part)
    if not found:
        return None
    return Reading(sum(getattr(counters, field) for counters in found) / 1e9, "clock")


def cpu(sample: Sample, part: str) -> Reading | None:
    """User and system CPU time, in seconds."""
    found = _counted(sample, part)
    if not found:
        return None
    return Reading(sum(counters.user_ns + counters.system_ns for counters in found) / 1e9, "clock")


def count(field: str, sample: Sample, part: str) -> Reading | None:
    """The counter ``field``, summed over the phases."""
    found = _counted(sample, part)
    if not found:
        return None
    return Reading(float(sum(getattr(counters, field) for counters in found)), "process")


# -- memory ------------------------------------------------------------------------------------


def _largest(
    sample: Sample,
    part: str,
    at: Callable[[MemorySnapshot, MemorySnapshot], float | None],
    source: Source,
) -> Reading | None:
    """The largest of ``at(start, there)`` over the labels that ``part`` leaves."""
    start = sample.memory.get(START)
    if start is None:
        return None
    there = [sample.memory[part]] if part in sample.memory else []
    if not part:
        there = [snapshot for label, snapshot in sample.memory.items() if label != START]
    found = [at(_from_nothing(start) if made.executed else start, made) for made in there]
    values = [value for value in found if value is not None]
    return Reading(float(max(values)), source) if values else None


def _from_nothing(start: MemorySnapshot) -> MemorySnapshot:
    """``start`` as a program that was executed had it: nothing of its own."""
    own: dict[str, Any] = dict.fromkeys(_OF_PROCESS, 0)
    return replace(start, **own)


def _difference(field: str, start: MemorySnapshot, there: MemorySnapshot) -> float | None:
    before, after = getattr(start, field), getattr(there, field)
    return None if before is None or after is None else float(after - before)


def growth(fields: Mapping[str, Source], sample: Sample, part: str) -> Reading | None:
    """Growth of the first of ``fields`` that can be read here."""
    for field, source in fields.items():
        reading = _largest(sample, part, partial(_difference, field), source)
        if reading is not None:
            return reading
    return None


def level(field: str, sample: Sample, part: str) -> Reading | None:
    """The largest value of ``field``, which is no growth."""

    def there(_: MemorySnapshot, snapshot: MemorySnapshot) -> float:
        return float(getattr(snapshot, field))

    return _largest(sample, part, there, "process")


def _slab_of_cgroup(start: MemorySnapshot, there: MemorySnapshot) -> float | None:
    """Version 1 counts kernel memory as a whole: page tables are taken off again."""
    kernel = _difference("cgroup_kernel", start, there)
    return None if kernel is None else kernel - (there.pte - start.pte)


def slab(sample: Sample, part: str) -> Reading | None:
    """Kernel objects: of the cgroup where it counts them, else of the system."""
    return (
        growth({"cgroup_slab": "cgroup"}, sample, part)
        or _largest(sample, part, _slab_of_cgroup, "cgroup")
        or growth({"sys_slab": "system"}, sample, part)
    )


def peak(sample: Sample, part: str) -> Reading | None:
    """How far the high-water mark of the cgroup lies above its value at the start."""

    def above(start: MemorySnapshot, there: MemorySnapshot) -> float | None:
        if start.cgroup_current is None or there.cgroup_peak is None:
            return None
        return float(there.cgroup_peak - start.cgroup_current)

    return _largest(sample, part, above, "cgroup")


def _lost_to_cgroup(start: MemorySnapshot, there: MemorySnapshot) -> float | None:
    growth = _difference("cgroup_current", start, there)
    return None if growth is None else growth + start.held


def _lost_to_process(start: MemorySnapshot, there: MemorySnapshot) -> float:
    anonymous = there.rss_anon - start.rss_anon
    merged = (there.ksm or 0) - (start.ksm or 0)
    return float(anonymous - merged + there.held + there.pte - start.pte)


def lost(sample: Sample, part: str) -> Reading | None:
    """What the system has less: by the cgroup, else by the process's own counters."""
    charged = _largest(sample, part, _lost_to_cgroup, "cgroup")
    return charged or _largest(sample, part, _lost_to_process, "process")
