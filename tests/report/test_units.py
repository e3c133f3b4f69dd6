"""Numbers as people read them."""

from __future__ import annotations

import pytest

from refbench import metrics
from refbench.report import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 ns"), (2.4e-9, "2.40 ns"), (9.97e-6, "9.97 µs"), (0.000_999_9, "1.00 ms"),
        (0.24312, "243 ms"), (0.9999, "1.00 s"), (83.21, "83.2 s"), (-0.002, "-2.00 ms"),
    ],
)  # fmt: skip
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"), (512, "512 B"), (1024, "1.00 KiB"), (4.125 * 2**20, "4.12 MiB"),
        (64 * 2**20, "64.0 MiB"), (-300 * 1024, "-300 KiB"), (1023.9 * 1024, "1.00 MiB"),
        (3 * 2**40, "3.00 TiB"),
    ],
)  # fmt: skip
def test_sizes(value: float, text: str) -> None:
    assert units.size(value) == text


def test_instructions_are_counted_not_timed() -> None:
    time = metrics.find("time.touch")
    assert units.show(time, 0.0425, "instructions") == "42.5 M"
    assert units.show(time, 0.0425, "real") == "42.5 ms"
    assert units.title(time, "instructions") == "touch (instr.)"
    assert units.title(time, "modelled") == "touch (model)"
    assert units.title(metrics.find("lost"), "modelled") == "memory lost"


def test_counts_and_ticks() -> None:
    assert units.number(16387) == "16387"
    assert units.number(1026.5) == "1026.5"
    assert units.tick("80.0 ms") == "80 ms"
    assert units.tick("2.50 MiB") == "2.5 MiB"
    assert units.tick("100") == "100"
