"""Each counter that docs/simulator-exactness.md exempts: this machine shows that it is inexact,
and that it keeps within its bound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.backends.simulator.differential import bounds
from tests.backends.simulator.differential.pair import Pair, open_pair

from refbench.program import Program
from refbench.program import steps as s
from refbench.samples import Sample

PAGES = (1, 3, 7, 20, 31, 40, 63, 65, 100, 300)
PAGE = bounds.PAGE
TRIES = 10


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with open_pair() as found:
        yield found


def samples(pair: Pair, mechanism: str, *steps: s.Step) -> tuple[tuple[Sample, ...], ...]:
    """On the host and in the model."""
    program = Program("exactness", steps, observe_all=True)
    assert pair.simulator is not None
    host = pair.measure(pair.host, program, mechanism).run
    model = pair.measure(pair.simulator, program, mechanism).run
    assert not host.failure
    assert not model.failure
    return host.samples, model.samples


def growth(sample: Sample, field: str, label: str = "there") -> int | None:
    before, after = (getattr(sample.memory[name], field) for name in ("start", label))
    return None if before is None or after is None else after - before


def touched(pages: int) -> tuple[s.Step, ...]:
    size = pages * PAGE
    return s.Map(0, size), s.Touch(0, 0, size, "write", PAGE), s.Measure("there")


def test_pss_is_printed_in_whole_kib(pair: Pair) -> None:
    third = s.Fork((s.Measure("third"),))
    second = s.Fork((s.Measure("second"), third))
    host, model = samples(pair, "anon", *touched(1), second)
    exact = model[0].memory["third"].pss
    printed = host[0].memory["third"].pss
    assert exact == PAGE // 3
    assert printed is not None
    assert printed % bounds.KIB == 0


def test_a_memory_cgroup_is_charged_in_batches(pair: Pair) -> None:
    differing = 0
    for pages in PAGES:
        host, model = samples(pair, "anon", *touched(pages))
        for real, modelled in zip(host, model, strict=True):
            mine, theirs = growth(modelled, "cgroup_current"), growth(real, "cgroup_current")
            assert mine is not None
            if theirs is None:
                pytest.skip("no memory cgroup can be made here")
            differing += mine != theirs
            assert bounds.charged(theirs, mine)
    assert differing


def test_shmem_of_the_whole_system_lags(pair: Pair) -> None:
    differing = disturbed = 0
    for pages in PAGES:
        host, _ = samples(pair, "memfd-full", s.Map(0, pages * PAGE), s.Measure("there"))
        grown = [growth(real, "sys_shmem") for real in host]
        while not any(bounds.system_shmem(each or 0, pages * PAGE) for each in grown):
            # Somebody else's shared memory came or went meanwhile.
            disturbed += 1
            assert disturbed < TRIES
            host, _ = samples(pair, "memfd-full", s.Map(0, pages * PAGE), s.Measure("there"))
            grown = [growth(real, "sys_shmem") for real in host]
        differing += any(each != pages * PAGE for each in grown)
    assert differing


def test_a_handler_thread_reads_several_messages_at_once(pair: Pair) -> None:
    size = 400 * PAGE
    touch = s.Touch(0, 0, size, "write", PAGE, shared=True)
    threads = s.Parallel((s.Threads(3, (touch,)),))
    fewer = 0
    host, model = samples(pair, "uffd", s.Map(0, size), s.Phase("p"), threads, s.Phase())
    for real, modelled in zip(host, model, strict=True):
        mine, theirs = modelled.phases["p"], real.phases["p"]
        assert mine.uffd_messages == theirs.uffd_messages
        assert bounds.syscalls(theirs.syscalls, mine.syscalls, mine.uffd_messages)
        fewer += theirs.syscalls < mine.syscalls
    assert fewer


def test_the_peak_holds_buffers_of_the_agent(pair: Pair) -> None:
    size = 64 * PAGE
    differing = 0
    reads = s.KernelReads(0, 0, size, "vmreadv", "zero")
    host, model = samples(pair, "anon", s.Map(0, size), reads, s.Measure("there"))
    for real, modelled in zip(host, model, strict=True):
        mine = modelled.memory["there"].hwm
        theirs = real.memory["there"].hwm - real.memory["start"].rss
        differing += mine != theirs
        assert bounds.peak(theirs, mine, buffered=True)
    assert differing


def test_the_high_water_mark_lags(pair: Pair) -> None:
    """It is taken, when memory is given back, from counters whose parts are not added up."""
    pages = 1000
    differing = 0
    for _ in range(TRIES):
        host, model = samples(pair, "anon", *touched(pages), s.Unmap(0), s.Measure("after"))
        for real, modelled in zip(host, model, strict=True):
            mine, theirs = (growth(each, "hwm", "after") for each in (modelled, real))
            assert mine == pages * PAGE
            assert theirs is not None
            differing += theirs != mine
            assert bounds.peak(theirs, mine, buffered=False)
    assert differing


def test_a_fork_event_is_counted_at_no_fixed_moment(pair: Pair) -> None:
    """The thread that reads it goes on while fork(2) returns, and the phase ends."""
    if os.geteuid():
        pytest.skip("fork events are for root")
    forks = 30
    body = s.Repeat(forks, (s.Fork((), ()),))
    found = []
    for _ in range(TRIES):
        host, _ = samples(
            pair, "uffd:events=fork", s.Map(0, PAGE), s.Phase("fork"), body, s.Phase()
        )
        found += [real.phases["fork"].uffd_messages for real in host]
    assert all(0 <= count <= forks for count in found)
    assert min(found) < forks, "each is counted in its phase: let random programs fork there"


def test_slab_is_taken_by_the_page(pair: Pair) -> None:
    """One more VMA, and as much slab as before."""
    regions = range(40)
    steps = [each for r in regions for each in (s.Map(r, PAGE), s.Measure(f"m{r}"))]
    (real, _), _ = samples(pair, "segv", *steps)
    taken = [real.memory[f"m{r}"].sys_slab for r in regions]
    vmas = [real.memory[f"m{r}"].vmas for r in regions]
    assert vmas == list(range(vmas[0], vmas[0] + len(regions)))
    assert len(set(taken)) < len(regions)


@pytest.mark.parametrize("counter", ["sys_pagetables", "sys_available"])
def test_what_is_the_whole_systems_is_not_the_programs(pair: Pair, counter: str) -> None:
    """700 pages and what maps them are there, and this is not what it says, or not each time."""
    pages = 700
    found = set()
    for _ in range(TRIES):
        host, _ = samples(pair, "anon", *touched(pages))
        found |= {growth(real, counter) for real in host}
    assert found != {-pages * PAGE if counter == "sys_available" else 3 * PAGE}


def test_the_manual_lists_every_bound() -> None:
    manual = Path(__file__).parents[4] / "docs" / "simulator-exactness.md"
    text = manual.read_text(encoding="utf-8")
    system = ("sys_shmem", "sys_slab", "sys_pagetables", "sys_available")
    for counter in ("pss", "syscalls", "hwm", "cgroup_current", *system):
        assert f"`{counter}" in text
