"""scripts/fault_profile.py: a log of instructions becomes faults, function by function."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from refbench.vm.kernels import Kernel

SYMBOLS = """ffffffff81000000 T asm_exc_page_fault
ffffffff81000100 t handle
ffffffff81000200 D data
ffffffff81000300 T asm_sysvec_apic_timer_interrupt
ffffffff81000400 T _etext
"""
ENTRY, HANDLE, TIMER, MODULE = (0xFFFFFFFF81000000 + at for at in (0, 0x104, 0x300, 0x80000000))
LOOP, ELSEWHERE = 0x401000, 0x402000


@pytest.fixture(scope="module")
def script(repository: Path) -> dict[str, Any]:
    return runpy.run_path(str(repository / "scripts" / "fault_profile.py"))


def test_a_fault_is_what_lies_between_two_instructions_of_the_program(
    script: dict[str, Any],
) -> None:
    faults = script["Faults"](script["Symbols"].of(SYMBOLS))
    fault = [LOOP, ENTRY, HANDLE, HANDLE, MODULE]
    interrupted = [LOOP, ENTRY, TIMER, HANDLE]
    other = [ELSEWHERE, ENTRY, ELSEWHERE]
    faults.read(iter([HANDLE, *fault, *interrupted, *other, *fault, LOOP]))
    faults.read(iter([LOOP, ENTRY, HANDLE]))
    faults.break_off()
    faults.read(iter([HANDLE, LOOP]))
    assert faults.most == [{"asm_exc_page_fault": 1, "handle": 2, "(modules)": 1}] * 2


def test_a_page_that_is_stored_to_is_cleared(repository: Path, patched: Kernel) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "scripts" / "fault_profile.py"), "-m", "anon"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for line in done.stdout.splitlines()[2:]:
        name, count = (cell.strip(" `") for cell in line.strip("|").split("|"))
        found[name] = int(count)
    # 512 quadwords, and what is around the one instruction that stores them.
    assert 400 <= found["clear_page_rep"] <= 600
    assert found["handle_mm_fault"] >= 50
    assert 1000 <= found["all"] <= 6000
