"""What the random programs are: valid, different, of every kind, and the skeletons' own twins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from tests.backends.simulator.differential import bounds
from tests.backends.simulator.differential.hunt import Disagreement, visit_all
from tests.backends.simulator.differential.mutations import MUTATIONS
from tests.backends.simulator.differential.pair import Pair, open_pair
from tests.backends.simulator.differential.programs import ADVICE, MECHANISMS
from tests.backends.simulator.differential.readings import PEAK, readings
from tests.backends.simulator.differential.reduce import reduced, verbs
from tests.backends.simulator.differential.skeleton import with_skeleton
from tests.conftest import Refbench

from refbench.plugins import registry
from refbench.program import Program, Step, parse
from refbench.program import steps as s

COUNT = 340
MIB = 1 << 20


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with open_pair(simulator=False) as found:
        yield found


@cache
def sample() -> tuple[tuple[str, Program], ...]:
    found: list[tuple[str, Program]] = []
    visit_all(COUNT, 1, lambda program, mechanism: found.append((mechanism, program)), shrink=False)
    return tuple(found)


def everything(steps: Sequence[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        match step:
            case s.Fork(child, parent, _):
                yield from everything((*child, *parent))
            case s.Repeat(_, body):
                yield from everything(body)
            case s.Parallel(groups):
                for group in groups:
                    yield from everything(group.body)


def depth(steps: Sequence[Step]) -> int:
    found = [1 + max(depth(x.child), depth(x.parent)) for x in steps if isinstance(x, s.Fork)]
    return max(found, default=0)


def test_every_mechanism_but_ksm_is_meant() -> None:
    meant = {mechanism.partition(":")[0] for mechanism in MECHANISMS}
    stock = {"anon", "memset", "memfd", "memfd-full", "uffd", "uffd-sigbus", "segv"}
    assert meant == stock <= registry().mechanisms.keys()
    assert Counter(mechanism for mechanism, _ in sample()).keys() == set(MECHANISMS)


def test_they_differ_and_survive_being_written_down() -> None:
    texts = {(mechanism, program.text()) for mechanism, program in sample()}
    assert len(texts) == len(sample()) >= COUNT
    for _, program in sample():
        assert parse(program.text()) == program


def test_every_kind_of_step_comes() -> None:
    found = frozenset().union(*(verbs(program) for _, program in sample()))
    assert found >= set(ADVICE) - {"pageout"} | {"touch-read", "touch-write", "touch-readwrite"}
    assert found >= {"map", "map-populate", "mapanonymous", "unmap", "remap", "protect", "lock"}
    assert found >= {"fork", "repeat", "threads", "expect", "kernelreads", "kernelwrites"}
    assert max(depth(program.steps) for _, program in sample()) >= 3


def test_sizes_reach_from_a_page_to_tens_of_mebibytes() -> None:
    steps = [step for _, program in sample() for step in everything(program.steps)]
    sizes = [step.size for step in steps if isinstance(step, s.Map)]
    assert min(sizes) == bounds.PAGE
    assert 16 * MIB < max(sizes) <= 64 * MIB
    orders = Counter(step.order for step in steps if isinstance(step, s.Touch))
    assert min(orders[order] for order in ("forward", "backward", "random")) > 100


def test_a_seed_gives_the_same_programs_again() -> None:
    again: list[tuple[str, Program]] = []
    visit_all(34, 1, lambda program, mechanism: again.append((mechanism, program)), shrink=False)
    assert tuple(again) == sample()[: len(again)]
    other: list[tuple[str, Program]] = []
    visit_all(34, 2, lambda program, mechanism: other.append((mechanism, program)), shrink=False)
    assert other[:17] != again[:17]


def test_a_skeleton_has_the_processes_phases_and_snapshots_and_no_memory() -> None:
    for _, program in sample()[:100]:
        padded, bare = with_skeleton(program, bounds.PAGE)
        assert padded.text().count("\n") == bare.text().count("\n")
        assert parse(padded.text()) == program
        kept = (s.Fork, s.Phase, s.Measure, s.Parallel, s.Repeat)
        count = [
            Counter(type(x) for x in everything(each.steps) if isinstance(x, kept))
            for each in (program, bare)
        ]
        assert count[1] - count[0] <= Counter({s.Phase: 1})
        assert not count[0] - count[1]
        assert not verbs(bare) & {"touch-write", "expect", "remap", "protect"}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_is_left_of_a_program_without_its_skeleton_is_its_own(
    pair: Pair, mechanism: str
) -> None:
    """The agent, its tables and its mechanism's weigh the same in both."""
    program = dict(sample())[mechanism]
    host, shaky = pair.on_host(program, mechanism)
    assert not shaky
    if host.failure:
        pytest.skip(host.failure.message)
    for sample_, own in zip(host.run.samples, host.own.samples, strict=True):
        found = readings(sample_, own)
        start = {place.counter: n for place, n in found.items() if place.where == "memory start"}
        # What was the high-water mark's before lags: bounds.peak().
        assert start.pop(PEAK) is not None
        assert set(start.values()) == {0}, start


def test_reducing_keeps_what_is_asked_for() -> None:
    _, program = max(sample(), key=lambda each: len(each[1].text()))
    small = reduced(program, lambda each: "fork" in verbs(each), 2000)
    assert verbs(small) == {"fork"}
    assert len(small.text().splitlines()) <= 8


@pytest.mark.timeout(300)
def test_a_disagreement_ends_in_a_small_program_that_runs_again(
    monkeypatch: pytest.MonkeyPatch, refbench: Refbench, tmp_path: Path
) -> None:
    """A deliberate fault in the model, found by random programs and shrunk by hypothesis."""
    (fault,) = (each for each in MUTATIONS if each.name == "dontneed-keeps")
    fault.apply(monkeypatch)
    with open_pair() as both:

        def visit(program: Program, mechanism: str) -> str | None:
            answer = both.ask(program, mechanism)
            return str(answer) if answer.differences else None

        with pytest.raises(Disagreement) as caught:
            visit_all(1000, 3, visit, mechanisms=("anon",))
    told = str(caught.value)
    text = told[told.index("refbench-program 1") : told.index("\nwhere ")]
    program = parse(text)
    assert program == caught.value.program
    assert len(text.splitlines()) <= 14, text
    assert "dontneed" in verbs(program)
    file = tmp_path / "small.program"
    file.write_text(text, encoding="utf-8")
    done = refbench("run", "--program", file, "-m", "anon", "-b", "host", "--runs", "1")
    assert done.returncode == 0, done.stderr
