"""How much a program populates is worked out before it runs, and errs towards letting it."""

from __future__ import annotations

import pytest

from refbench import program as p
from refbench.limits import mapped, populated
from refbench.plugins import registry
from refbench.words import Mechanism

PAGE = 4096
MIB = 1 << 20


def known(mechanism: str) -> Mechanism:
    """A registered mechanism, or what a plugin declares that says no more than it must."""
    return registry().mechanisms.get(mechanism) or Mechanism(mechanism, "")


def run(mechanism: str, *steps: p.Step) -> int:
    return populated(p.Program("test", steps), known(mechanism).populates, PAGE)


MAP = p.Map(0, 64 * MIB)
SPARSE = p.Touch(0, 0, 64 * MIB, "write", 16 * PAGE)


@pytest.mark.parametrize("mechanism", ["memset", "memfd-full", "ksm"])
def test_what_fills_when_mapped_counts_whole(mechanism: str) -> None:
    assert run(mechanism, MAP) == 64 * MIB
    assert run(mechanism, MAP, SPARSE) == 64 * MIB


@pytest.mark.parametrize("mechanism", ["anon", "memfd", "uffd", "segv", "a-plugins"])
def test_elsewhere_the_pages_that_stores_reach_count(mechanism: str) -> None:
    assert run(mechanism, MAP) == 0
    assert run(mechanism, MAP, SPARSE) == 4 * MIB
    assert run(mechanism, MAP, p.Touch(0, 0, 64 * MIB, "write", 64)) == 64 * MIB
    assert run(mechanism, MAP, p.Touch(0, 0, 64 * MIB, "write", PAGE, count=10)) == 10 * PAGE
    assert run(mechanism, MAP, p.Touch(0, 0, PAGE * 3, "write", 1, size=1)) == 3 * PAGE


def test_loads_count_where_each_page_is_the_process_own() -> None:
    load = p.Touch(0, 0, 64 * MIB, "read", PAGE)
    assert run("anon", MAP, load) == 0
    assert run("memfd", MAP, load) == 0
    assert run("uffd", MAP, load) == 64 * MIB


def test_populating_and_locking_count_as_stores() -> None:
    assert run("anon", p.Map(0, MIB, populate=True)) == MIB
    assert run("anon", MAP, p.Lock(0, 0, MIB)) == MIB
    assert run("anon", MAP, p.Lock(0, 0, MIB, on=False)) == 0
    assert run("anon", MAP, p.Advise(0, 0, MIB, "populate-write")) == MIB
    assert run("anon", MAP, p.KernelWrites(0, 0, MIB, "read")) == MIB


def test_regions_add_up_while_they_live() -> None:
    assert run("memset", p.Map(0, MIB), p.Map(1, MIB)) == 2 * MIB
    assert run("memset", p.Map(0, MIB), p.Unmap(0), p.Map(1, MIB)) == MIB
    churn = p.Repeat(1000, (p.Map(0, MIB), p.Unmap(0, 0, MIB)))
    assert run("memset", churn) == MIB
    assert run("memset", p.Map(0, MIB), p.Remap(0, 0, MIB, 1, 0)) == MIB


def test_what_moved_is_counted_once_and_what_stayed_goes_on_counting() -> None:
    half, move = MIB // 2, p.Remap(0, 0, MIB // 2, 1, 0)
    assert run("memset", p.Map(0, MIB), move) == MIB
    again = p.Touch(0, half, half, "write", PAGE)
    assert run("anon", p.Map(0, MIB), move, again) == half
    assert run("anon", p.Map(0, MIB), p.Remap(0, 0, MIB, 1, 0), again) == 0


def test_a_child_copies_beside_its_parent() -> None:
    child = (p.Touch(0, 0, MIB, "write", PAGE),)
    assert run("memset", p.Map(0, MIB), p.Fork(child)) == 2 * MIB
    assert run("memset", p.Map(0, MIB), p.Fork((), child)) == MIB
    twice = p.Fork((p.Fork(child), *child))
    assert run("memset", p.Map(0, MIB), twice) == 2 * MIB


def test_threads_count_together() -> None:
    share = p.Touch(0, 0, MIB, "write", PAGE, shared=True)
    steps = (p.Map(0, MIB), p.Parallel((p.Threads(4, (share,)),)))
    assert run("anon", *steps) == MIB


def test_mapped_is_the_whole_of_what_is_mapped_at_one_time() -> None:
    steps = (p.Map(0, MIB), p.Unmap(0), p.Map(1, 2 * MIB), p.Map(2, MIB))
    assert mapped(p.Program("test", steps)) == 3 * MIB
