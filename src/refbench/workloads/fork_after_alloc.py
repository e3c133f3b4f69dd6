"""``fork-after-alloc``: a process with touched and clean pages forks, then one side goes on."""

from __future__ import annotations

from refbench.errors import UsageError
from refbench.grammar import Option, Values
from refbench.program import Expect, Fork, Map, Measure, Phase, Program, Settle, Step, Touch, Unmap
from refbench.words import Workload
from refbench.workloads.common import ACCESS, size_option, timed, whole_pages

BEFORE = 0x33
"""What the parent stores before the fork, so that it differs from what comes after."""


def _program(values: Values, page_size: int) -> Program:
    size = whole_pages(values, page_size)
    before, after = values.integer("touched"), values.integer("stride")
    if max(before, after) * page_size > size:
        raise UsageError(
            f"A stride of {max(before, after)} pages is larger than the mapping.",
            remedy="Give a larger size or a smaller stride.",
        )
    first = Touch(0, 0, size, "write", before * page_size, value=BEFORE)
    again = Touch(0, 0, size, values.text("access"), after * page_size)  # type: ignore[arg-type]
    return Program(
        "fork-after-alloc",
        (
            *timed("map", Map(0, size)),
            Settle(),
            Measure("map"),
            *timed("touch", first),
            Measure("touch"),
            *_forked(values.integer("depth"), values.text("who"), again, page_size),
            *timed("unmap", Unmap(0, 0, size)),
            Measure("end"),
        ),
    )


def _forked(depth: int, who: str, again: Touch, page_size: int) -> tuple[Step, ...]:
    """One fork inside the child of the one before, ``depth`` times; the innermost works."""
    work: tuple[Step, ...] = (
        *timed(who, again),
        Measure(who),
        Expect(0, 1, again.length - 1, "pattern", stride=page_size, once=True),
    )
    child: tuple[Step, ...] = work if who == "child" else (Measure("child"),)
    if depth > 1:
        child = _forked(depth - 1, who, again, page_size)
    parent: tuple[Step, ...] = work if who == "parent" and depth == 1 else ()
    return (Phase("fork"), Fork(child, (*parent, Phase("exit"))), Phase())


WORKLOAD = Workload(
    "fork-after-alloc",
    "Map, touch some pages, fork; then the child or the parent touches some, and exits.",
    (
        size_option(16 << 20),
        Option("touched", "int", 4, "before the fork, write every n-th page", minimum=1),
        Option("stride", "int", 2, "after the fork, touch every n-th page", minimum=1),
        Option("who", "choice", "child", "who touches after the fork", ("child", "parent")),
        ACCESS,
        Option("depth", "int", 1, "forks inside one another", minimum=1, maximum=12),
    ),
    _program,
    ("time", "time.fork", "lost", "rss", "traps"),
)
