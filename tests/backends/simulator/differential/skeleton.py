"""The agent's own share of what a program costs, by running the program without its memory.

A *skeleton* has the processes, threads, phases and snapshots of a program and none of the steps
that name a region. What the agent's own pages cost then (a fault after each fork, page tables,
pages that parent and child share) is what remains. So that the agent's tables are as large for
the one as for the other, each observed step is replaced by one that does nothing, a region comes
when all is over, and comments make up for the lines that are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from refbench.program import Program, Step, dump
from refbench.program import steps as s


@dataclass(frozen=True, slots=True)
class Padded(Program):
    """A program with comments at its end."""

    comments: int = 0

    def text(self) -> str:
        """The program file."""
        return dump(self) + "#\n" * self.comments


def with_skeleton(program: Program, page: int) -> tuple[Program, Program]:
    """``program`` and its skeleton, of equally many lines."""
    steps = _bare(program.steps)
    if _has_regions(program.steps):
        steps = (*steps, s.Phase(), s.Map(0, page))
    bare = Program("skeleton", steps, program.observe_all)
    lines = [_lines(each) for each in (program, bare)]
    return _padded(program, max(lines) - lines[0]), _padded(bare, max(lines) - lines[1])


def _has_regions(steps: Sequence[Step]) -> bool:
    """Every region is mapped somewhere, or the agent refuses the program."""
    match steps:
        case ():
            return False
        case (s.Map(), *_):
            return True
        case (s.Fork(child, parent, _), *rest):
            return _has_regions((*child, *parent, *rest))
        case (s.Repeat(_, body), *rest):
            return _has_regions((*body, *rest))
        case _:
            return _has_regions(steps[1:])


def _lines(program: Program) -> int:
    return program.text().count("\n")


def _padded(program: Program, comments: int) -> Program:
    return Padded(program.name, program.steps, program.observe_all, comments=comments)


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
            return s.Parallel(tuple(replace(each, body=_bare(each.body)) for each in groups))
        case s.Map() | s.Unmap():
            return None
    return s.Settle()
