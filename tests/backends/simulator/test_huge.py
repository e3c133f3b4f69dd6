"""Transparent huge pages: the model against the host kernel, and its rules by release."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.backends.simulator.differential.comparison import Measured, compare, table, unstable
from tests.backends.simulator.differential.pair import PATTERN, SECONDS, Pair, open_pair
from tests.backends.simulator.differential.readings import PEAK
from tests.backends.simulator.differential.skeleton import with_skeleton
from tests.backends.simulator.huge_programs import MIB, PAGE, Drawer

from refbench import program as p
from refbench.backend import Session
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.program import Program
from refbench.runner import open_target
from refbench.samples import Sample
from refbench.words import Cell

THP = Path("/sys/kernel/mm/transparent_hugepage")
QUIET = {"pages_to_scan": "1", "scan_sleep_millisecs": "600000", "max_ptes_none": "0"}
"""khugepaged would collapse ranges in the midst of a program."""
PROGRAMS = 160
TRIES = 3
MECHANISMS = ("anon",) * 6 + ("memset", "segv", "uffd-sigbus", "memfd:block=512")
HUGE = 512 * PAGE


def measure(session: Session, program: Program, mechanism: str) -> Measured:
    """As ``Pair`` does, with huge pages permitted."""
    spec = Spec.parse(mechanism, what="mechanism")
    cells = (
        Cell("program", spec, PATTERN, each, thp=True) for each in with_skeleton(program, PAGE)
    )
    return Measured(*(session.run(cell, 1, SECONDS) for cell in cells))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if sys.platform != "linux" or "[never]" in (THP / "enabled").read_text():
        pytest.skip("this machine has no transparent huge pages")
    knobs = {THP / "khugepaged" / name: value for name, value in QUIET.items()}
    before = {path: path.read_text() for path in knobs}
    try:
        for path, value in knobs.items():
            path.write_text(value)
    except PermissionError:
        pytest.skip("khugepaged can only be kept quiet by root")
    try:
        with open_pair() as both:
            yield both
    finally:
        for path, text in before.items():
            path.write_text(text)


@pytest.mark.timeout(300)
def test_random_programs_agree_with_the_host(pair: Pair) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    for number in range(PROGRAMS):
        mechanism = MECHANISMS[number % len(MECHANISMS)]
        files = mechanism.startswith("memfd")
        program = Drawer(f"{seed}.{number}", collapses=not files).program()
        assert pair.simulator is not None
        real = measure(pair.host, program, mechanism)
        for _ in range(TRIES):
            if not unstable(program, mechanism, real):
                break
            real = measure(pair.host, program, mechanism)
        modelled = measure(pair.simulator, program, mechanism)
        # VmHWM is not brought up to date when a huge page is broken up: exactness.md.
        found = [
            each
            for each in compare(program, mechanism, real, modelled)
            if each.place.counter != PEAK
        ]
        told = f"Drawer('{seed}.{number}'), {mechanism}\n{program.text()}\n{table(found)}"
        assert not found, told


def sample(target: str, *steps: p.Step, mechanism: str = "anon") -> Sample:
    _, session = open_target(registry(), target)
    program = Program("test", steps, observe_all=True)
    with session:
        cell = Cell("test", Spec.parse(mechanism), PATTERN, program, thp=True)
        run = session.run(cell, 0, SECONDS)
    assert run.failure is None, run.failure
    return run.samples[0]


def of(access: p.Access, stride: int = PAGE) -> tuple[p.Step, ...]:
    """One aligned range, touched; the clock runs in the phase ``t``."""
    return (p.Phase("t"), p.Touch(0, 0, HUGE, access, stride), p.Phase(), p.Measure("t"))


START = (p.Map(0, HUGE), p.Advise(0, 0, HUGE, "hugepage"))


def test_a_first_store_takes_a_huge_page_and_a_table_for_it() -> None:
    found = sample("simulator", *START, *of("write", HUGE))
    assert found.phases["t"].minor_faults == 1
    assert found.memory["t"].rss_anon == HUGE
    assert found.memory["t"].pte == 2 * PAGE


def test_without_advice_pages_stay_small() -> None:
    assert sample("simulator", p.Map(0, HUGE), *of("write")).phases["t"].minor_faults == 512
    always = sample("simulator:thp=always", p.Map(0, HUGE), *of("write"))
    assert always.phases["t"].minor_faults == 1
    assert sample("simulator:thp=never", *START, *of("write")).phases["t"].minor_faults == 512


def test_a_table_in_the_way_keeps_pages_small() -> None:
    small = p.Touch(0, 0, PAGE, "write", PAGE)
    steps = (p.Map(0, HUGE), small, p.Advise(0, 0, HUGE, "hugepage"), *of("write"))
    assert sample("simulator", *steps).phases["t"].minor_faults == 511


@pytest.mark.parametrize(("kernel", "faults", "resident"), [("6.12", 1, PAGE), ("6.13", 1, HUGE)])
def test_a_store_to_the_huge_zero_page(kernel: str, faults: int, resident: int) -> None:
    read = p.Touch(0, 0, HUGE, "read", HUGE)
    found = sample(f"simulator:kernel={kernel}", *START, read, *of("write", HUGE))
    assert found.phases["t"].minor_faults == faults
    assert found.memory["t"].rss_anon == resident


@pytest.mark.parametrize(("kernel", "dropped"), [("6.11", False), ("6.12", True)])
def test_breaking_up_drops_what_was_never_used(kernel: str, dropped: bool) -> None:
    part = p.Advise(0, 0, HUGE // 2, "cold")
    found = sample(f"simulator:kernel={kernel}", *START, *of("write", HUGE), part, p.Measure("c"))
    assert found.memory["c"].rss_anon == (PAGE if dropped else HUGE)


@pytest.mark.parametrize(("kernel", "charged"), [("6.14", 512), ("6.15", 513)])
def test_a_split_huge_page_that_is_the_parents_again(kernel: str, charged: int) -> None:
    touch = p.Touch(0, 0, HUGE, "write", PAGE)
    store = p.Touch(0, 0, PAGE, "write", PAGE)
    fork = p.Fork((p.Measure("child"),), (store,))
    found = sample(f"simulator:kernel={kernel}", *START, touch, fork, *of("write"))
    assert found.phases["t"].minor_faults == HUGE // PAGE - 1
    last = found.memory["t"]
    # Copied page by page the huge page is gone in the end; taken over, it keeps the page that
    # nothing shows any more.
    assert (last.cgroup_current or 0) - (last.cgroup_kernel or 0) == charged * PAGE


@pytest.mark.parametrize(("kernel", "ok"), [("6.17", False), ("6.18", True)])
def test_collapsing_what_is_read_only(kernel: str, ok: bool) -> None:
    steps = (
        p.Map(0, HUGE),
        p.Touch(0, 0, HUGE, "write", 16 * PAGE),
        p.Protect(0, 0, HUGE, "read"),
        p.Advise(0, 0, HUGE, "collapse"),
        p.Measure("collapsed"),
    )
    found = sample(f"simulator:kernel={kernel}", *steps)
    assert [each.ok for each in found.observations if each.step == "advise"] == [ok]
    assert found.memory["collapsed"].rss_anon == (HUGE if ok else HUGE // 16)


def test_a_part_that_is_unmapped_is_kept_until_the_rest_goes() -> None:
    half = p.Advise(0, 0, HUGE // 2, "dontneed")
    rest = p.Advise(0, HUGE // 2, HUGE // 2, "dontneed")
    steps = (*START, *of("write"), half, p.Measure("half"), rest, p.Measure("rest"))
    found = sample("simulator", *steps).memory
    charged = {label: found[label].cgroup_current or 0 for label in ("t", "half", "rest")}
    assert found["half"].rss_anon == HUGE // 2
    assert charged["half"] == charged["t"]
    assert charged["rest"] == charged["t"] - HUGE


def test_the_fold_makes_no_difference() -> None:
    size = 256 * MIB
    steps = (
        p.Map(0, size),
        p.Advise(0, 0, size, "hugepage"),
        p.Phase("t"),
        p.Touch(0, 0, size, "write", PAGE),
        p.Phase(),
        p.Measure("t"),
        p.Advise(0, MIB, size - 2 * MIB, "dontneed"),
        p.Measure("d"),
    )
    found = sample("simulator", *steps)
    assert found.phases["t"].minor_faults == size // HUGE
    assert found.memory["t"].rss_anon == size
    assert found.memory["d"].rss_anon == 2 * MIB
