"""Random programs on this machine and on the model of it: every number is the same.

    pytest tests/backends/simulator/differential/test_differential.py --programs 1000
    pytest ... --programs-seed 1234        the programs of a run that printed that seed

What may differ, and by how much, is in docs/simulator-exactness.md. A program that fails is shrunk
and printed as a file for ``refbench run --program``.
"""

from __future__ import annotations

import secrets
import sys
from collections import Counter

import pytest
from tests.backends.simulator.differential.hunt import visit_all
from tests.backends.simulator.differential.pair import open_pair

from refbench.program import Program

SHAKY = 0.03
"""The share of programs that may be left out because this machine counts them in two ways, each
of which is as good as the other: see *Exempt* in docs/simulator-exactness.md."""


@pytest.mark.timeout(1800)
def test_random_programs_count_the_same_on_the_host_and_in_the_model(
    pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    count = pytestconfig.getoption("--programs")
    number = pytestconfig.getoption("--programs-seed")
    if number is None:
        number = secrets.randbits(32)
    met: Counter[str] = Counter()

    def compare(program: Program, mechanism: str) -> str | None:
        answer = pair.ask(program, mechanism)
        met["programs"] += 1
        met["shaky"] += bool(answer.shaky)
        wrong = answer.differences and not answer.shaky
        return f"seed {number}\n{answer}" if wrong else None

    with capsys.disabled():
        sys.stdout.write(f"\nrandom programs: {count}, --programs-seed {number}\n")
    with open_pair() as pair:
        visited = visit_all(count, number, compare)
    assert visited >= count
    assert met["shaky"] <= max(2, SHAKY * met["programs"]), met
