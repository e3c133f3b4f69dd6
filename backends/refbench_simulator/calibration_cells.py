"""Which cells a calibration measures: those that costs are fitted to, and those that judge them.

Fixed beforehand. What is held out differs from what is fitted to in sizes, strides, orders and
numbers, in the mechanisms' options, or in both; the frozen cases of the history are all held out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from refbench.grammar import Spec
from refbench.plan import Request, select_mechanisms, select_workloads
from refbench.plugins import Registry
from refbench.workloads import CASES
from refbench_simulator.calibration import Observed

MECHANISMS = (
    "anon",
    "memset",
    "memfd",
    "memfd:block=4",
    "memfd:block=64",
    "memfd-full",
    "uffd",
    "uffd-sigbus",
    "segv",
)
WORKLOADS = (
    "sparse-touch:size=32MiB,stride=8",
    "sparse-touch:size=8MiB,stride=4,access=read",
    "sparse-touch:size=24MiB,stride=32,order=random,access=readwrite",
    "sparse-touch:size=256MiB,stride=512",
    "dense-touch:size=4MiB",
    "dense-touch:size=12MiB,access=read",
    "dense-touch:size=8MiB,access=readwrite",
    "dense-touch:size=32MiB",
    "fork-after-alloc:size=8MiB,touched=2,stride=1",
    "fork-after-alloc:size=32MiB,touched=8,stride=4,who=parent",
    "fork-after-alloc:size=8MiB,touched=1,stride=3,access=read",
    "fork-after-alloc:size=12MiB,touched=3,depth=2",
    "fork-after-alloc:size=1MiB",
    "alloc-churn:size=256KiB,count=128,stride=1",
    "alloc-churn:size=4MiB,count=16,stride=8,access=read",
    "alloc-churn:size=64KiB,count=512,stride=1",
    "calls:count=2000",
    "calls:call=dontneed",
    "calls:call=populate",
    "calls:call=protect",
    "calls:call=remap,count=4",
)
HELD_OUT_MECHANISMS = (
    "memfd:block=16",
    "memfd:block=512",
    "uffd:atfork",
    "uffd:events=fork",
    "uffd-sigbus:atfork",
)
HELD_OUT_WORKLOADS = (
    *(case.name for case in CASES),
    "dense-touch:size=48MiB",
    "sparse-touch:size=128MiB,stride=64,access=read",
    "sparse-touch:size=2MiB,stride=2",
    "sparse-touch:size=192MiB,stride=1024,order=random,access=read",
    "fork-after-alloc:size=4MiB,depth=3",
    "alloc-churn:size=2MiB,count=32,stride=16,access=readwrite",
    "calls:call=dontneed,size=4MiB,count=5",
    "calls:call=protect,size=6MiB,count=3",
)


HUGE = ("calls:call=huge,size=32MiB,count=2",)
HELD_OUT_HUGE = ("calls:call=huge,size=64MiB,count=1", "calls:call=huge,size=6MiB,count=4")
HUGE_MECHANISMS = ("anon", "memset")
"""Cells that may have transparent huge pages."""


def requests(*, runs: int, iterations: int, seed: int) -> tuple[Request, Request]:
    """Every mechanism with every workload, so that their rounds are interleaved; then the cells
    with huge pages."""
    plain = Request(
        mechanisms=MECHANISMS + HELD_OUT_MECHANISMS,
        workloads=WORKLOADS + HELD_OUT_WORKLOADS,
        runs=runs,
        iterations=iterations,
        seed=seed,
    )
    return plain, replace(
        plain, mechanisms=HUGE_MECHANISMS, workloads=HUGE + HELD_OUT_HUGE, thp=True
    )


def split(
    registry: Registry, cells: Iterable[Observed]
) -> tuple[tuple[Observed, ...], tuple[Observed, ...]]:
    """The cells to fit to, and those that are held out."""
    mechanisms = _texts(select_mechanisms(registry, MECHANISMS))
    workloads = _texts(spec for spec, _ in select_workloads(registry, WORKLOADS + HUGE))
    fitted: list[Observed] = []
    held: list[Observed] = []
    for cell in cells:
        known = cell.mechanism in mechanisms and cell.workload in workloads
        (fitted if known else held).append(cell)
    return tuple(fitted), tuple(held)


def _texts(specs: Iterable[Spec]) -> frozenset[str]:
    return frozenset(map(str, specs))
