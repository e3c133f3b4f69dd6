"""The workload ``calloc-table``: a table is made, asked at random places, then filled by half."""

from collections.abc import Iterable

from refbench.errors import UsageError
from refbench.grammar import Option, Spec, Values
from refbench.hookspecs import hookimpl
from refbench.program import Expect, Map, Measure, Phase, Program, Touch, Unmap
from refbench.words import Case, Workload

refbench_api_version = 1


def build(values: Values, page_size: int) -> Program:
    """The program for checked parameters; offsets and lengths are in bytes."""
    size, lookups = values.integer("size"), values.integer("lookups")
    if size % (2 * page_size):
        raise UsageError(
            f"The size {size} cannot be halved into whole pages.",
            remedy=f"Give a multiple of {2 * page_size} bytes.",
        )
    seed = values.integer("seed")
    return Program(
        "calloc-table",
        (
            Phase("map"),
            Map(0, size),
            Phase("lookup"),
            Touch(0, 0, size, "read", 64, order="random", seed=seed, count=lookups),
            Phase(),
            Measure("asked"),
            Expect(0, 0, size, "pattern", stride=page_size, once=True),
            Phase("fill"),
            Touch(0, 0, size // 2, "write", page_size),
            Phase(),
            Measure("filled"),
            Expect(0, size // 2, size // 2, "pattern", stride=page_size, once=True),
            Phase("unmap"),
            Unmap(0, 0, size),
            Phase(),
            Measure("end"),
        ),
    )


CALLOC_TABLE = Workload(
    "calloc-table",
    "Map a table, read a few entries at random places, then write one half of it.",
    (
        Option("size", "size", 64 << 20, "size of the table", minimum=1),
        Option("lookups", "int", 1000, "reads at random places", minimum=1),
        Option("seed", "int", 1, "seed of the random places", minimum=0, maximum=(1 << 32) - 1),
    ),
    build,
    headline=("time.map", "time.lookup", "time.fill", "lost.asked", "lost.filled"),
)


@hookimpl
def refbench_workloads() -> Iterable[Workload]:
    """The one registration."""
    return (CALLOC_TABLE,)


@hookimpl
def refbench_cases() -> Iterable[Case]:
    """A frozen preset of it, for people who want to say one word."""
    return (Case("table-4m", Spec.parse("calloc-table:size=4MiB"), "a table of 4 MiB"),)
