"""The history that is committed: asv can publish it, and nothing private is in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("asv", reason="the extra `asv` is not installed")

from refbench.history import ENVIRONMENTS, Recorded

COMMITS = 5


@pytest.fixture
def results(repository: Path) -> Path:
    """The committed results."""
    if not (repository / "results/reference/machine.json").exists():
        pytest.skip("this work tree has no recorded history yet: make history")
    if (repository / ".git/shallow").exists():
        pytest.skip("a shallow clone does not have the commits of the history")
    return repository / "results"


OWN = ("simulator.", "patched_kernel.")
"""Benchmarks of what refbench itself costs: no cell is measured for them."""


def measures_cells(path: Path) -> bool:
    names = json.loads(path.read_text())["results"]
    return any(not name.startswith(OWN) for name in names)


def test_it_is_of_several_commits_and_every_one_has_its_environment(results: Path) -> None:
    files = [path for path in (results / "reference").glob("*-*.json") if measures_cells(path)]
    commits = {path.name.partition("-")[0] for path in files}
    assert len(commits) >= COMMITS
    lines = (results / "reference" / ENVIRONMENTS).read_bytes().splitlines()
    recorded = [msgspec.json.decode(line, type=Recorded) for line in lines]
    assert commits <= {line.commit[:8] for line in recorded}
    assert all(line.environment.kernel for line in recorded)


def test_its_machine_has_a_neutral_name(results: Path) -> None:
    machine = json.loads((results / "reference/machine.json").read_text())
    assert machine["machine"] == "reference"
    assert machine["os"] == "Linux"
    for path in results.rglob("*.json*"):
        text = path.read_text()
        assert "/root/" not in text
        assert "/home/" not in text


def test_asv_publishes_it(
    results: Path, repository: Path, new_project: Callable[..., Any], tmp_path: Path
) -> None:
    options = {"repo": str(repository), "branches": ["HEAD"], "results_dir": str(results)}
    project = new_project({}, **options)
    done = subprocess.run(
        [sys.executable, "-m", "asv", "publish", "--no-pull", "--html-dir", str(tmp_path / "html")],
        cwd=project.root,
        env={**project.environment, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
             "GIT_CONFIG_VALUE_0": "*"},
        capture_output=True,
        text=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    index = json.loads((tmp_path / "html/index.json").read_text())
    assert len(index["revision_to_hash"]) >= COMMITS
    benchmark = index["benchmarks"]["sparse_touch.SparseTouch.track_lost"]
    assert benchmark["param_names"] == ["target", "mechanism", "case"]
    assert list((tmp_path / "html/graphs").iterdir())
