"""The terminal table, read as a user reads it."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from refbench.report import table
from refbench.samples import Measurement

Make = Callable[..., tuple[Measurement, ...]]


def rendered(measurements: tuple[Measurement, ...], width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    table.render(console, measurements)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("width", [80, 100, 160, 220])
def test_nothing_is_cut_at_usual_widths(make: Make, width: int) -> None:
    text = rendered(make(), width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 220])
def test_every_row_names_its_failure_and_the_reason_stands_below(make: Make, width: int) -> None:
    text = rendered(make(), width)
    for mechanism, words in (
        ("ksm", "unsupported [1]"),
        ("memfd:block=3", "limit hit [2]"),
        ("uffd ", "wrong content [3]"),
    ):
        assert any(line.startswith(mechanism) and words in line for line in text.splitlines())
    assert "[1] KSM is off. Write 1 to run." in text
    assert "[3] 4096 bytes <are> wrong." in text


def test_what_each_mechanism_hides_is_visible(make: Make) -> None:
    text = rendered(make(), 220).split("sparse-write")[1]
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "64.0 MiB" in lines["memfd-full"]
    assert "16384" in lines["memfd"]
    assert "6.00 MiB" in lines["memfd"]
    assert "1024" in lines["uffd-sigbus"]
    for heading in ("Shmem", "slab", "SIGBUS", "VMAs", "memory lost", "traps", "PSS"):
        assert heading in text


def test_the_footer_says_where_numbers_come_from(make: Make) -> None:
    text = rendered(make())
    assert "host · Linux 6.18.0 x86_64 · real clock" in text
    assert "8 runs a cell, 16 samples" in text
    assert "memory cgroup" in text
    assert "No memory cgroup here" in rendered(make(cgroup=False))


def test_a_case_without_any_result_still_has_its_rows(make: Make) -> None:
    failed = tuple(one for one in make() if one.failure)
    text = rendered(failed, 80)
    assert "limit hit" in text
    assert "131072 mappings." in text


def test_colour_codes_come_only_with_colour(make: Make) -> None:
    assert "\x1b" not in rendered(make())
