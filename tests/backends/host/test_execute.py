"""Real programs on this machine, each mechanism's allocator under them."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refbench.grammar import Spec, resolve
from refbench.program import Execute, Phase, Program
from refbench.samples import Run
from refbench.words import Cell, Pattern
from refbench_host.backend import HostBackend
from refbench_host.session import HostSession

backend = HostBackend()

if not backend.probe().ok:
    pytest.skip(backend.probe().reason, allow_module_level=True)


@pytest.fixture(scope="module")
def session() -> Iterator[HostSession]:
    with backend.open(resolve(Spec.parse("host"), backend.options, what="target")) as opened:
        yield opened


def found(name: str) -> Path:
    """A program of this machine."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return Path(path).resolve()


def cell(mechanism: str, file: Path, *arguments: str, files: dict[str, Path] | None = None) -> Cell:
    steps = (Phase("run"), Execute("it", arguments), Phase())
    program = Program(f"execute {file.name}", steps, files={"it": file, **(files or {})})
    return Cell(f"program:{program.name}", Spec.parse(mechanism), Pattern(), program)


def good(run: Run) -> Run:
    assert run.failure is None, run.failure
    return run


@pytest.mark.parametrize("mechanism", ["anon", "memset", "memset-malloc", "memfd:block=16"])
def test_a_compressor_runs_on_every_allocator(session: HostSession, mechanism: str) -> None:
    data = Path(__file__)
    compress = cell(mechanism, found("xz"), "-k", "-c", "-T2", "@data", files={"data": data})
    run = good(session.run(compress, 1, 100))
    last = run.samples[-1]
    assert last.phases["run"].ns > 0
    assert last.memory["exit"].hwm > 1 << 20
    assert last.values["malloc-handouts"] > 0


def test_the_pattern_is_checked_where_it_is_asked_for(session: HostSession) -> None:
    it = cell("memset", Path(sys.executable).resolve(), "-c", "import threading")
    program = Program(
        "checked", it.program.steps, files=it.program.files,
        environment={"REFBENCH_MALLOC_CHECK": "1"},
    )  # fmt: skip
    good(session.run(Cell("checked", it.mechanism, it.pattern, program), 1, 100))


def test_a_crash_is_told_with_its_last_words(session: HostSession) -> None:
    words = "import os; os.write(2, b'the last word\\n'); os.abort()"
    run = session.run(cell("anon", Path(sys.executable).resolve(), "-c", words), 1, 60)
    assert run.failure is not None
    assert run.failure.kind == "crashed"
    assert run.failure.log == ("the last word",)


def test_a_deadline_ends_it_and_all_that_it_started(session: HostSession) -> None:
    began = time.monotonic()
    run = session.run(cell("anon", found("sh"), "-c", "sleep 1234 & exec sleep 1234"), 1, 2)
    assert run.failure is not None
    assert "deadline" in run.failure.message
    assert time.monotonic() - began < 60
    sleeping = [path for path in Path("/proc").glob("[0-9]*") if b"1234" in words_of(path)]
    assert sleeping == []
    good(session.run(cell("anon", found("true")), 1, 60))


def words_of(process: Path) -> bytes:
    try:
        return process.joinpath("cmdline").read_bytes()
    except OSError:
        return b""


def test_what_is_no_program_is_unsupported(session: HostSession, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    run = session.run(cell("anon", script), 1, 60)
    assert run.failure is not None
    assert run.failure.kind == "unsupported"
    assert "interpreter" in run.failure.remedy
