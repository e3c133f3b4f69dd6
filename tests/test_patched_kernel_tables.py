"""The manual's tables of the patched kernel are those that the commands beside them print."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

SCRIPT = "scripts/patched_kernel_tables.py"
NAMES = ("v4", "faults", "memory", "thp", "uffd")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "patched-kernel.md").read_text()


def table_of(page: str, name: str) -> list[list[str]]:
    """The table behind the command that prints it."""
    found = re.search(rf"{re.escape(SCRIPT)} {name}\n\n((?:\|.*\n)+)", page)
    assert found is not None, name
    return [cells(line) for line in found[1].splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_the_manual_is_the_commands(repository: Path, page: str, name: str) -> None:
    script = runpy.run_path(str(repository / SCRIPT))
    tables, nothing = script["TABLES"], script["Found"]({})
    assert tuple(tables) == NAMES
    shown = table_of(page, name)
    printed = [cells(line) for line in tables[name]("patched").lines(nothing)]
    assert shown[0] == printed[0]
    assert len(shown) > 2
    # What was not measured is in no table of the manual; rows that a table has by itself are.
    assert not [cell for row in shown for cell in row if cell == "not measured"]
    assert {row[0].strip("`") for row in printed[2:]} <= {row[0].strip("`") for row in shown[2:]}


def test_no_ratio_of_a_fault_is_above_the_bound_where_clearing_counts_as_copying(page: str) -> None:
    header, _, *rows = table_of(page, "faults")
    at = {name: place for place, name in enumerate(header)}
    bound = [row for row in rows if (row[at["ERMS"]], row[at["init_on_alloc"]]) == ("no", "0")]
    assert {(row[0], row[1]) for row in bound} >= {("store", "patched"), ("read", "patched")}
    for row in bound:
        assert float(row[at["refpage / anon"]]) <= 1.02, row


def test_pages_of_the_reference_page_are_those_of_plain_memory(page: str) -> None:
    _, _, *rows = table_of(page, "memory")
    assert len(rows) >= 11
    for row in rows:
        for cell in row[1:]:
            anon, refpage = cell.split(" / ")
            assert anon == refpage, row
