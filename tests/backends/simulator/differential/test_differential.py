"""Random programs on this machine and on the model of it: every number is the same.

    pytest tests/backends/simulator/differential/test_differential.py --programs 1000
    pytest ... --programs-seed 1234        the programs of a run that printed that seed

What may differ, and by how much, is in docs/simulator-exactness.md. A program that fails is shrunk
and printed as a file for ``refbench run --program``.
"""

from __future__ import annotations

import secrets
import sys

import pytest
from tests.backends.simulator.differential.hunt import compare_all
from tests.backends.simulator.differential.pair import open_pair

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
    with capsys.disabled():
        sys.stdout.write(f"\nrandom programs: {count}, --programs-seed {number}\n")
    with open_pair() as pair:
        met = compare_all(pair.ask, count, number)
    assert met["shaky"] <= max(2, SHAKY * met["programs"]), met
