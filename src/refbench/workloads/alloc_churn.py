"""``alloc-churn``: map, touch, unmap, again and again; then a process exits with it mapped."""

from __future__ import annotations

from refbench.errors import UsageError
from refbench.grammar import Option, Values
from refbench.program import Fork, Map, Measure, Phase, Program, Repeat, Settle, Touch, Unmap
from refbench.words import Workload
from refbench.workloads.common import ACCESS, checked, size_option, whole_pages


def _program(values: Values, page_size: int) -> Program:
    size = whole_pages(values, page_size)
    stride = values.integer("stride")
    if stride * page_size > size:
        raise UsageError(
            f"A stride of {stride} pages is larger than the mapping.",
            remedy="Give a larger size or a smaller stride.",
        )
    touch = Touch(0, 0, size, values.text("access"), stride * page_size)  # type: ignore[arg-type]
    again = (
        Phase("map"),
        Map(0, size),
        Phase("touch"),
        touch,
        Phase("unmap"),
        Unmap(0, 0, size),
    )
    last = Touch(1, 0, size, touch.access, touch.stride)
    return Program(
        "alloc-churn",
        (
            Repeat(values.integer("count"), again),
            Phase(),
            Map(1, size),
            Settle(),
            Measure("map"),
            last,
            Measure("touch"),
            *checked(last, page_size),
            Fork((Measure("child"),), (Phase("exit"),)),
            Phase(),
            Unmap(1, 0, size),
            Measure("end"),
        ),
    )


WORKLOAD = Workload(
    "alloc-churn",
    "Map, touch some pages, unmap, again and again; then a forked copy of the process exits.",
    (
        size_option(1 << 20),
        Option("count", "int", 64, "how often", minimum=1, maximum=1 << 20),
        Option("stride", "int", 4, "pages from one touch to the next", minimum=1),
        ACCESS,
    ),
    _program,
    ("time", "time.map", "time.touch", "time.unmap", "lost", "traps", "syscalls"),
)
