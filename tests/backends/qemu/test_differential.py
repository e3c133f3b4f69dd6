"""Random programs on the patched kernel and on the model of it: every number is the same.

    pytest tests/backends/qemu/test_differential.py --guest-programs 500
    pytest ... --programs-seed 1234        the programs of a run that printed that seed

The programs, the comparison and what may differ are those of tests/backends/simulator/differential
(docs/simulator-exactness.md), with this guest's one CPU.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator

import pytest
from tests.backends.simulator.differential.hunt import compare_all
from tests.backends.simulator.differential.pair import Pair, open_guest_pair

from refbench.plan import AHEAD_OF_KERNELS
from refbench.program import parse
from refbench.vm.kernels import Kernel
from refbench_simulator.mechanisms.refpage import Refpage
from refbench_simulator.model.space import Flag

SHAKY = 0.01
"""The share of programs that may be left out because the guest's own samples differ."""


@pytest.fixture(scope="module")
def pair(patched: Kernel) -> Iterator[Pair]:
    # Counts are the same on both clocks, and this one is quicker.
    with open_guest_pair(f"qemu:kernel={patched.image},clock=real") as found:
        yield found


def test_random_programs_count_the_same_in_the_guest_and_in_the_model(
    pair: Pair, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    count = pytestconfig.getoption("--guest-programs")
    number = pytestconfig.getoption("--programs-seed")
    if number is None:
        number = secrets.randbits(32)
    with capsys.disabled():
        sys.stdout.write(f"\nprograms in a guest: {count}, --programs-seed {number}\n")
    met = compare_all(pair.ask, count, number, mechanisms=AHEAD_OF_KERNELS, evicts=True)
    assert met["shaky"] <= max(1, SHAKY * met["programs"]), met


def test_the_comparison_can_fail(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that counts the reference page as it counts a file's is told from the kernel."""
    program = parse(
        "refbench-program 1\nmap 0 65536\nphase load\ntouch 0 0 65536 read 4096\nphase -\n"
        "measure end\n"
    )
    assert pair.ask(program, "refpage").differences == ()
    monkeypatch.setattr(Refpage, "flags", Flag(0))
    assert pair.ask(program, "refpage").differences
