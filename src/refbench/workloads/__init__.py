"""The workloads: each a module that turns parameters into a program."""

from refbench.words import Workload
from refbench.workloads import alloc_churn, fork_after_alloc, pressure, touch
from refbench.workloads.cases import CASES

WORKLOADS: tuple[Workload, ...] = (
    touch.SPARSE,
    touch.DENSE,
    fork_after_alloc.WORKLOAD,
    alloc_churn.WORKLOAD,
    pressure.WORKLOAD,
)

__all__ = ["CASES", "WORKLOADS"]
