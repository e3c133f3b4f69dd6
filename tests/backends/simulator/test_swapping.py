"""Swap and limits on memory: against a real swap file where one may be switched on, and alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refbench import program as p
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.program import Program
from refbench.runner import open_target
from refbench.samples import PhaseCounters, Run
from refbench.words import Cell, Pattern

MIB = 1 << 20
PAGE = 4096
SIZE = 4 * MIB
MEMORY = ("rss_anon", "rss_shmem", "swap", "pte", "vmas")


def run(target: str, *steps: p.Step, mechanism: str = "anon", thp: bool = False) -> Run:
    _, session = open_target(registry(), target)
    with session:
        program = Program("test", steps, observe_all=True)
        cell = Cell("test", Spec.parse(mechanism), Pattern.parse("byte:0xAA"), program, thp=thp)
        return session.run(cell, 0, 60)


def timed(name: str, step: p.Step) -> tuple[p.Step, ...]:
    return (p.Phase(name), step, p.Phase(), p.Measure(name))


def touch(access: p.Access, offset: int = 0, length: int = SIZE, stride: int = PAGE) -> p.Touch:
    return p.Touch(0, offset, length, access, stride)


def advise(advice: str, offset: int = 0, length: int = SIZE) -> tuple[p.Step, ...]:
    return (p.Advise(0, offset, length, advice), p.Measure(f"{advice}-{offset}-{length}"))


OUT = (p.Map(0, SIZE), touch("write"), *advise("pageout"))
HUGE = (p.Map(0, SIZE), p.Advise(0, 0, SIZE, "hugepage"), touch("write", stride=16 * PAGE))
PROGRAMS: dict[str, tuple[str, tuple[p.Step, ...]]] = {
    "load": ("anon", (*OUT, *timed("load", touch("read")), *timed("store", touch("write")))),
    "store": ("anon", (*OUT, *timed("store", touch("write")), *advise("pageout", length=MIB))),
    "parts": ("anon", (*OUT, *timed("some", touch("write", stride=16 * PAGE)), *advise("pageout"))),
    "fork": (
        "anon",
        (
            *OUT,
            p.Fork(
                (p.Measure("child"), *timed("child", touch("read", length=SIZE // 2))),
                (
                    *timed("parent", touch("read", length=MIB)),
                    *timed("again", touch("write", length=MIB)),
                ),
            ),
            *timed("after", touch("write")),
        ),
    ),
    "shared": (
        "anon",
        (
            p.Map(0, SIZE),
            touch("write"),
            p.Fork(advise("pageout", MIB, MIB), advise("pageout", 2 * MIB, MIB)),
            *advise("pageout"),
            *advise("dontneed", 0, MIB),
            *advise("free", MIB, MIB),
            p.Protect(0, 2 * MIB, MIB, "read"),
            *timed("load", touch("read")),
        ),
    ),
    "free": (
        "anon",
        (
            p.Map(0, SIZE),
            touch("write"),
            *advise("free", 0, 2 * MIB),
            *timed("some", touch("write", length=MIB)),
            *advise("pageout"),
            *timed("load", touch("read")),
            *advise("pageout"),
        ),
    ),
    "moved": (
        "anon",
        (
            *OUT,
            p.Remap(0, MIB, MIB, 1),
            p.Unmap(0, 3 * MIB, MIB),
            p.Measure("moved"),
            *timed("load", p.Touch(1, 0, MIB, "read", PAGE)),
        ),
    ),
    "locked": ("anon", (*OUT, *timed("lock", p.Lock(0, 0, SIZE)), *advise("pageout", 0, MIB))),
    "populated": (
        "anon",
        (
            *OUT,
            *timed("read", p.Advise(0, 0, 2 * MIB, "populate-read")),
            *timed("write", p.Advise(0, 2 * MIB, 2 * MIB, "populate-write")),
        ),
    ),
    "file": (
        "memfd-full",
        (
            p.Map(0, SIZE),
            touch("read"),
            touch("write", length=MIB),
            *advise("pageout"),
            *timed("load", touch("read")),
        ),
    ),
    "blocks": (
        "memfd:block=16",
        (
            p.Map(0, SIZE),
            touch("read"),
            touch("write", length=MIB),
            *advise("pageout"),
            *timed("load", touch("read")),
        ),
    ),
    "huge": ("anon", (*HUGE, *advise("pageout"), *timed("load", touch("read")))),
    "huge-parts": ("anon", (*HUGE, *advise("pageout", length=MIB), *advise("free"))),
    "collapse": ("anon", (*OUT, *advise("collapse"))),
}


@pytest.fixture(scope="module")
def swap_file() -> Iterator[Path]:
    """A file of 64 MiB to swap to. Nothing but what these tests page out goes there."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("swapon"):
        pytest.skip("only root may switch swap on, on Linux")
    if "\n" in Path("/proc/swaps").read_text().strip():
        pytest.skip("this machine swaps already: what it swaps to is not known")
    path = Path("/var/tmp") / f"refbench-swap-{os.getpid()}"
    try:
        with path.open("wb") as file:
            file.write(bytes(64 * MIB))
        path.chmod(0o600)
        for command in (["mkswap", str(path)], ["swapon", str(path)]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode:
                pytest.skip(f"no swap here: {done.stderr.strip()}")
        try:
            yield path
        finally:
            subprocess.run(["swapoff", path], check=True, timeout=120)
    finally:
        path.unlink(missing_ok=True)


def faults(phase: PhaseCounters) -> int:
    """Minor and major together: which it is depends on what is still in the swap cache."""
    return phase.minor_faults + phase.major_faults


def numbers(found: Run) -> dict[str, int]:
    assert found.failure is None, found.failure
    sample = found.samples[0]
    told = {f"{name}: faults": faults(phase) for name, phase in sample.phases.items()}
    start = sample.memory["start"]
    for label, memory in sample.memory.items():
        for name in MEMORY:
            told[f"{label}: {name}"] = getattr(memory, name) - getattr(start, name)
    return told


@pytest.mark.parametrize("name", PROGRAMS)
def test_paging_out_and_in_is_the_hosts(name: str, swap_file: Path) -> None:
    mechanism, steps = PROGRAMS[name]
    thp = name.startswith("huge") or name == "collapse"
    host = run("host", *steps, mechanism=mechanism, thp=thp)
    model = run("simulator:like=host,swap=64MiB", *steps, mechanism=mechanism, thp=thp)
    told, ours = numbers(host), numbers(model)
    # The host may pass over a batch of pages that somebody holds at that moment (SWAP_CLUSTER_MAX).
    spared = 64 * 4096 if name == "parts" else 0
    wrong = {key: (told[key], ours[key]) for key in told if abs(told[key] - ours[key]) > spared}
    assert wrong == {}


def test_without_swap_nothing_anonymous_is_paged_out() -> None:
    found = run("simulator", *OUT, *timed("load", touch("read"))).samples[0]
    assert found.memory["load"].rss_anon == SIZE
    assert found.memory["load"].swap == 0
    assert faults(found.phases["load"]) == 0


def test_swap_that_is_full_takes_no_more() -> None:
    found = run("simulator:swap=1MiB", *OUT).samples[0].memory["pageout-0-4194304"]
    assert found.swap == MIB
    assert found.rss_anon == SIZE - MIB


LIMIT = 64 * MIB
DENSE = (p.Map(0, 2 * LIMIT), *timed("fill", p.Touch(0, 0, 2 * LIMIT, "write", PAGE, value=7)))


def test_memory_that_runs_out_ends_the_run() -> None:
    failure = run(f"simulator:memory={LIMIT}", *DENSE).failure
    assert failure is not None
    assert failure.kind == "limit-hit"
    assert failure.limit == LIMIT
    assert failure.wanted > LIMIT
    assert "memory ran out" in failure.message


def test_swap_that_runs_out_does_too() -> None:
    failure = run(f"simulator:memory={LIMIT},swap={LIMIT // 2}", *DENSE).failure
    assert failure is not None
    assert failure.kind == "limit-hit"


@pytest.mark.parametrize("mechanism", ["anon", "memset", "memfd-full", "uffd-sigbus"])
def test_with_swap_all_of_it_stays_and_no_more_than_fits_is_resident(mechanism: str) -> None:
    again = p.Touch(0, 0, 2 * LIMIT, "read", PAGE)
    check = p.Expect(0, 0, 2 * LIMIT, 7, stride=PAGE)
    target = f"simulator:memory={LIMIT},swap={4 * LIMIT}"
    found = run(target, *DENSE, *timed("again", again), check, mechanism=mechanism)
    assert found.failure is None, found.failure
    sample = found.samples[0]
    assert [each for each in sample.observations if not each.ok] == []
    for memory in sample.memory.values():
        assert (memory.cgroup_current or 0) <= LIMIT
        assert memory.rss <= LIMIT
    filled = sample.memory["fill"]
    assert filled.rss + (filled.swap or 0) == 2 * LIMIT
    # Whatever was accessed longest ago has gone by the time when it is wanted again.
    assert sample.phases["again"].major_faults == 2 * LIMIT // PAGE


def test_what_fits_is_not_swapped() -> None:
    half = LIMIT // 2
    steps = (p.Map(0, half), p.Touch(0, 0, half, "write", PAGE), p.Measure("a"))
    found = run(f"simulator:memory={LIMIT},swap={LIMIT}", *steps).samples[0].memory["a"]
    assert found.rss_anon == half
    assert found.swap == 0


def test_what_was_given_up_goes_first() -> None:
    half = LIMIT // 2
    steps = (
        p.Map(0, 2 * LIMIT),
        p.Touch(0, 0, half, "write", PAGE),
        p.Advise(0, 0, half, "free"),
        *timed("fill", p.Touch(0, LIMIT, half + half // 2, "write", PAGE)),
        p.Expect(0, 0, half, "zero", stride=PAGE),
    )
    found = run(f"simulator:memory={LIMIT}", *steps)
    assert found.failure is None, found.failure
    assert [each for each in found.samples[0].observations if not each.ok] == []
    assert found.samples[0].memory["fill"].rss_anon == half + half // 2


def test_what_is_locked_stays() -> None:
    half = LIMIT // 2
    steps = (
        p.Map(0, 2 * LIMIT),
        p.Lock(0, 0, half),
        p.Touch(0, half, LIMIT, "write", PAGE),
        *timed("load", p.Touch(0, 0, half, "read", PAGE)),
    )
    found = run(f"simulator:memory={LIMIT},swap={LIMIT}", *steps)
    assert found.failure is None, found.failure
    assert faults(found.samples[0].phases["load"]) == 0
    failure = run(f"simulator:memory={half},swap={LIMIT}", *steps).failure
    assert failure is not None
    assert failure.kind == "limit-hit"


def test_huge_pages_are_broken_up_on_their_way_out() -> None:
    steps = (
        p.Map(0, 2 * LIMIT),
        p.Advise(0, 0, 2 * LIMIT, "hugepage"),
        *timed("fill", p.Touch(0, 0, 2 * LIMIT, "write", PAGE)),
    )
    found = run(f"simulator:memory={LIMIT},swap={2 * LIMIT}", *steps, thp=True)
    assert found.failure is None, found.failure
    filled = found.samples[0].memory["fill"]
    assert filled.rss_anon <= LIMIT
    assert filled.rss_anon + (filled.swap or 0) == 2 * LIMIT
    assert found.samples[0].phases["fill"].minor_faults == 2 * LIMIT // (2 * MIB)
