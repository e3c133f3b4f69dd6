"""Plugins with faults, as real installed distributions: each is named, nothing else stops."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

Refbench = Callable[..., "CompletedProcess[str]"]

# Plugin (also the folder of its distribution), and what must be said about it.
FAULTS = {
    "raises": ["importing refbench_raises raised RuntimeError", "board farm's library"],
    "exits": ["importing refbench_exits raised SystemExit", "no licence found"],
    "misspelt": ["refbench_backend", "unknown hook"],
    "older": ["api_version 0", "this refbench has 1"],
    "breaks": ["refbench_mechanisms() raised OSError", "driver's folder is gone"],
    "twin-one": ["backend name 'twin'", "twin-two (refbench-twin-two)"],
    "twin-two": ["backend name 'twin'", "twin-one (refbench-twin-one)"],
    "usurper": ["mechanism name 'memset'", "core (refbench)"],
}


@pytest.fixture(scope="module")
def broken(install: Callable[..., Path], repository: Path) -> dict[str, str]:
    """The environment with every distribution installed."""
    folders = sorted((repository / "tests" / "distributions").iterdir())
    assert {folder.name for folder in folders} == {*FAULTS, "healthy"}
    return {"PYTHONPATH": os.fspath(install(*folders)), "COLUMNS": "500"}


@pytest.fixture(scope="module")
def answer(refbench: Refbench, broken: dict[str, str]) -> CompletedProcess[str]:
    return refbench("backends", env=broken)


def said(answer: CompletedProcess[str]) -> str:
    """Both streams, line breaks of the terminal's tables taken out."""
    return " ".join((answer.stdout + answer.stderr).split())


@pytest.mark.parametrize("plugin", FAULTS)
def test_a_broken_plugin_is_named_with_its_distribution_and_fault(
    answer: CompletedProcess[str], plugin: str
) -> None:
    text = said(answer)
    assert f"refbench-{plugin}" in text
    for part in FAULTS[plugin]:
        assert part in text


def test_the_rest_works(answer: CompletedProcess[str]) -> None:
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in said(answer)
    assert "host" in answer.stdout.split()


def test_a_healthy_plugin_works_beside_broken_ones(
    refbench: Refbench, broken: dict[str, str]
) -> None:
    plan = refbench("plan", "-w", "healthy-touch", "-m", "memset", "--json", env=broken)
    assert plan.returncode == 0, plan.stderr
    assert "sparse-touch:size=1MiB" in plan.stdout


def test_of_two_that_claim_one_name_neither_gets_it(
    refbench: Refbench, broken: dict[str, str]
) -> None:
    answer = refbench("plan", "-b", "twin", env=broken)
    assert answer.returncode == 2
    assert "twin" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_leaving_one_twin_out_gives_the_name_to_the_other(
    refbench: Refbench, broken: dict[str, str]
) -> None:
    answer = refbench("backends", env={**broken, "REFBENCH_DISABLE_PLUGINS": "twin-two"})
    text = said(answer)
    assert "twin one is out" in text
    assert "is also claimed by twin-" not in text


def test_a_built_in_mechanism_keeps_its_name(refbench: Refbench, broken: dict[str, str]) -> None:
    answer = refbench("mechanisms", env=broken)
    assert answer.returncode == 0, answer.stderr
    assert "memset" in answer.stdout
    assert "usurped" not in answer.stdout


def test_all_foreign_plugins_can_be_left_out(refbench: Refbench, broken: dict[str, str]) -> None:
    answer = refbench("backends", env={**broken, "REFBENCH_DISABLE_PLUGINS": "all"})
    assert answer.returncode == 0, answer.stderr
    assert "refbench-" not in said(answer)
    assert "host" in answer.stdout.split()
