"""The agent's own share of what a program costs, by running the program without its memory.

A *skeleton* has the processes, threads, phases and snapshots of a program and none of the steps
that name a region. What the agent's own pages cost then (a fault after each fork, page tables,
pages that parent and child share) is what remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from refbench.program import Program, Step
from refbench.program import steps as s


def skeleton(program: Program) -> Program:
    """``program`` without regions."""
    return replace(program, name="skeleton", steps=_bare(program.steps))


def _bare(steps: Sequence[Step]) -> tuple[Step, ...]:
    return tuple(kept for step in steps if (kept := _kept(step)) is not None)


def _kept(step: Step) -> Step | None:
    match step:
        case s.Phase() | s.Measure():
            return step
        case s.Fork(child, parent, _):
            return replace(step, child=_bare(child), parent=_bare(parent))
        case s.Repeat(_, body):
            return replace(step, body=_bare(body))
        case s.Parallel(groups):
            return s.Parallel(tuple(replace(each, body=()) for each in groups))
    return None
