"""What a first touch costs with each mechanism, in an agent process of its own."""

from __future__ import annotations

import pytest
from tests.native.conftest import PAGE, Agent, touching

# Sizes and counts as in the table that the mechanisms are known by.
PAGES = 4096
TOUCHED = PAGES // 16


@pytest.mark.parametrize(
    ("mechanism", "map_faults", "faults", "rounds"),
    [
        ("anon", 0, TOUCHED, 0),
        ("memset", PAGES, 0, 0),
        ("memfd", 0, TOUCHED, 0),
        ("memfd:block=16", 0, TOUCHED, 0),
        ("memfd-full", 0, TOUCHED, 0),
        ("uffd", 0, TOUCHED, TOUCHED),
        ("uffd:events=fork", 0, TOUCHED, TOUCHED),
        ("uffd-sigbus", 0, 0, TOUCHED),
        ("segv", 0, TOUCHED, TOUCHED),
    ],
)
def test_sparse_stores_cost_what_they_are_known_to_cost(
    agent: Agent, mechanism: str, map_faults: int, faults: int, rounds: int
) -> None:
    sample = agent.sample(touching(PAGES * PAGE, "write", 16 * PAGE), mechanism)
    mapping, touch = sample.phases["map"], sample.phases["touch"]
    # A few faults more where the kernel needs a fresh page of something for itself.
    assert map_faults <= mapping.faults <= map_faults + 4
    assert faults <= touch.faults <= faults + 4
    assert touch.sigbus + touch.sigsegv + touch.uffd_messages == rounds
    present = PAGES if mechanism == "memset" else TOUCHED
    growth = sample.memory["touch"].rss - sample.memory["start"].rss
    assert present * PAGE <= growth <= present * PAGE + 256 * 1024


@pytest.mark.parametrize(
    ("mechanism", "least", "most", "shown"),
    [
        ("anon", PAGES, PAGES, 0),
        ("memfd", PAGES, PAGES, PAGES),
        ("memfd:block=16", PAGES // 16, PAGES, PAGES),
        ("memfd-full", 1, PAGES, PAGES),
        ("uffd", PAGES, PAGES, PAGES),
        ("uffd-sigbus", 0, 0, PAGES),
        ("segv", PAGES, PAGES, PAGES),
    ],
)
def test_dense_reads_cost_what_they_are_known_to_cost(
    agent: Agent, mechanism: str, least: int, most: int, shown: int
) -> None:
    sample = agent.sample(touching(PAGES * PAGE, "read", PAGE), mechanism)
    touch = sample.phases["touch"]
    assert least <= touch.faults <= most + 4
    growth = sample.memory["touch"].rss - sample.memory["start"].rss
    assert shown * PAGE <= growth <= shown * PAGE + 256 * 1024


@pytest.mark.parametrize(
    ("mechanism", "of_map", "of_touch"),
    [
        ("anon", 1, 0),
        ("memset", 1, 0),
        ("memfd", PAGES, 0),
        ("memfd:reserve", 1 + PAGES, 0),
        ("memfd:block=16", PAGES // 16, 0),
        ("memfd:block=4096", 1, 0),
        ("uffd", 2, 3 * TOUCHED),
        ("uffd-sigbus", 2, TOUCHED),
        ("segv", 1, TOUCHED),
    ],
)
def test_system_calls_are_counted(agent: Agent, mechanism: str, of_map: int, of_touch: int) -> None:
    sample = agent.sample(touching(PAGES * PAGE, "write", 16 * PAGE), mechanism)
    assert sample.phases["map"].syscalls == of_map
    assert sample.phases["touch"].syscalls == of_touch


def test_vmas_and_held_bytes_tell_the_two_memfds_apart(agent: Agent) -> None:
    program = touching(PAGES * PAGE, "write", 16 * PAGE)
    small = agent.sample(program, "memfd").memory["touch"]
    full = agent.sample(program, "memfd-full").memory["touch"]
    assert small.held == PAGE
    assert full.held == PAGES * PAGE
    assert small.vmas - full.vmas == PAGES - 1


def test_a_full_memfd_is_held_until_its_last_part_is_unmapped(agent: Agent) -> None:
    sample = agent.sample(
        f"""refbench-program 1
        map 0 {64 * PAGE}
        map 1 {16 * PAGE}
        measure both
        unmap 0 {16 * PAGE} {16 * PAGE}
        unmap 1 0 0
        measure holed
        unmap 0 0 {16 * PAGE}
        unmap 0 {32 * PAGE} 0
        measure none
        """,
        "memfd-full",
    )
    assert sample.memory["both"].held == 80 * PAGE
    assert sample.memory["holed"].held == 64 * PAGE
    assert sample.memory["none"].held == 0
