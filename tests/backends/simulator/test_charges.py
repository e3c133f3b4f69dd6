"""What a memory cgroup is charged: the model against the host, within what its batches hide."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from refbench import program as p
from refbench.backend import Session
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.program import Program
from refbench.runner import open_target
from refbench.samples import Sample
from refbench.words import Cell, Pattern

PAGE = 4096
MIB = 1 << 20
VMAS = 60000
BATCH = 64 * PAGE
"""MEMCG_CHARGE_BATCH: what each CPU may hold without having handed it out."""
CHARGED = ("cgroup_current", "cgroup_kernel", "cgroup_peak")

Pair = tuple[Session, Session]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if sys.platform != "linux":
        pytest.skip("measures on Linux")
    _, host = open_target(registry(), "host")
    with host:
        if not host.capabilities().metrics["cgroup"].ok:
            pytest.skip("no memory cgroup may be made here")
        _, model = open_target(registry(), "simulator:like=host")
        with model:
            yield host, model


def allowed() -> int:
    """Two readings, each off by a batch a CPU: admin-guide/cgroup-v1/memory.rst."""
    return 2 * BATCH * (os.cpu_count() or 1)


def sample(session: Session, mechanism: str, *steps: p.Step) -> Sample:
    program = Program("charges", steps)
    cell = Cell("charges", Spec.parse(mechanism), Pattern.parse("byte:0xAA"), program)
    run = session.run(cell, 1, 60)
    assert run.failure is None, run.failure
    return run.samples[-1]


def growth(found: Sample, label: str, name: str) -> int:
    after, before = (getattr(found.memory[each], name) for each in (label, "start"))
    return int(after) - int(before)


def agree(pair: Pair, mechanism: str, *steps: p.Step) -> tuple[Sample, Sample]:
    """Every charge of both, at every stop."""
    host, model = (sample(each, mechanism, *steps) for each in pair)
    off = {
        f"{label}: {name}": (growth(host, label, name), growth(model, label, name))
        for label in host.memory
        for name in CHARGED
        if getattr(host.memory[label], name) is not None
    }
    # The peak is of the cgroup's life: an earlier sample's, with whatever else was charged then.
    assert {k: v for k, v in off.items() if abs(v[0] - v[1]) > allowed()} == {}
    return host, model


def test_vmas_and_their_anon_vmas_are_charged_to_the_byte_nearly(pair: Pair) -> None:
    size = VMAS * PAGE
    steps = (
        p.Map(0, size),
        p.Measure("mapped"),
        p.Touch(0, 0, size, "read", PAGE),
        p.Measure("read"),
        p.Touch(0, 0, size, "write", PAGE),
        p.Measure("written"),
        p.Unmap(0, 0, size),
        p.Measure("unmapped"),
    )
    host, model = agree(pair, "memfd:block=1", *steps)
    for each in (host, model):
        assert growth(each, "mapped", "cgroup_kernel") > 11 * MIB - allowed()


def test_a_forked_child_has_vmas_chains_and_tables_of_its_own(pair: Pair) -> None:
    size = 16384 * PAGE
    child = (p.Measure("child"), p.Touch(0, 0, size, "write", 2 * PAGE), p.Measure("stored"))
    steps = (
        p.Map(0, size),
        p.Touch(0, 0, size, "write", 4 * PAGE),
        p.Measure("touched"),
        p.Fork(child, (p.Measure("parent"),)),
    )
    agree(pair, "memfd:block=1", *steps)


@pytest.mark.parametrize(
    "mechanism", ["anon", "memset", "memfd:block=16", "memfd-full", "uffd-sigbus", "segv"]
)
def test_pages_are_charged_where_they_are_held(mechanism: str, pair: Pair) -> None:
    size = 32 * MIB
    steps = (
        p.Map(0, size),
        p.Measure("mapped"),
        p.Touch(0, 0, size, "write", 4 * PAGE),
        p.Measure("touched"),
        p.Advise(0, 0, size, "dontneed"),
        p.Measure("dropped"),
        p.Unmap(0, 0, size),
        p.Measure("unmapped"),
    )
    agree(pair, mechanism, *steps)


def test_the_peak_is_kept_between_two_stops() -> None:
    _, model = open_target(registry(), "simulator")
    size = 8 * MIB
    with model:
        found = sample(
            model,
            "anon",
            p.Map(0, size),
            p.Touch(0, 0, size, "write", PAGE),
            p.Advise(0, 0, size, "dontneed"),
            p.Measure("dropped"),
        )
    assert growth(found, "dropped", "cgroup_current") < MIB
    assert growth(found, "dropped", "cgroup_peak") >= size
