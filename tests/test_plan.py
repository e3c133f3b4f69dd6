"""Planning: selection by name and glob, order, and the estimate."""

from __future__ import annotations

import pytest

from refbench.errors import UsageError
from refbench.estimate import Pace, pace
from refbench.plan import Request, make_plan, split_specs
from refbench.plugins import registry
from refbench.words import Clock

PAGE = 4096


def names(request: Request) -> set[tuple[str, str]]:
    plan = make_plan(registry(), PAGE, request)
    return {(cell.label, str(cell.mechanism)) for cell in plan.cells}


def test_bench_preset_has_every_mechanism_and_workload() -> None:
    plan = make_plan(registry(), PAGE, Request())
    assert {cell.mechanism.name for cell in plan.cells} >= {
        "anon", "memset", "memfd", "memfd-full", "uffd", "uffd-sigbus", "segv", "ksm",
    }  # fmt: skip
    assert {cell.workload.partition(":")[0] for cell in plan.cells} == {
        "sparse-touch", "dense-touch", "fork-after-alloc", "alloc-churn",
    }  # fmt: skip


def test_commas_separate_specs_and_options() -> None:
    texts = ("memfd:block=16,anon,uffd:events=fork", "uffd-sigbus:atfork,mem*")
    assert list(split_specs(texts, registry().mechanisms)) == [
        "memfd:block=16", "anon", "uffd:events=fork", "uffd-sigbus:atfork", "mem*",
    ]  # fmt: skip


def test_globs() -> None:
    request = Request(mechanisms=("memfd*",), workloads=("fork-*",))
    assert names(request) == {
        (case, mechanism)
        for case in ("fork-child-write", "fork-parent-read")
        for mechanism in ("memfd", "memfd-full")
    }


def test_parameters_make_a_workload_of_a_case() -> None:
    request = Request(
        mechanisms=("anon",), workloads=("dense-write",), parameters=(("size", "1MiB"),)
    )
    assert names(request) == {("dense-touch:size=1MiB", "anon")}


def test_equal_things_are_one_cell() -> None:
    request = Request(mechanisms=("memfd:block=1", "memfd"), workloads=("dense-touch:size=16MiB",))
    assert names(request) == {("dense-touch", "memfd")}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request(mechanisms=("memst",)), "Did you mean 'memset'"),
        (Request(mechanisms=("memfd:blok=2",)), "Did you mean 'block'"),
        (Request(mechanisms=("zz*",)), "Nothing matches"),
        (Request(workloads=("dense-tuch",)), "Did you mean 'dense-touch'"),
        (Request(workloads=("dense-touch:size=0",)), "at least 1B"),
        (Request(workloads=("sparse-touch:stride=-1",)), "at least 1"),
        (Request(workloads=("dense-touch:size=5000",)), "whole number of pages"),
        (Request(workloads=("sparse-touch:size=8KiB",)), "larger than the mapping"),
        (Request(workloads=("fork-after-alloc:size=4KiB",)), "larger than the mapping"),
        (Request(pattern="byte:0x100"), "a number from 0 to 0xff"),
        (Request(pattern="file:/nonexistent/page"), "cannot be read"),
        (Request(pattern="colour:red"), "no pattern"),
        (Request(runs=0), "measure nothing"),
        (Request(program="not a program"), "first line"),
    ],
)
def test_what_does_not_exist_is_named(request_: Request, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(registry(), PAGE, request_)
    assert says in str(caught.value)
    assert caught.value.remedy


def test_rounds_are_shuffled_complete_and_repeatable() -> None:
    request = Request(runs=4, seed=7)
    plan = make_plan(registry(), PAGE, request)
    rounds = list(plan.rounds())
    assert [index for index, _ in rounds] == [0, 1, 2, 3]
    assert all(set(cells) == set(plan.cells) for _, cells in rounds)
    assert len({cells for _, cells in rounds}) == 4
    assert list(make_plan(registry(), PAGE, request).rounds()) == rounds
    other = make_plan(registry(), PAGE, Request(runs=4, seed=8))
    assert list(other.rounds()) != rounds


def test_estimate_grows_with_the_work() -> None:
    def seconds(size: str, mechanism: str) -> float:
        request = Request(mechanisms=(mechanism,), workloads=(f"dense-touch:size={size}",))
        return make_plan(registry(), PAGE, request).seconds

    assert seconds("64MiB", "uffd") > 3 * seconds("16MiB", "uffd")
    assert seconds("64MiB", "memfd") > seconds("64MiB", "memfd:block=512")


@pytest.mark.parametrize(
    ("clock", "runs", "iterations"),
    [(Clock.REAL, 30, 3), (Clock.INSTRUCTIONS, 3, 1), (Clock.MODELLED, 1, 1)],
)
def test_how_often_follows_from_the_clock_unless_it_is_said(
    clock: Clock, runs: int, iterations: int
) -> None:
    plan = make_plan(registry(), PAGE, Request(), clock=clock)
    assert (plan.runs, plan.iterations) == (runs, iterations)
    plan = make_plan(registry(), PAGE, Request(runs=7, iterations=5), clock=clock)
    assert (plan.runs, plan.iterations) == (7, 5)


def test_an_emulator_is_slower_and_a_model_does_not_care_for_sizes() -> None:
    def seconds(size: str, pace: Pace) -> float:
        request = Request(("memset",), (f"dense-touch:size={size}",), runs=1, iterations=1)
        return make_plan(registry(), PAGE, request, pace=pace).seconds

    for size in ("16MiB", "1GiB"):
        assert seconds(size, Pace.EMULATED) > 5 * seconds(size, Pace.NATIVE)
    assert seconds("1TiB", Pace.MODELLED) == seconds("4KiB", Pace.MODELLED) < 0.1


def test_the_pace_is_told_by_the_clock_and_the_accelerator() -> None:
    assert pace(Clock.MODELLED, {}) is Pace.MODELLED
    assert pace(Clock.INSTRUCTIONS, {}) is Pace.EMULATED
    assert pace(Clock.REAL, {"accel": "tcg"}) is Pace.EMULATED
    assert pace(Clock.REAL, {"accel": "kvm"}) is Pace.NATIVE
    assert pace(Clock.REAL, {}) is Pace.NATIVE


def test_program_of_the_users_own() -> None:
    text = "refbench-program 1\nname mine\nmap 0 4096\ntouch 0 0 4096 write 1\n"
    plan = make_plan(registry(), PAGE, Request(program=text, mechanisms=("anon",)))
    assert [cell.label for cell in plan.cells] == ["program:mine"]
