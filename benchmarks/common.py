"""What the suites share: the frozen axes, the one measurement of a commit, the tracked numbers.

asv hands a benchmark an index into its parameters and imports them anew in each process and for
each commit. So the axes are written down here, sorted, and never follow from what is installed;
adding a name keeps the history, adding an axis or removing a name does not.
"""

from collections.abc import Callable
from typing import Any

from refbench.asv import cell, measure

TARGETS = ("host", "qemu", "simulator")
MECHANISMS = (
    "anon",
    "glibc",
    "glibc:perturb=yes",
    "ksm",
    "memfd",
    "memfd-full",
    "memfd:block=16",
    "memfd:block=512",
    "memset",
    "memset-malloc",
    "refpage",
    "refpage-dev",
    "refpage-dev:handler=naive",
    "refpage-mmap",
    "scudo",
    "scudo:fill=pattern",
    "scudo:fill=zero",
    "segv",
    "uffd",
    "uffd-sigbus",
    "uffd-sigbus:atfork=yes",
    "uffd:events=fork",
)
CHURN_CASES = ("churn-small",)
DENSE_CASES = ("dense-read", "dense-write")
FORK_CASES = ("fork-child-write", "fork-parent-read")
PDFIUM_CASES = ("pdfium-short",)
PDFIUM_TRACE_CASES = ("pdfium-trace",)
SPARSE_CASES = ("sparse-random", "sparse-read", "sparse-write")
V4_CASES = ("v4-all", "v4-half", "v4-one")
CASES = (
    *(CHURN_CASES + DENSE_CASES + FORK_CASES + PDFIUM_CASES + PDFIUM_TRACE_CASES),
    *(SPARSE_CASES + V4_CASES),
)

MEASURING = 3600.0
"""Seconds after which asv gives up on a commit's measurement."""
UNITS = {
    "hwm": "bytes",
    "lost": "bytes",
    "rss": "bytes",
    "syscalls": "calls",
    "traps": "traps",
    "vmas": "VMAs",
}
"""Of metrics that are no times. A second of the target ``qemu`` is 10^9 instructions."""


def axes(cases: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The parameters of a suite."""
    return (TARGETS, MECHANISMS, cases)


def tracked(metric: str) -> Callable[..., Any]:
    """A benchmark that hands asv the samples of one metric."""

    def track(suite: "Suite", journal: str, target: str, mechanism: str, case: str) -> Any:
        return suite.read(journal, target, mechanism, case, metric)

    setattr(track, "unit", UNITS.get(metric.partition(".")[0], "seconds"))  # noqa: B010
    setattr(track, "metric", metric)  # noqa: B010
    return track


class Suite:
    """The base of every suite: one measurement a commit, shared by all files."""

    param_names = ("target", "mechanism", "case")
    type = "time"  # the type for which asv keeps samples, quartiles and intervals
    version = "1"  # pinned: a benchmark that is written differently measures the same
    timeout = 60.0

    def setup_cache(self) -> str:
        """Measure all cells; what is returned is the first argument of everything else."""
        return measure(TARGETS, MECHANISMS, CASES, version=1)

    setattr(setup_cache, "timeout", MEASURING)  # noqa: B010

    def setup(self, journal: str, target: str, mechanism: str, case: str) -> None:
        """Raise NotImplementedError, which asv shows as n/a, where there is nothing to read."""
        self.read(journal, target, mechanism, case, "time")

    @staticmethod
    def read(journal: str, target: str, mechanism: str, case: str, metric: str) -> Any:
        """What the refbench under measurement says about a cell."""
        return cell(
            journal, target=target, mechanism=mechanism, case=case, metric=metric, version=1
        )
