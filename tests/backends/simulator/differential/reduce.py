"""Making a disagreeing program smaller, quickly: what is not needed for it is left out.

hypothesis shrinks numbers better and takes longer; this alone is for a survey of many programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from refbench.program import Program, Step
from refbench.program import steps as s

Steps = tuple[Step, ...]
Still = Callable[[Program], bool]


def reduced(program: Program, still: Still, trials: int) -> Program:
    """A smaller program for which ``still`` holds as it does for this one."""
    again = True
    while again:
        again = False
        for smaller in _smaller(program):
            if not trials:
                return program
            trials -= 1
            if still(smaller):
                program, again = smaller, True
                break
    return program


def verbs(program: Program) -> frozenset[str]:
    """The kinds of steps that a program has, without phases and snapshots."""
    return frozenset(_verbs(program.steps))


def _verbs(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        match step:
            case s.Fork(child, parent, _):
                yield "fork"
                yield from _verbs((*child, *parent))
            case s.Repeat(_, body):
                yield "repeat"
                yield from _verbs(body)
            case s.Parallel(groups):
                yield "threads"
                for group in groups:
                    yield from _verbs(group.body)
            case s.Touch(access=access):
                yield f"touch-{access}"
            case s.Advise(advice=advice):
                yield advice
            case s.Map(populate=True):
                yield "map-populate"
            case s.Phase() | s.Measure():
                pass
            case _:
                yield type(step).__name__.lower()


def _smaller(program: Program) -> Iterator[Program]:
    """Halves of the steps, single steps, blocks without their frame, shorter touches."""
    steps = program.steps
    half = len(steps) // 2
    if half > 1:
        yield replace(program, steps=steps[:half])
        yield replace(program, steps=steps[half:])
    for fewer in _fewer(steps):
        yield replace(program, steps=fewer)


def _fewer(steps: Steps) -> Iterator[Steps]:
    for at in range(len(steps) - 1, -1, -1):
        before, step, after = steps[:at], steps[at], steps[at + 1 :]
        yield before + after
        for instead in _instead(step):
            yield before + instead + after


def _instead(step: Step) -> Iterator[Steps]:
    """What may stand in the place of a step."""
    match step:
        case s.Fork(child, parent, first):
            yield parent
            yield child
            if first:
                yield (replace(step, parent_first=False),)
            yield from ((replace(step, child=fewer),) for fewer in _fewer(child))
            yield from ((replace(step, parent=fewer),) for fewer in _fewer(parent))
        case s.Repeat(_, body):
            yield body
            if step.count > 1:
                yield (replace(step, count=1),)
            yield from ((replace(step, body=fewer),) for fewer in _fewer(body) if fewer)
        case s.Parallel(groups):
            yield tuple(each for group in groups for each in group.body)
            if len(groups) > 1:
                yield from ((s.Parallel((group,)),) for group in groups)
        case s.Touch():
            yield from ((each,) for each in _plainer(step))
        case s.Expect(stride=stride) if stride != 1 and step.length <= 1 << 16:
            yield (replace(step, stride=1),)
        case s.Map(populate=True):
            yield (replace(step, populate=False),)


def _plainer(step: s.Touch) -> Iterator[s.Touch]:
    if step.count != 1:
        yield replace(step, count=1)
    if step.count > 1:
        yield replace(step, count=step.count // 2)
    if step.order != "forward":
        yield replace(step, order="forward", seed=0)
    if step.access == "readwrite":
        yield replace(step, access="write")
        yield replace(step, access="read")
    if step.size > 1:
        yield replace(step, size=1)
