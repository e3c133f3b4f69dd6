"""A program's steps with the lines that they have in the program file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refbench import program as p


@dataclass(frozen=True, slots=True)
class Node:
    """One step where it stands. ``bodies``: of a repeat one, of a fork the child's and the
    parent's, of a parallel one for each group."""

    line: int
    step: p.Step
    bodies: tuple[tuple[Node, ...], ...] = ()


def numbered(program: p.Program) -> tuple[Node, ...]:
    """Every step of ``program`` with its line in :meth:`~refbench.program.Program.text`."""
    header = 3 if program.observe_all else 2
    return _block(program.steps, header + 1)[0]


def _block(steps: Sequence[p.Step], line: int) -> tuple[tuple[Node, ...], int]:
    """The nodes of a block that begins at ``line``, and the line behind it."""
    nodes = []
    for step in steps:
        node, line = _node(step, line)
        nodes.append(node)
    return tuple(nodes), line


def _node(step: p.Step, line: int) -> tuple[Node, int]:
    match step:
        case p.Repeat():
            inner, behind = _block(step.body, line + 1)
            return Node(line, step, (inner,)), behind + 1
        case p.Fork(child, parent):
            first, middle = _block(child, line + 1)
            second, behind = _block(parent, middle + 1)
            return Node(line, step, (first, second)), behind + 1
        case p.Parallel(groups):
            threads: list[tuple[Node, ...]] = []
            at = line + 1
            for group in groups:
                inner, at = _block(group.body, at + 1)
                threads.append(inner)
                at += 1
            return Node(line, step, tuple(threads)), at + 1
        case _:
            return Node(line, step), line + 1
