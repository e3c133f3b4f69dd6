"""Metrics: what is read from a sample, and from where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from refbench import metrics
from refbench.errors import UsageError
from refbench.samples import MemorySnapshot, PhaseCounters, Sample

KIB = 1024
START = MemorySnapshot(
    rss=1000 * KIB,
    rss_anon=600 * KIB,
    rss_file=400 * KIB,
    rss_shmem=0,
    hwm=1000 * KIB,
    pte=40 * KIB,
    vmas=20,
)
TOUCHED = replace(
    START,
    rss=1800 * KIB,
    rss_anon=1100 * KIB,
    rss_shmem=300 * KIB,
    hwm=1900 * KIB,
    pte=48 * KIB,
    vmas=36,
    held=64 * KIB,
)


def sample(**memory: MemorySnapshot) -> Sample:
    return Sample(
        index=1,
        phases={
            "setup": PhaseCounters(ns=9_000_000, minor_faults=500, syscalls=7),
            "map": PhaseCounters(ns=2_000_000, minor_faults=3, syscalls=2, user_ns=500),
            "touch": PhaseCounters(
                ns=3_000_000, minor_faults=1, major_faults=10, sigbus=20, sigsegv=5, uffd_messages=9
            ),
        },
        memory={"start": START, **memory},
    )


def value(name: str, of: Sample) -> float | None:
    return metrics.find(name).value(of)


def test_totals_leave_the_setup_out_and_parts_show_it() -> None:
    assert value("time", sample()) == pytest.approx(0.005)
    assert value("time.setup", sample()) == pytest.approx(0.009)
    assert value("time.touch", sample()) == pytest.approx(0.003)
    assert value("faults", sample()) == 14
    assert value("syscalls", sample()) == 2
    assert value("user", sample()) == pytest.approx(500e-9)


def test_traps_count_signal_rounds_but_no_userfault_twice() -> None:
    assert value("traps.touch", sample()) == 36
    assert value("faults.touch", sample()) == 11
    assert value("uffd-messages", sample()) == 9


def test_a_phase_or_label_that_is_not_there_has_no_value() -> None:
    assert value("time.fork", sample()) is None
    assert value("rss.child", sample(touch=TOUCHED)) is None
    assert value("rss", sample()) is None
    assert value("rss", Sample(index=0, phases={}, memory={"touch": TOUCHED})) is None


def test_memory_is_growth_and_the_largest_over_the_labels() -> None:
    touched = sample(map=START, touch=TOUCHED, end=replace(START, rss=900 * KIB))
    assert value("rss", touched) == 800 * KIB
    assert value("rss.end", touched) == -100 * KIB
    assert value("hwm", touched) == 900 * KIB
    assert value("vmas", touched) == 16
    assert value("held", touched) == 64 * KIB


def test_what_cannot_be_read_is_none_and_never_zero() -> None:
    touched = sample(touch=TOUCHED)
    for name in ("pss", "uss", "shmem", "slab", "cgroup-current", "cgroup-peak", "swap"):
        assert value(name, touched) is None


def test_lost_without_a_cgroup_is_an_approximation_that_says_so() -> None:
    reading = metrics.find("lost").read(sample(touch=TOUCHED))
    assert reading is not None
    assert reading.source == "process"
    assert reading.value == (500 + 64 + 8) * KIB


def test_pages_that_ksm_merged_are_not_lost() -> None:
    merged = replace(TOUCHED, ksm=400 * KIB)
    assert value("lost", sample(touch=merged)) == (500 - 400 + 64 + 8) * KIB


def test_lost_in_a_cgroup_counts_what_was_held_at_start_too() -> None:
    start = replace(START, cgroup_current=3000 * KIB, held=256 * KIB)
    there = replace(TOUCHED, cgroup_current=4000 * KIB)
    reading = metrics.find("lost").read(sample(start=start, touch=there))
    assert reading is not None
    assert reading.source == "cgroup"
    assert reading.value == (1000 + 256) * KIB


def test_a_zero_growth_of_the_cgroup_is_still_the_cgroups() -> None:
    start = replace(START, cgroup_current=3000 * KIB)
    reading = metrics.find("lost").read(
        sample(start=start, touch=replace(TOUCHED, cgroup_current=3000 * KIB))
    )
    assert reading is not None
    assert (reading.source, reading.value) == ("cgroup", 0)


def test_the_peak_is_above_the_charge_at_start() -> None:
    start = replace(START, cgroup_current=3000 * KIB, cgroup_peak=9000 * KIB)
    there = replace(TOUCHED, cgroup_current=4000 * KIB, cgroup_peak=9500 * KIB)
    assert value("cgroup-peak", sample(start=start, touch=there)) == 6500 * KIB


def test_shmem_and_slab_prefer_the_cgroup_over_the_system() -> None:
    start = replace(START, sys_shmem=0, sys_slab=0)
    there = replace(TOUCHED, sys_shmem=5 * KIB, sys_slab=7 * KIB)
    reading = metrics.find("shmem").read(sample(start=start, touch=there))
    assert reading is not None
    assert (reading.source, reading.value) == ("system", 5 * KIB)
    both = sample(
        start=replace(start, cgroup_shmem=KIB), touch=replace(there, cgroup_shmem=3 * KIB)
    )
    reading = metrics.find("shmem").read(both)
    assert reading is not None
    assert (reading.source, reading.value) == ("cgroup", 2 * KIB)


def test_phases_and_labels_are_found_in_order() -> None:
    assert metrics.phases([sample()]) == ("setup", "map", "touch")
    assert metrics.labels([sample(map=START, touch=TOUCHED)]) == ("map", "touch")


def test_an_unknown_metric_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="'faults'"):
        metrics.find("fault")


def test_a_part_keeps_what_the_metric_is() -> None:
    part = metrics.find("faults.touch")
    assert (part.name, part.deterministic, part.unit) == ("faults.touch", True, "count")
    assert metrics.find("lost.end").resolution(4096) == 256 * KIB


@pytest.mark.parametrize("name", metrics.METRICS)
def test_every_metric_says_what_it_is_and_what_it_does_not_see(name: str) -> None:
    metric = metrics.find(name)
    assert metric.about.endswith(".")
    assert metric.blind.endswith(".")


def test_slab_is_kernel_memory_without_page_tables_where_the_cgroup_has_no_slab() -> None:
    start = replace(START, cgroup_kernel=300 * KIB, sys_slab=0)
    there = replace(TOUCHED, cgroup_kernel=3300 * KIB, sys_slab=900 * KIB)
    reading = metrics.find("slab").read(sample(start=start, touch=there))
    assert reading is not None
    assert (reading.source, reading.value) == ("cgroup", 2992 * KIB)
    apart = replace(there, cgroup_slab=5 * KIB)
    reading = metrics.find("slab").read(sample(start=replace(start, cgroup_slab=0), touch=apart))
    assert reading is not None
    assert (reading.source, reading.value) == ("cgroup", 5 * KIB)
    plain = replace(start, cgroup_kernel=None)
    reading = metrics.find("slab").read(sample(start=plain, touch=there))
    assert reading is not None
    assert (reading.source, reading.value) == ("system", 900 * KIB)


def test_an_executed_programs_memory_is_counted_from_nothing() -> None:
    own: dict[str, Any] = {
        "pss": 700 * KIB,
        "uss": 600 * KIB,
        "sys_shmem": 500 * KIB,
        "cgroup_current": 90 * KIB,
    }
    before: dict[str, Any] = dict.fromkeys(own, 7 * KIB)
    start = replace(START, **before)
    found = sample(exit=replace(TOUCHED, **own, executed=True))
    found = replace(found, memory={**found.memory, "start": start})
    assert value("rss", found) == 1800 * KIB
    assert value("hwm.exit", found) == 1900 * KIB
    assert value("pss", found) == 700 * KIB
    assert value("uss", found) == 600 * KIB
    assert value("pte", found) == 48 * KIB
    assert value("vmas", found) == 36
    assert value("shmem", found) == 493 * KIB
    assert value("lost", found) == 83 * KIB
    bare = sample(exit=replace(TOUCHED, executed=True))
    assert value("lost", bare) == (1100 + 64 + 48) * KIB
