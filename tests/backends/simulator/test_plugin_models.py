"""Mechanisms of plugins, really installed: with a model of their own, a broken one, none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Refbench = Callable[..., "CompletedProcess[str]"]

PLUGINS = ("refbench-prefault", "refbench-calloc-table")
MECHANISMS = "prefault,prefault:piece=64KiB,memset"
WORKLOADS = (
    "dense-touch:size=4MiB,sparse-touch:size=1MiB,fork-after-alloc:size=1MiB,calloc-table:size=4MiB"
)
COUNTED = ("minor_faults", "major_faults", "syscalls", "sigbus", "sigsegv", "uffd_messages")
MEMORY = ("rss_anon", "rss_file", "rss_shmem", "vmas", "pte")

ODD = """
from refbench.hookspecs import hookimpl
from refbench.words import Mechanism

refbench_api_version = 1


@hookimpl
def refbench_mechanisms():
    return [
        Mechanism("bare", "without a model"),
        Mechanism("lost", "a model that is not there", model="odd_models:Nothing"),
        Mechanism("strange", "a model that is none", model="odd_models:Strange"),
        Mechanism("broken", "a model that cannot be imported", model="odd_broken:Broken"),
        Mechanism("faulty", "a model with a fault", model="odd_models:Faulty"),
        Mechanism("picky", "a model that refuses its options", model="odd_models:Picky"),
        Mechanism("lean", "a model that works", model="odd_models:Lean"),
    ]
"""
MODELS = """
from refbench.errors import UsageError
from refbench_simulator.mechanism import Model


class Strange:
    pass


class Faulty(Model):
    def map(self, space, rows, *, populate):
        return {}["no such thing"]


class Picky(Model):
    def setup(self, space):
        raise UsageError("That is not how it is done.", remedy="Do it otherwise.")


class Lean(Model):
    applies_pattern = False

    def map(self, space, rows, *, populate):
        self.map_anonymous(space, rows, populate=populate)
"""


@pytest.fixture(scope="module")
def installed(install: Callable[..., Path], repository: Path) -> dict[str, str]:
    folders = [repository / "plugins" / name for name in PLUGINS]
    return {"PYTHONPATH": os.fspath(install(*folders)), "COLUMNS": "300"}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A distribution with one mechanism for each thing that can be wrong with a model."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd_plugin.py").write_text(ODD)
    (folder / "odd_models.py").write_text(MODELS)
    (folder / "odd_broken.py").write_text("raise RuntimeError('half a model')\n")
    info = folder / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[refbench]\nodd = odd_plugin\n")
    return {"PYTHONPATH": os.fspath(folder), "COLUMNS": "300"}


def samples(refbench: Refbench, env: dict[str, str], target: str, where: Path) -> Any:
    """The last sample of each cell of one run."""
    done = refbench(
        *("run", "-b", target, "-m", MECHANISMS, "-w", WORKLOADS),
        *("--runs", "1", "--iterations", "1", "-o", str(where)),
        env=env,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (where / "journal.jsonl").read_text().splitlines()]
    return {
        (line["cell"]["workload"], line["cell"]["mechanism"]): line["run"]["samples"][-1]
        for line in lines
        if "run" in line
    }


def counts(sample: Any) -> Any:
    """What has to be the same on every backend: growth of memory, counters of phases."""
    start = sample["memory"]["start"]
    memory = {
        label: {name: found.get(name, 0) - start.get(name, 0) for name in MEMORY}
        for label, found in sample["memory"].items()
    }
    phases = {
        name: {each: found.get(each, 0) for each in COUNTED}
        for name, found in sample["phases"].items()
    }
    return memory, phases


def test_a_plugin_counts_on_the_simulator_what_it_counts_here(
    refbench: Refbench, installed: dict[str, str], tmp_path: Path
) -> None:
    here = samples(refbench, installed, "host", tmp_path / "host")
    there = samples(refbench, installed, "simulator:like=host", tmp_path / "simulator")
    assert len(here) == len(MECHANISMS.split(",")) * len(WORKLOADS.split(","))
    assert sorted(there) == sorted(here)
    for cell, sample in here.items():
        assert counts(there[cell]) == counts(sample), cell


def test_the_semantics_of_a_plugins_mechanism(
    refbench: Refbench, installed: dict[str, str]
) -> None:
    found = {}
    for target in ("host", "simulator"):
        done = refbench("check", "-b", target, "-m", "prefault", "--json", env=installed)
        assert done.returncode == 0, done.stdout + done.stderr
        examined = json.loads(done.stdout)["targets"][target]["examinations"]
        found[target] = {item["row"]: item["verdict"] for item in examined}
    both = [
        row
        for row, verdict in found["host"].items()
        if "unavailable" not in (verdict, found["simulator"][row])
    ]
    assert len(both) > 30
    assert [row for row in both if found["simulator"][row] != found["host"][row]] == []


WRONG = {
    "bare": ("unsupported", "no model of the mechanism bare", "docs/simulator.md"),
    "lost": ("unsupported", "odd_models:Nothing", "cannot be loaded", "package.module:Class"),
    "strange": ("unsupported", "odd_models:Strange of strange is no Model", "mechanism.Model"),
    "broken": ("unsupported", "cannot be loaded", "RuntimeError: half a model"),
    "faulty": ("crashed", "odd_models:Faulty", "KeyError", "the plugin is odd"),
    "picky": ("usage", "That is not how it is done.", "Do it otherwise."),
}
"""What is wrong with a mechanism on the simulator, and what has to be said about it."""


def test_what_is_wrong_with_a_model_is_said_and_stops_nothing_else(
    refbench: Refbench, odd: dict[str, str], tmp_path: Path
) -> None:
    done = refbench(
        *("run", "-b", "simulator", "-m", ",".join([*WRONG, "lean", "anon"]), "--json"),
        *("-w", "sparse-touch:size=1MiB", "-o", str(tmp_path / "run")),
        env=odd,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    failures = json.loads(done.stdout)["failures"]
    found = {name.rpartition(" | ")[2]: failure for name, failure in failures.items()}
    assert sorted(found) == sorted(WRONG)
    for name, said in WRONG.items():
        text = " ".join((found[name]["kind"], found[name]["message"], found[name]["remedy"]))
        assert [part for part in said if part not in text] == [], text


def test_a_model_alone_is_no_mechanism_of_a_real_kernel(
    refbench: Refbench, odd: dict[str, str]
) -> None:
    done = refbench("mechanisms", "lean", "-b", "host", "--json", env=odd)
    (found,) = json.loads(done.stdout)["mechanisms"]
    assert not found["targets"]["host"]["ok"]
    assert "only a model" in found["targets"]["host"]["reason"]
    assert "simulator" in found["targets"]["host"]["remedy"]
