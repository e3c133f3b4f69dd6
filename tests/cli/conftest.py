"""A small run on this machine, measured once and looked at by many tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from refbench.agent import compiler_probe

Refbench = Callable[..., "CompletedProcess[str]"]
SMALL = ("-w", "dense-touch:size=1MiB", "--iterations", "1")


@pytest.fixture(scope="session")
def measured(refbench: Refbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of two mechanisms, four runs each. Not to be changed."""
    if not compiler_probe().ok:
        pytest.skip("no C compiler")
    place = tmp_path_factory.mktemp("measured") / "run"
    done = refbench("run", "-m", "anon,memset", *SMALL, "--runs", "4", "-o", place)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def copied(measured: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(measured, tmp_path / "copy"))


@pytest.fixture(scope="session")
def as_json(refbench: Refbench) -> Callable[..., Any]:
    """Run a command with --json and give back what it printed."""

    def run(*arguments: object, expect: int = 0, **options: Any) -> Any:
        done = refbench(*map(str, arguments), "--json", **options)
        assert done.returncode == expect, done.stderr
        return json.loads(done.stdout)

    return run
