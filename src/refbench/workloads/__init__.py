"""The workloads: each a module that turns parameters into a program."""

from refbench.words import Workload
from refbench.workloads import (
    alloc_churn,
    fork_after_alloc,
    pdfium,
    pressure,
    touch,
    trace,
    v4_microbench,
)
from refbench.workloads.cases import CASES

WORKLOADS: tuple[Workload, ...] = (
    touch.SPARSE,
    touch.DENSE,
    fork_after_alloc.WORKLOAD,
    alloc_churn.WORKLOAD,
    pressure.WORKLOAD,
    v4_microbench.WORKLOAD,
    pdfium.WORKLOAD,
    trace.PDFIUM_TRACE,
    trace.TRACE,
)
EXECUTED_CASES = pdfium.CASES
"""Of workloads that execute a real program; the simulator has none of them."""
TRACE_CASES = trace.CASES
"""Of recorded traces."""

__all__ = ["CASES", "EXECUTED_CASES", "TRACE_CASES", "WORKLOADS"]
