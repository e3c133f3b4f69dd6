"""Real programs in a guest, which has no C library: everything that they need travels."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from refbench.grammar import Spec
from refbench.program import Execute, Phase, Program
from refbench.samples import Run
from refbench.words import Cell, Pattern
from refbench_qemu.session import QemuSession


def found(name: str) -> Path:
    """A program of this machine."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return Path(path).resolve()


def cell(mechanism: str, file: Path, *arguments: str, data: Path | None = None) -> Cell:
    steps = (Phase("run"), Execute("it", arguments), Phase())
    files = {"it": file} if data is None else {"it": file, "data": data}
    program = Program(f"execute {file.name}", steps, files=files)
    return Cell(f"program:{program.name}", Spec.parse(mechanism), Pattern(), program)


def figures(run: Run) -> tuple[int, int, int]:
    """Instructions, faults and the peak of the last sample."""
    assert run.failure is None, run.failure
    last = run.samples[-1]
    return last.phases["run"].ns, last.phases["run"].faults, last.memory["exit"].hwm


@pytest.mark.parametrize("mechanism", ["anon", "memset", "refpage"])
def test_a_compressor_counts_the_same_in_every_guest(counted: QemuSession, mechanism: str) -> None:
    compress = cell(mechanism, found("xz"), "-k", "-c", "@data", data=Path(__file__))
    first = figures(counted.run(compress, 1, 300))
    assert figures(counted.run(cell("anon", found("true")), 1, 300)) != first
    again = figures(counted.run(compress, 1, 300))
    assert again[1:] == first[1:]
    # How the guest takes files in depends on how fast they come, and leaves a trace.
    assert again[0] == pytest.approx(first[0], rel=3e-4)
    ns, faults, peak = first
    assert ns > 1e6
    assert faults > 100
    assert peak > 1 << 20


def test_forty_mebibytes_of_files_have_room(counted: QemuSession, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(os.urandom(40 << 20))
    run = counted.run(cell("anon", found("cat"), "@data", data=data), 1, 300)
    assert run.failure is None, run.failure
    assert run.samples[-1].phases["run"].system_ns > 0


def test_a_guest_keeps_its_files_from_run_to_run(used: QemuSession) -> None:
    for _ in range(2):
        figures(used.run(cell("anon", found("cat"), "@data", data=Path(__file__)), 1, 300))


def test_what_is_not_there_is_told_as_on_a_host(counted: QemuSession) -> None:
    run = counted.run(cell("anon", found("sh"), "-c", "xz"), 1, 300)
    assert run.failure is not None
    assert run.failure.kind == "crashed"
    assert "not found" in run.failure.message
