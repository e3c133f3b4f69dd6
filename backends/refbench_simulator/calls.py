"""``calls``: one system call on a mapping, again and again; what other workloads hardly do.

:mod:`refbench_simulator.calibration_cells` needs them to tell the cost of a system call from the
cost of what it does.
"""

from __future__ import annotations

from collections.abc import Callable

from refbench.grammar import Option, Values
from refbench.program import (
    Advise,
    Lock,
    Map,
    Measure,
    Phase,
    Program,
    Protect,
    Remap,
    Repeat,
    Step,
    Touch,
    Unmap,
)
from refbench.words import Workload
from refbench.workloads.common import size_option, timed, whole_pages

Steps = tuple[Step, ...]


def _nothing(size: int, page: int, count: int) -> Steps:
    """munlock(2) of a page that is not locked: nothing but the call."""
    call = Lock(0, 0, page, on=False)
    return (*_filled(size, page), *timed("call", Repeat(count, (call,))))


def _dontneed(size: int, page: int, count: int) -> Steps:
    touch = Touch(0, 0, size, "write", page)
    again = (Phase("touch"), touch, Phase("call"), Advise(0, 0, size, "dontneed"))
    return (*timed("map", Map(0, size)), Repeat(count, again))


def _huge(size: int, page: int, count: int) -> Steps:
    """As _dontneed, with huge pages wherever the system lets a program have them."""
    advise = Advise(0, 0, size, "hugepage")
    touch = Touch(0, 0, size, "write", page)
    again = (Phase("touch"), touch, Phase("call"), Advise(0, 0, size, "dontneed"))
    return (*timed("map", Map(0, size), advise), Repeat(count, again))


def _protect(size: int, page: int, count: int) -> Steps:
    calls = (Protect(0, 0, size, "read"), Protect(0, 0, size, "readwrite"))
    return (*_filled(size, page), *timed("call", Repeat(count, calls)))


def _remap(size: int, page: int, count: int) -> Steps:
    calls = (Remap(0, 0, size, 1), Remap(1, 0, size, 0))
    return (*_filled(size, page), *timed("call", Repeat(count, calls)))


def _populate(size: int, page: int, count: int) -> Steps:
    """The kernel faults everything in: the faults of a touch without their exceptions."""
    calls = (Advise(0, 0, size, "populate-write"), Advise(0, 0, size, "dontneed"))
    return (*_filled(size, page), *timed("call", Repeat(count, calls)))


def _filled(size: int, page: int) -> Steps:
    return (
        *timed("map", Map(0, size)),
        *timed("touch", Touch(0, 0, size, "write", page)),
    )


CALLS: dict[str, Callable[[int, int, int], Steps]] = {
    "dontneed": _dontneed,
    "huge": _huge,
    "nothing": _nothing,
    "populate": _populate,
    "protect": _protect,
    "remap": _remap,
}


def _program(values: Values, page_size: int) -> Program:
    size = whole_pages(values, page_size)
    steps = CALLS[values.text("call")](size, page_size, values.integer("count"))
    return Program("calls", (*steps, Phase(), Measure("calls"), *timed("unmap", Unmap(0, 0, size))))


WORKLOAD = Workload(
    "calls",
    "One system call on a mapping, again and again: for `refbench calibrate`.",
    (
        Option("call", "choice", "nothing", "which one", tuple(CALLS)),
        size_option(1 << 20),
        Option("count", "int", 16, "how often", minimum=1, maximum=1 << 20),
    ),
    _program,
    ("time", "time.call", "traps", "syscalls"),
)
