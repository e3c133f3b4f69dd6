"""What the model observes of a program beside what the agent observes of it on this machine."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import pytest

from refbench.backend import Session
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.program import (
    Advise,
    Content,
    Descriptors,
    Expect,
    Fork,
    KernelLog,
    KernelReads,
    KernelWrites,
    Lock,
    Map,
    MapAnonymous,
    Measure,
    Order,
    Parallel,
    Phase,
    Program,
    Protect,
    Reference,
    Remap,
    Repeat,
    Settle,
    Step,
    Threads,
    Touch,
    Unmap,
    Userfault,
    parse,
)
from refbench.program.steps import KernelRead, KernelWrite, Protection
from refbench.runner import open_target
from refbench.samples import Failure, Observation
from refbench.words import Cell, Pattern
from refbench_simulator import checking
from refbench_simulator.numbering import Node, numbered

Sessions = tuple[Session, Session]
PAGE = 4096
PAGES = 24
SIZE = PAGES * PAGE
ORDERS: tuple[Order, ...] = ("forward", "backward", "random")
READS: tuple[KernelRead, ...] = ("write", "vmreadv", "procmem")
CLOSED: tuple[Protection, ...] = ("none", "read")
MECHANISMS = ("anon", "memset", "memfd:block=4", "memfd-full", "segv", "uffd", "uffd-sigbus")
EVERYTHING = (
    Phase("map"),
    Map(0, SIZE),
    MapAnonymous(7, PAGE, 0),
    Phase(),
    Measure("here"),
    Touch(0, 0, SIZE, "write", PAGE),
    Repeat(2, (Expect(0, 0, PAGE, 3), Repeat(3, (Advise(0, 0, PAGE, "cold"),)), Settle())),
    Fork((Protect(0, 0, PAGE, "read"),), (Lock(0, 0, PAGE), Lock(0, 0, PAGE, on=False))),
    Fork((), (), parent_first=True),
    Parallel(
        (
            Threads(2, (Touch(0, 0, SIZE, "read", PAGE), Expect(0, 0, PAGE))),
            Threads(1, (KernelReads(0, 0, PAGE, "write"),), loop=True),
        )
    ),
    KernelWrites(0, 0, PAGE, "read"),
    Userfault(0, 0, PAGE),
    Descriptors(),
    KernelLog("mark"),
    Reference("write"),
    Remap(0, 0, PAGE, 1),
    Unmap(0),
)


@pytest.fixture(scope="module")
def sessions() -> Iterator[Sessions]:
    """This machine, and the model of it."""
    found = registry().backend(Spec("host")).probe()
    if not found.ok or sys.platform != "linux" or os.sysconf("SC_PAGESIZE") != PAGE:
        pytest.skip(f"needs a Linux host with pages of {PAGE} bytes: {found.reason}")
    _, host = open_target(registry(), "host")
    with host:
        _, simulator = open_target(registry(), "simulator:like=host")
        with simulator:
            yield host, simulator


def outcome(
    session: Session, mechanism: str, program: Program, pattern: str = "byte:0xAA"
) -> tuple[tuple[Observation, ...], ...] | Failure:
    """The observations of both samples, or the failure that there is instead."""
    if not (known := session.capabilities().mechanisms[mechanism.partition(":")[0]]).ok:
        pytest.skip(f"{mechanism}: {known.reason}")
    spec = Spec.parse(mechanism, what="mechanism")
    run = session.run(Cell("observed", spec, Pattern.parse(pattern), program), 1, 60)
    return run.failure or tuple(sample.observations for sample in run.samples)


def both(
    sessions: Sessions, mechanism: str, *steps: Step, observe_all: bool = True, **more: str
) -> tuple[tuple[Observation, ...], ...] | Failure:
    """The same from both; a disagreement is shown with its program file."""
    program = Program("observed", steps, observe_all)
    host, simulator = (outcome(session, mechanism, program, **more) for session in sessions)
    assert simulator == host, f"{mechanism}\n{program.text()}"
    return host


def walk(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        for body in node.bodies:
            yield from walk(body)


@pytest.mark.parametrize("observe_all", [True, False])
def test_lines_are_those_of_the_program_file(observe_all: bool) -> None:
    program = Program("every step", EVERYTHING, observe_all)
    lines = program.text().splitlines()
    assert parse(program.text()) == program
    nodes = list(walk(numbered(program)))
    for node in nodes:
        assert lines[node.line - 1].split()[0] == checking.verb(node.step)
    # Every line is a step's, or one of those that no step is.
    others = {"refbench-program", "name", "observe", "end", "parent", "threads"}
    found = sorted(node.line for node in nodes)
    assert found == [i for i, line in enumerate(lines, 1) if line.split()[0] not in others]


@pytest.mark.skipif(sys.platform != "linux", reason="the texts and numbers are Linux's")
def test_the_texts_of_errnos() -> None:
    for number in (1, 2, 5, 9, 11, 12, 13, 14, 16, 17, 19, 22, 28, 38, 95):
        assert checking.text(number) == os.strerror(number)


def test_blocks_have_the_lines_that_the_agent_says(sessions: Sessions) -> None:
    seen = both(
        sessions,
        "anon",
        Map(0, SIZE),
        Repeat(2, (Expect(0, 0, PAGE, 3), Fork((Expect(0, 0, 5, 1),), (Expect(0, 0, 9, 1),)))),
        Parallel((Threads(1, (Expect(0, PAGE, PAGE), Touch(0, 0, 1, "write", 1))),)),
        Lock(0, 0, PAGE),
        Lock(0, 0, PAGE, on=False),
        Expect(0, 0, SIZE, 1, stride=PAGE, once=True),
    )
    assert not isinstance(seen, Failure)
    assert [len(sample) for sample in seen] == [10, 9]


def contents(rng: random.Random) -> Content:
    return rng.choice(("pattern", "zero", 0x55, 0x66))


def some_step(rng: random.Random) -> Step:
    """One step on the first region, at any offset."""
    offset = rng.randrange(SIZE)
    length = rng.randrange(1, SIZE - offset + 1)
    stride = rng.choice((1, 3, 64, 1000, 4096, 4097, 5000, 8192))
    value = rng.choice((0x55, 0x66))
    page, pages = offset // PAGE * PAGE, -(-length // PAGE) * PAGE
    pages = min(pages, SIZE - page)
    match rng.randrange(12):
        case 0 | 1 | 2:
            size = rng.randrange(1, min(stride, 6000) + 1)
            order = rng.choice(ORDERS)
            count = rng.choice((0, 0, 1, 5))
            return Touch(0, offset, length, "write", stride, size, order, 5, count, value)
        case 3:
            return Touch(0, offset, length, rng.choice(("read", "readwrite")), stride)
        case 4 | 5 | 6:
            return Expect(0, offset, length, contents(rng), stride)
        case 7:
            return KernelReads(0, offset, length, rng.choice(READS), contents(rng))
        case 8:
            return KernelWrites(0, offset, length, rng.choice(("read", "vmwritev")), value)
        case 9:
            return Protect(0, page, pages, rng.choice(("none", "read", "readwrite")))
        case 10:
            return Advise(0, page, pages, "dontneed")
        case _:
            steps = tuple(some_step(rng) for _ in range(2))
            return Fork(steps, (Expect(0, 0, SIZE, contents(rng), 7),))


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_random_programs_are_observed_alike(
    sessions: Sessions, mechanism: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.bin"
    page.write_bytes(bytes(range(251)))
    seed = random.randrange(1 << 32)
    for number in range(20):
        rng = random.Random(seed + number)
        steps = [some_step(rng) for _ in range(rng.randrange(2, 14))]
        pattern = rng.choice(("byte:0xAA", f"file:{page}"))
        end = Expect(0, 0, SIZE, contents(rng), stride=rng.choice((1, 9)))
        if mechanism == "memset" and rng.random() < 0.5:
            moved = Expect(1, 0, SIZE, contents(rng))
            back = (Unmap(0), Map(0, SIZE), Expect(0, 0, SIZE))
            steps += [Protect(0, 0, SIZE, "readwrite"), Remap(0, 0, SIZE, 1), moved, *back]
        both(sessions, mechanism, Map(0, SIZE), *steps, end, pattern=pattern)


@pytest.mark.parametrize("via", get_args(KernelRead))
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kernel_reads(sessions: Sessions, mechanism: str, via: KernelRead) -> None:
    whole, half = KernelReads(0, 0, SIZE, via), SIZE // 2
    inner = KernelReads(0, PAGE, 2 * PAGE, via)
    both(sessions, mechanism, Map(0, SIZE), whole)
    stored = Touch(0, 3 * PAGE, half, "write", 3 * PAGE)
    both(sessions, mechanism, Map(0, SIZE), stored, whole, inner, Expect(0, 0, SIZE))
    closed = Protect(0, half, 2 * PAGE, "none")
    both(sessions, mechanism, Map(0, SIZE), stored, closed, whole, inner)
    hole = Unmap(0, half, 2 * PAGE)
    both(sessions, mechanism, Map(0, SIZE), stored, hole, whole, inner)


@pytest.mark.parametrize("via", get_args(KernelWrite))
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kernel_writes(sessions: Sessions, mechanism: str, via: KernelWrite) -> None:
    written = KernelWrites(0, 100, SIZE - 200, via, 0x66)
    check = (Protect(0, 0, SIZE, "readwrite"), Expect(0, 0, SIZE, 0x66))
    both(sessions, mechanism, Map(0, SIZE), written, *check)
    for how in CLOSED:
        closed = Protect(0, 5 * PAGE, PAGE, how)
        both(sessions, mechanism, Map(0, SIZE), closed, written, *check)


FAILURES: dict[str, tuple[Step, ...]] = {
    "wrong bytes": (Touch(0, 5000, 1000, "write", 10), Expect(0, 0, SIZE, "zero")),
    "a signal": (Protect(0, PAGE, PAGE, "none"), Touch(0, 10, SIZE - 10, "read", 100)),
    "a signal, backward": (
        Protect(0, PAGE, PAGE, "read"),
        Touch(0, 10, SIZE - 10, "write", 100, size=90, order="backward"),
    ),
    "a signal in a check": (Protect(0, PAGE, PAGE, "none"), Expect(0, 9, SIZE - 9, "zero")),
    "a refusal": (Unmap(0, PAGE, PAGE), Advise(0, 0, SIZE, "populate-write")),
    "a refusal after wrong bytes": (
        Touch(0, 0, 1, "write", 1),
        Unmap(0, PAGE, PAGE),
        KernelReads(0, 0, SIZE, "write", "zero"),
    ),
    "no reference page": (Reference("write"),),
    "a core file without it": (KernelReads(0, 0, SIZE, "core", "zero"),),
}


@pytest.mark.parametrize("what", FAILURES)
@pytest.mark.parametrize("observe_all", [True, False])
def test_the_first_bad_outcome_ends_the_run(
    sessions: Sessions, what: str, observe_all: bool
) -> None:
    steps = (Map(0, SIZE), *FAILURES[what])
    found = both(sessions, "anon", *steps, observe_all=observe_all)
    assert isinstance(found, Failure) != observe_all


def test_loops_are_kept_in_bounds(sessions: Sessions) -> None:
    """As many as there is room for, then each line's first good and first bad outcome."""
    body = (Expect(0, 0, 1, 0), Expect(0, 0, 1, 1))
    late = (Touch(0, 0, 1, "write", 1, value=1), *body)
    steps = (Map(0, SIZE), Repeat(1500, body), *late, Repeat(600, body))
    seen = both(sessions, "anon", *steps)
    assert not isinstance(seen, Failure)
    assert 2048 <= len(seen[0]) < 2 * 2102


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("closed", [False, True])
def test_somebody_elses_userfaultfd(sessions: Sessions, mechanism: str, closed: bool) -> None:
    """Over pages that were stored to, read, left alone, and closed to the process."""
    quarter = SIZE // 4
    steps: list[Step] = [Map(0, SIZE), Touch(0, 0, quarter, "write", PAGE)]
    steps.append(Touch(0, quarter, PAGE, "read", PAGE))
    if closed:
        steps.append(Protect(0, 3 * quarter, quarter, "none"))
    steps.append(Userfault(0, 0, SIZE, 0x77))
    if closed:
        steps += [Userfault(0, 3 * quarter, quarter, 0x78)]
        steps.append(Protect(0, 3 * quarter, quarter, "readwrite"))
    steps += [Expect(0, at, PAGE, 0x77) for at in range(0, SIZE, PAGE)]
    both(sessions, mechanism, *steps)


def test_a_hole_has_no_missing_pages(sessions: Sessions) -> None:
    hole = (Map(0, SIZE), Unmap(0, PAGE, PAGE))
    both(sessions, "anon", *hole, Userfault(0, 0, SIZE, 0x77), Expect(0, 0, PAGE, 0x77))
    both(sessions, "anon", *hole, Userfault(0, PAGE, PAGE, 0x77))
