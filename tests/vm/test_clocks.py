"""The rate of the time stamp counter."""

from __future__ import annotations

import pytest

from refbench.agent import host_arch
from refbench.vm import clocks


@pytest.mark.skipif(host_arch() != "x86_64", reason="only x86 has a time stamp counter")
def test_it_is_plausible_and_repeats_to_a_thousandth() -> None:
    first, second = (clocks.tsc_khz.__wrapped__() for _ in range(2))
    assert 500_000 < first < 10_000_000
    assert abs(first - second) <= first / 1000


def test_without_a_compiler_the_guest_has_to_find_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path_factory.mktemp("empty")))
    monkeypatch.setenv("CC", "/nonexistent/cc")
    assert clocks.tsc_khz.__wrapped__() == 0
