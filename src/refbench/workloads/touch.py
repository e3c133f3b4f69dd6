"""``sparse-touch`` and ``dense-touch``: map once, touch some or all pages, unmap."""

from __future__ import annotations

from refbench.errors import UsageError
from refbench.grammar import Option, Values
from refbench.program import Map, Measure, Parallel, Program, Settle, Step, Threads, Touch, Unmap
from refbench.words import Workload
from refbench.workloads.common import (
    ACCESS,
    ORDER,
    SEED,
    checked,
    size_option,
    timed,
    whole_pages,
)

CHURN_SIZE = 64
"""Pages that the other thread maps, touches and unmaps again under ``churn``."""

_HEADLINE = ("time", "time.map", "time.touch", "lost", "rss", "traps.touch", "vmas")
_THREADS = (
    Option("threads", "int", 1, "threads that share the touches", minimum=1, maximum=64),
    Option("churn", "bool", False, "another thread maps, touches and unmaps meanwhile"),
)


def _stride(default: int) -> Option:
    return Option("stride", "int", default, "pages from one touch to the next", minimum=1)


def _program(name: str, values: Values, page_size: int, stride: int) -> Program:
    size = whole_pages(values, page_size)
    if stride * page_size > size:
        raise UsageError(
            f"A stride of {stride} pages is larger than the mapping of {size // page_size} pages.",
            remedy="Give a larger size or a smaller stride.",
        )
    threads = values.integer("threads")
    churn = values.switch("churn")
    touch = Touch(
        0,
        0,
        size,
        values.text("access"),  # type: ignore[arg-type]
        stride * page_size,
        order=values.text("order"),  # type: ignore[arg-type]
        seed=values.integer("seed"),
        shared=threads > 1 or churn,
    )
    work: Step = touch
    if touch.shared:
        groups: tuple[Threads, ...] = (Threads(threads, (touch,)),)
        if churn:
            groups += (Threads(1, _churn(page_size), loop=True),)
        work = Parallel(groups)
    return Program(
        name,
        (
            *timed("map", Map(0, size)),
            Settle(),
            Measure("map"),
            *timed("touch", work),
            Measure("touch"),
            *checked(touch, page_size),
            *timed("unmap", Unmap(0, 0, size)),
            Measure("end"),
        ),
    )


def _churn(page_size: int) -> tuple[Step, ...]:
    size = CHURN_SIZE * page_size
    return (Map(1, size), Touch(1, 0, size, "write", page_size), Unmap(1, 0, size))


def _sparse(values: Values, page_size: int) -> Program:
    return _program("sparse-touch", values, page_size, values.integer("stride"))


def _dense(values: Values, page_size: int) -> Program:
    return _program("dense-touch", values, page_size, 1)


SPARSE = Workload(
    "sparse-touch",
    "Map once, touch one byte in every stride-th page: a large allocation, used sparsely.",
    (size_option(64 << 20), _stride(16), ACCESS, ORDER, SEED, *_THREADS),
    _sparse,
    _HEADLINE,
)

DENSE = Workload(
    "dense-touch",
    "Map once, touch one byte in every page: the allocation is used whole.",
    (size_option(16 << 20), ACCESS, ORDER, SEED, *_THREADS),
    _dense,
    _HEADLINE,
)
