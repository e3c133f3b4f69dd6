"""``pressure``: memory is taken back and wanted again, with swap or without.

What a *limit* means is the target's: nothing in a program sets one. ``reclaim=pageout`` asks the
kernel to take the mapping's pages back (MADV_PAGEOUT), which needs none: anonymous pages go to
swap where there is some and stay otherwise, a file's pages lose the entry that shows them.
``reclaim=none`` leaves it to a limit smaller than ``size``: ``simulator:memory=32MiB,swap=1GiB``,
or a memory cgroup that refbench is started in (MemoryMax).
"""

from __future__ import annotations

from refbench.errors import UsageError
from refbench.grammar import Option, Values
from refbench.program import (
    Advise,
    Map,
    Measure,
    Phase,
    Program,
    Repeat,
    Settle,
    Step,
    Touch,
    Unmap,
)
from refbench.words import Workload
from refbench.workloads.common import checked, size_option, timed, whole_pages

_AGAIN = Option("access", "choice", "read", "what a round does", ("read", "write"))


def _program(values: Values, page_size: int) -> Program:
    size = whole_pages(values, page_size)
    stride = values.integer("stride") * page_size
    if stride > size:
        raise UsageError(
            f"A stride of {values.integer('stride')} pages is larger than the mapping.",
            remedy="Give a larger size or a smaller stride.",
        )
    first = Touch(0, 0, size, "write", stride)
    again = Touch(0, 0, size, values.text("access"), stride)  # type: ignore[arg-type]
    reclaim: tuple[Step, ...] = ()
    if values.text("reclaim") == "pageout":
        reclaim = (Phase("reclaim"), Advise(0, 0, size, "pageout"), Phase(), Measure("reclaim"))
    return Program(
        "pressure",
        (
            *timed("map", Map(0, size)),
            Settle(),
            Measure("map"),
            *timed("touch", first),
            Measure("touch"),
            Repeat(
                values.integer("rounds"),
                (*reclaim, Phase("again"), again, Phase(), Measure("again")),
            ),
            *checked(first, page_size),
            *timed("unmap", Unmap(0, 0, size)),
            Measure("end"),
        ),
    )


WORKLOAD = Workload(
    "pressure",
    "Write some pages; then, again and again, have the kernel take them back and access them.",
    (
        size_option(16 << 20),
        Option("stride", "int", 1, "pages from one touch to the next", minimum=1),
        Option("rounds", "int", 4, "how often", minimum=1, maximum=1 << 20),
        _AGAIN,
        Option(
            "reclaim",
            "choice",
            "pageout",
            "pageout: MADV_PAGEOUT before each round; none: a limit on memory does it",
            ("pageout", "none"),
        ),
    ),
    _program,
    ("time", "time.reclaim", "time.again", "major", "traps", "lost.reclaim", "rss.reclaim"),
)
