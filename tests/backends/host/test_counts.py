"""The counts that a stock kernel gives for each mechanism, on the kernel that is running.

64 MiB in pages of 4 KiB, as in docs/counts.md, which says where each number comes from and
what had been counted by another program before refbench existed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refbench import metrics
from refbench.backend import Session
from refbench.plan import Request, make_plan
from refbench.plugins import registry
from refbench.runner import open_target
from refbench.samples import Sample

PAGES = 16384
MIB = 1 << 20
WRITE = "sparse-touch:size=64MiB,stride=16"
READ = "dense-touch:size=64MiB,access=read"

FAULTS = {
    # mechanism: (faults of WRITE, faults of READ)
    "anon": (1024, PAGES),
    "memset": (PAGES, PAGES),
    "memfd:block=1": (1024, PAGES),
    "memfd:block=16": (1024, 1024),
    "memfd:block=512": (1024, 1024),
    "memfd-full": (1024, 1024),
    "segv": (1024, PAGES),
    "uffd": (1024, PAGES),
    "uffd-sigbus": (0, 0),
}
RSS = {
    # mechanism: (RSS of WRITE, RSS of READ) in MiB
    "anon": (4, 0),
    "memset": (64, 64),
    "memfd:block=1": (4, 64),
    "memfd:block=16": (4, 64),
    "memfd:block=512": (4, 64),
    "memfd-full": (4, 64),
    "segv": (4, 64),
    "uffd": (4, 64),
    "uffd-sigbus": (4, 64),
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    if Path("/proc/self/smaps_rollup").exists() and _page_size() == 4096:
        _, session = open_target(registry(), "host")
        with session:
            yield session
    else:
        pytest.skip("the numbers are those of 4 KiB pages")


def _page_size() -> int:
    return int(subprocess.check_output(["getconf", "PAGESIZE"]))


def sample(session: Session, mechanism: str, workload: str) -> Sample:
    """The second sample of one run."""
    known = session.capabilities().mechanisms[mechanism.partition(":")[0]]
    if not known.ok:
        pytest.skip(f"{mechanism}: {known.reason}")
    plan = make_plan(
        registry(), 4096, Request(mechanisms=(mechanism,), workloads=(workload,), iterations=1)
    )
    run = session.run(plan.cells[0], 1, 60)
    assert run.failure is None, run.failure
    return run.kept[0]


def value(name: str, sample: Sample) -> float:
    found = metrics.find(name).value(sample)
    assert found is not None
    return found


@pytest.mark.parametrize("mechanism", FAULTS)
@pytest.mark.parametrize(("column", "workload"), [(0, WRITE), (1, READ)], ids=["write", "read"])
def test_faults_and_rss(session: Session, mechanism: str, column: int, workload: str) -> None:
    taken = sample(session, mechanism, workload)
    assert value("faults", taken) == FAULTS[mechanism][column]
    slack = 2 * metrics.RSS_BATCH * 4096
    assert abs(value("rss", taken) - RSS[mechanism][column] * MIB) <= slack


def test_filled_pages_of_a_memfd_hide_in_shmem(session: Session) -> None:
    taken = sample(session, "memfd-full", WRITE)
    assert value("pss", taken) < 8 * MIB
    assert value("held", taken) == 64 * MIB
    assert value("shmem", taken) > 60 * MIB
    assert value("lost", taken) > 66 * MIB


def test_a_mapping_a_page_costs_slab(session: Session) -> None:
    """A VMA is about 200 bytes: 16384 of them are more than 2 MiB that no RSS shows."""
    if not session.capabilities().metrics["cgroup"].ok:
        pytest.skip("without a memory cgroup slab is the whole system's")
    taken = sample(session, "memfd:block=1", WRITE)
    assert value("vmas", taken) == PAGES
    assert value("slab", taken) > 2 * MIB
    assert value("lost", taken) > value("rss", taken) + 2 * MIB


def test_sigbus_rounds_are_traps_although_the_kernel_counts_no_fault(session: Session) -> None:
    taken = sample(session, "uffd-sigbus", WRITE)
    assert value("faults.touch", taken) == 0
    assert value("sigbus.touch", taken) == value("traps.touch", taken) == 1024


def test_a_userfault_that_a_thread_handles_is_one_fault_and_one_message(
    session: Session,
) -> None:
    taken = sample(session, "uffd", WRITE)
    assert value("faults.touch", taken) == value("traps.touch", taken) == 1024
    assert value("uffd-messages.touch", taken) == 1024


LARGE_PARENT = """
from refbench.plugins import registry
from refbench.plan import Request, make_plan
from refbench.runner import open_target
ballast = bytearray(b"x") * (300 << 20)
request = Request(mechanisms=("anon",), workloads=("dense-touch:size=1MiB",))
cell = make_plan(registry(), 4096, request).cells[0]
with open_target(registry(), "host")[1] as session:
    run = session.run(cell, 1, 60)
print(max(each.hwm for each in run.kept[0].memory.values()))
"""


def test_peak_is_the_agents_own_and_not_that_of_a_large_parent() -> None:
    """ru_maxrss survives exec and would report the 300 MiB of the process that asked."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE_PARENT],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert int(done.stdout) < 32 * MIB
