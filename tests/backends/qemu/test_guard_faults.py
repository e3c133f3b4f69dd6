"""Planted kernel faults: each fails the run that it happened in, and the plan goes on."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from refbench import journal
from refbench.journal import RunLine
from refbench.vm.kernels import Kernel

# What is planted, and what the lines that are kept with the run must tell.
FAULTS = {
    "oops": "NULL pointer dereference",
    "bug": "kernel BUG at",
    "warn": "WARNING: ",
    "panic": "Kernel panic - not syncing: refbench_faults: planted",
    "softlockup": "soft lockup",
    # On a busy machine the grace period may begin late, and the other watchdog is first.
    "rcustall": "detected stall|soft lockup",
    "hungtask": "blocked for more than",
    "oom": "Out of memory",
    "rss": "BUG: Bad rss-counter state",
    "silent": "no answer",
    "v1": "BUG: Bad rss-counter state",
}
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runs(
    refbench: Callable[..., CompletedProcess[str]],
    install: Callable[..., Path],
    kernel: Callable[[str], Kernel],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RunLine, ...]:
    """The journal of a plan in which every cell but memset's has the kernel at fault."""
    kernel("v1")
    output = tmp_path_factory.mktemp("planted") / "run"
    plants = [f"plant:fault={fault}" for fault in FAULTS]
    answer = refbench(
        "run",
        *("-b", "qemu:kernel=v1,clock=real,module=refbench_faults"),
        *("-m", ",".join(["memset", *plants])),
        *("-w", "sparse-touch:size=1MiB", "--runs", "2", "--iterations", "1"),
        *("-o", os.fspath(output), "--json"),
        env={"PYTHONPATH": os.fspath(install(HERE / "planting"))},
        timeout=600,
    )
    assert answer.returncode == 0, answer.stderr
    return journal.read(output / "journal.jsonl").runs


def of(runs: tuple[RunLine, ...], mechanism: str) -> list[RunLine]:
    found = [line for line in runs if line.cell.mechanism == mechanism]
    assert found, {line.cell.mechanism for line in runs}
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_the_run_that_it_happened_in(runs: tuple[RunLine, ...], fault: str) -> None:
    for line in of(runs, f"plant:fault={fault}"):
        assert line.run.failure is not None
        assert line.run.failure.kind == "kernel-fault"
        assert re.search(FAULTS[fault], "\n".join(line.run.failure.log))


def test_the_others_are_measured(runs: tuple[RunLine, ...]) -> None:
    found = of(runs, "memset")
    assert len(found) == 2
    assert [line.run.failure for line in found] == [None, None]


def test_nothing_runs_in_a_guest_whose_kernel_was_at_fault(runs: tuple[RunLine, ...]) -> None:
    faults = 0
    for before, after in itertools.pairwise(runs):
        if before.run.failure is not None:
            faults += 1
            assert after.run.boot > before.run.boot
    assert faults >= len(FAULTS) - 1  # the last run of all may be one
