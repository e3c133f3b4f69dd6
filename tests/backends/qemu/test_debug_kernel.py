"""Random programs that fork, on a kernel that checks itself: its log stays clean.

    make test-kernel-debug

DEBUG_VM, KASAN, lockdep and the page table check are on (configs/debug.config). What the kernel
says of a process that ends with pages on its counters (``BUG: Bad rss-counter state``) is among
what the guard of the kernel's log finds. Building that kernel and running it take a quarter of
an hour, which is why ``make test`` leaves this out.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.backends.simulator.differential.hunt import visit_all
from tests.backends.simulator.differential.reduce import verbs

from refbench import journal
from refbench.grammar import Spec
from refbench.program import Program
from refbench.vm.kernels import Kernel
from refbench.words import Cell, Pattern
from refbench_qemu.session import QemuSession

pytestmark = [pytest.mark.kernel_debug, pytest.mark.timeout(7200)]
PROGRAMS = 100
SECONDS = 300.0
PLANTING = Path(__file__).parent / "planting"
CHECKS = {"uaf": "KASAN", "list": "lib/list_debug.c", "lockorder": "possible circular locking"}
"""What is planted, and what the kernel says of it only with its checks on."""
MECHANISMS = ("refpage", "refpage-mmap")
"""Those of the series. docs/patched-kernel-semantics.md says what the kernel warns of under the
module's handler."""


@pytest.fixture(scope="module")
def session(
    kernel: Callable[[str], Kernel], open_qemu: Callable[..., QemuSession]
) -> Iterator[QemuSession]:
    image = kernel("patched-debug").image
    with open_qemu(kernel=image, clock="real", memory="1GiB", swap="128MiB") as found:
        yield found


def test_the_checks_are_on(
    refbench: Callable[..., CompletedProcess[str]],
    install: Callable[..., Path],
    kernel: Callable[[str], Kernel],
    tmp_path: Path,
) -> None:
    """Faults that only a checking kernel sees are found, each on the run that has it."""
    image = kernel("patched-debug").image
    output = tmp_path / "run"
    answer = refbench(
        *("run", "-b", f"qemu:kernel={image},clock=real,memory=1GiB,module=refbench_faults"),
        *("-m", ",".join(f"plant:fault={fault}" for fault in CHECKS)),
        *("-w", "sparse-touch:size=1MiB", "--runs", "1", "--iterations", "1"),
        *("-o", os.fspath(output), "--json"),
        env={"PYTHONPATH": os.fspath(install(PLANTING))},
        timeout=1200,
    )
    assert answer.returncode == 0, answer.stderr
    said = {
        line.cell.mechanism.rpartition("=")[2]: line.run.failure
        for line in journal.read(output / "journal.jsonl").runs
    }
    for fault, words in CHECKS.items():
        failure = said[fault]
        assert failure is not None, fault
        assert words in "\n".join(failure.log), failure


def test_programs_that_fork_leave_the_log_clean(
    session: QemuSession,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    number = pytestconfig.getoption("--programs-seed") or secrets.randbits(32)
    met: Counter[str] = Counter()

    def examine(program: Program, mechanism: str) -> str | None:
        if "fork" not in verbs(program):
            return None
        cell = Cell("program:debug", Spec.parse(mechanism), Pattern(), program)
        run = session.run(cell, 1, SECONDS)
        met["forked"] += 1
        if run.failure is not None and run.failure.kind == "kernel-fault":
            return f"seed {number}, -m {mechanism}\n{program.text()}{run.failure}"
        met[run.failure.kind if run.failure else "good"] += 1
        return None

    with capsys.disabled():
        sys.stdout.write(f"\nprograms that fork: {PROGRAMS}, --programs-seed {number}\n")
    while met["forked"] < PROGRAMS:
        visit_all(PROGRAMS, number + met["forked"], examine, mechanisms=MECHANISMS, evicts=True)
    assert met["good"] > 0.9 * met["forked"], met
