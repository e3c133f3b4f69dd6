"""``--program`` with a program that brings files, and ``--file`` that says where they are."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from refbench import journal

Refbench = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def true(tmp_path: Path) -> Path:
    """A program that does nothing."""
    found = shutil.which("true")
    assert found is not None
    return Path(shutil.copy(found, tmp_path / "true"))


@pytest.fixture
def program(true: Path, tmp_path: Path) -> Path:
    """A program that executes it."""
    digest = hashlib.sha256(true.read_bytes()).hexdigest()
    path = tmp_path / "mine.txt"
    path.write_text(f"refbench-program 1\nname mine\nfile it {digest}\nphase run\nexecute it\n")
    return path


def test_a_real_program_is_measured_and_gone_on_with(
    refbench: Refbench, as_json: Callable[..., Any], program: Path, true: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = as_json(
        *("run", "--program", program, "--file", f"it={true.name}", "-m", "anon,memset"),
        *("--runs", "2", "--iterations", "1", "-o", out),
        cwd=tmp_path,
    )
    assert done["measured"] == 4
    assert done["failures"] == {}
    content = journal.read(out / "journal.jsonl")
    assert content.header.request.files == (("it", str(true)),)
    samples = [sample for line in content.runs for sample in line.run.samples]
    assert all(sample.memory["exit"].executed for sample in samples)
    assert all(sample.phases["run"].ns > 0 for sample in samples)
    lines = (out / "journal.jsonl").read_text().splitlines(keepends=True)
    (out / "journal.jsonl").write_text("".join(lines[:-2]))
    again = refbench("run", "--resume", out / "journal.jsonl")
    assert again.returncode == 0, again.stderr
    assert len(journal.read(out / "journal.jsonl").runs) == 4


def test_what_a_program_needs_has_to_be_said(refbench: Refbench, program: Path) -> None:
    done = refbench("plan", "--program", program, "-m", "anon")
    assert done.returncode == 2
    assert "needs the file 'it'" in done.stderr
    assert "--file it=PATH" in done.stderr


def test_another_file_is_refused(refbench: Refbench, program: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    done = refbench("run", "--program", program, "--file", f"it={other}", "-o", tmp_path / "run")
    assert done.returncode == 2
    assert "is not the file 'it'" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["it", "=path", "it="])
def test_nonsense_after_file_is_refused(refbench: Refbench, program: Path, text: str) -> None:
    done = refbench("plan", "--program", program, "--file", text)
    assert done.returncode == 2
    assert "is no NAME=PATH" in done.stderr


def test_a_file_without_a_program_is_refused(refbench: Refbench) -> None:
    done = refbench("plan", "--file", "it=/bin/true")
    assert done.returncode == 2
    assert "--program FILE --file" in done.stderr


def test_the_model_says_why_not(refbench: Refbench, program: Path, true: Path) -> None:
    where = ("-b", "simulator", "-o", program.with_name("run"))
    done = refbench("run", "--program", program, "--file", f"it={true}", "-m", "anon", *where)
    assert done.returncode == 5
    assert "cannot execute a program" in done.stderr
