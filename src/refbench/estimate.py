"""About how long a run will take, before anything has been measured.

A rough guide for people who wait, not a result: it counts a program's touches and the bytes
that it maps, and multiplies them with typical costs, which an emulator multiplies again. A model
works a program out and does not run it, whatever its size. The first round of a session replaces
all of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from refbench.grammar import Spec
from refbench.program import (
    Execute,
    Fork,
    Map,
    MapAnonymous,
    Parallel,
    Program,
    Repeat,
    Step,
    Touch,
)
from refbench.words import Clock

PROCESS = 3e-3
"""Seconds for starting one agent."""
SNAPSHOT = 0.5e-3
"""Seconds that a sample spends on memory snapshots and checks."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that one mechanism takes for a mapped byte, a mapped block and a touched page."""

    byte: float = 0.0
    block: float = 0.0
    touch: float = 1.0e-6
    settle: float = 0.0


_DEFAULT = Cost(byte=1e-9, touch=5e-6)
_COSTS = {
    "anon": Cost(),
    "memset": Cost(byte=0.4e-9, touch=0.1e-6),
    "memfd": Cost(block=4e-6, touch=2e-6),
    "memfd-full": Cost(byte=0.5e-9),
    "uffd": Cost(touch=12e-6),
    "uffd-sigbus": Cost(touch=4e-6),
    "segv": Cost(touch=6e-6),
    "refpage": Cost(),
    "refpage-mmap": Cost(),
    "refpage-dev": Cost(),
    "ksm": Cost(byte=0.6e-9, touch=2e-6, settle=0.4),
}
"""Read off runs on one x86_64 machine under virtualisation, rounded up."""


class Pace(Enum):
    """How fast a target gets on: on a processor, in an emulator of one, or in a model's head."""

    NATIVE = "native"
    EMULATED = "emulated"
    MODELLED = "modelled"


EMULATED_PROCESS = 0.5
EMULATED_TIMES = 20.0
"""An emulator: seconds for bringing a guest back to its snapshot and starting an agent there, and
how much longer all else takes. Read off QEMU's TCG on the machine of :data:`_COSTS`, others
working there too."""
_MODELLED = {"segv": 150e-3, "ksm": 10e-3}
_MODELLED_DEFAULT = 4e-3
"""Seconds that the simulator works on a sample, rows of pages being worked out together."""


def pace(clock: Clock, environment: Mapping[str, str]) -> Pace:
    """The pace of a session: what its clock and the facts of its environment tell of it."""
    if clock is Clock.MODELLED:
        return Pace.MODELLED
    emulated = clock is Clock.INSTRUCTIONS or environment.get("accel") == "tcg"
    return Pace.EMULATED if emulated else Pace.NATIVE


def run_seconds(
    program: Program,
    mechanism: Spec,
    page_size: int,
    iterations: int,
    *,
    pace: Pace = Pace.NATIVE,
) -> float:
    """Seconds for one run of ``program``: a process, a warm-up and ``iterations`` samples."""
    if pace is Pace.MODELLED:
        return _MODELLED.get(mechanism.name, _MODELLED_DEFAULT) * (1 + iterations)
    native = _sample_seconds(program, mechanism, page_size) * (1 + iterations)
    if pace is Pace.EMULATED:
        return EMULATED_PROCESS + EMULATED_TIMES * native
    return PROCESS + native


def _sample_seconds(program: Program, mechanism: Spec, page_size: int) -> float:
    """Seconds for one sample on a processor."""
    cost = _COSTS.get(mechanism.name, _DEFAULT)
    mapped, touched = _totals(program.steps)
    blocks = mapped / (page_size * int(mechanism.get("block", "1"), 0)) if cost.block else 0
    return (
        SNAPSHOT
        + mapped * cost.byte
        + blocks * cost.block
        + touched * cost.touch
        + (cost.settle if mapped else 0)
        + _executing(program.steps)
    )


def _executing(steps: tuple[Step, ...]) -> float:
    """Seconds that the programs take which a program executes, as their workload has it."""
    seconds = 0.0
    for step in steps:
        match step:
            case Execute():
                seconds += step.seconds
            case Repeat(count, body):
                seconds += count * _executing(body)
            case _:
                pass
    return seconds


def _totals(steps: tuple[Step, ...]) -> tuple[int, int]:
    """Bytes mapped and places touched."""
    mapped = touched = 0
    for step in steps:
        times = 1
        bodies: tuple[tuple[Step, ...], ...] = ()
        match step:
            case Map(_, size) | MapAnonymous(_, size):
                mapped += size
            case Touch():
                places = -(-step.length // step.stride)
                touched += min(places, step.count or places)
            case Repeat(count, body):
                times, bodies = count, (body,)
            case Fork(child, parent):
                bodies = (child, parent)
            case Parallel(groups):
                bodies = tuple(group.body for group in groups)
            case _:
                pass
        for body in bodies:
            inner = _totals(body)
            mapped += times * inner[0]
            touched += times * inner[1]
    return mapped, touched
