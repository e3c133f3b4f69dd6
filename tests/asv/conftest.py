"""Throwaway asv projects: a repository, a benchmark suite, and asv itself, unmodified."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 120.0
MACHINE = {"machine": "reference", "os": "Linux", "arch": "any", "cpu": "any"}


@dataclass(frozen=True, slots=True)
class Project:
    """A repository with an asv suite; ``home`` keeps asv off the user's own files."""

    root: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        keep = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        return {
            # Where pip and npm fetch from, and what they have fetched, stays the user's.
            "XDG_CONFIG_HOME": str(Path.home() / ".config"),
            "XDG_CACHE_HOME": str(Path.home() / ".cache"),
            "NPM_CONFIG_USERCONFIG": str(Path.home() / ".npmrc"),
            **keep,
            "HOME": str(self.home),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PYTHONWARNINGS": "ignore",
        }

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text))

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=DEADLINE,
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def asv(
        self, *arguments: str, environment: Mapping[str, str] | None = None, status: int = 0
    ) -> str:
        """Run asv; what it printed. Another exit status than expected fails the test."""
        done = subprocess.run(
            [sys.executable, "-m", "asv", *arguments],
            cwd=self.root,
            env={**self.environment, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """Measure the commit that is checked out, in the Python that runs the tests."""
        head = self.git("rev-parse", "HEAD")
        return self.asv(
            "run", "--machine=reference", "--python=same", f"--set-commit-hash={head}",
            "--show-stderr", *arguments, environment=environment,
        )  # fmt: skip

    def results(self, commit: str) -> dict[str, dict[str, Any]]:
        """By benchmark: the columns of asv's result file."""
        (path,) = (self.root / "results" / "reference").glob(f"{commit[:8]}-*.json")
        content = json.loads(path.read_text())
        return {
            name: dict(zip(content["result_columns"], row, strict=False))
            for name, row in content["results"].items()
        }


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """Makes a project from benchmark files (name to text) and asv options."""

    def make(benchmarks: Mapping[str, str], **options: object) -> Project:
        place = tmp_path_factory.mktemp("asv")
        project = Project(place / "project", place / "home")
        project.home.mkdir()
        (project.home / ".asv-machine.json").write_text(
            json.dumps({"reference": MACHINE, "version": 1})
        )
        project.write("benchmarks/__init__.py", "")
        for name, text in benchmarks.items():
            project.write(f"benchmarks/{name}", text)
        configuration = {
            "version": 1,
            "project": "project",
            "repo": ".",
            "branches": ["main"],
            "environment_type": "virtualenv",
            "launch_method": "forkserver",
            "env_dir": ".asv/env",
            "html_dir": ".asv/html",
            **options,
        }
        project.write("asv.conf.json", json.dumps(configuration))
        project.write(".gitignore", ".asv/\nresults/\n")
        project.git("init", "-q", "-b", "main")
        project.commit("first")
        return project

    return make
