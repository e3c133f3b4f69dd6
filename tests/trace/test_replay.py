"""Replays count the same on this machine and in the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.backends.simulator.differential.pair import PATTERN, SECONDS, Pair, open_pair
from tests.trace.made import PAGE, random_rows, written

from refbench.grammar import Spec
from refbench.trace import compile_trace
from refbench.words import Cell


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with open_pair() as found:
        yield found


@pytest.mark.parametrize("mechanism", ["anon", "memset", "memfd", "uffd-sigbus"])
def test_made_traces(pair: Pair, tmp_path: Path, mechanism: str) -> None:
    for seed in (1, 2):
        program = compile_trace(written(tmp_path / "a.trace", random_rows(seed)), PAGE, name="made")
        answer = pair.ask(program, mechanism)
        assert not answer.differences, str(answer)
        assert not answer.failed


def test_what_is_filled_at_malloc(pair: Pair, tmp_path: Path) -> None:
    """An allocator without its hand-outs is none, so that there is no skeleton to compare with."""
    assert pair.simulator is not None
    for seed in (1, 2, 3):
        program = compile_trace(written(tmp_path / "a.trace", random_rows(seed)), PAGE, name="made")
        cell = Cell("program:made", Spec("memset-malloc"), PATTERN, program)
        counts = []
        for session in (pair.host, pair.simulator):
            run = session.run(cell, 1, SECONDS)
            assert run.failure is None
            phases = run.samples[-1].phases
            counts.append((phases["replay"].minor_faults, phases["replay"].syscalls))
        assert counts[0] == counts[1]
