"""The runner: rounds, resume, budget, and what it does when cells or sessions fail.

The session here is scripted, because the faults that matter are those that a real target does
not produce on demand: a session that is lost, a failure that passes. Real sessions are run by
the tests of the backends and of the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from refbench.closing import Closing
from refbench.errors import BackendError, UsageError
from refbench.grammar import Option, Spec, Values
from refbench.journal import Header, Journal, read
from refbench.plan import Plan, Request
from refbench.plugins import Registry, registry
from refbench.runner import LEAST_ROUNDS, MOST_TRANSIENT, Outcome, execute
from refbench.samples import Failure, PhaseCounters, Run, Sample
from refbench.words import AVAILABLE, Availability, Capabilities, Cell, Clock

GOOD = Run(samples=(Sample(index=0, phases={"touch": PhaseCounters(ns=1)}, memory={}),))
REQUEST = Request(mechanisms=("anon,memset",), workloads=("dense-*",), runs=4)
CELLS = 4

Script = Callable[[Cell], Run]


@dataclass
class Scripted(Closing):
    """A backend whose answers are given; it is its own session."""

    script: Script
    kernel: str = "6.18"
    name: str = "scripted"
    summary: str = "answers as told"
    options: Sequence[Option] = ()
    mechanisms: dict[str, Availability] = field(default_factory=dict)
    clock: Clock = Clock.REAL
    available: Availability = AVAILABLE
    facts: dict[str, str] = field(default_factory=dict)
    opened: int = 0
    openings: int = 0
    calls: list[str] = field(default_factory=list)

    def probe(self) -> Availability:
        return self.available

    def open(self, options: Values) -> Scripted:
        self.opened += 1
        self.openings += 1
        return self

    def capabilities(self) -> Capabilities:
        return Capabilities(self.kernel, "x86_64", 4096, 1 << 34, self.mechanisms, {}, self.facts)

    def run(self, cell: Cell, iterations: int, deadline: float) -> Run:
        self.calls.append(cell.key)
        return self.script(cell)

    def close(self) -> None:
        self.opened -= 1


def good(_: Cell) -> Run:
    """Every run succeeds."""
    return GOOD


class Watcher:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.notes: list[str] = []
        self.finishes = 0

    def opened(self, target: Spec, capabilities: Capabilities, plan: Plan) -> None:
        self.plans.append(plan)

    def started(self, cell: Cell, round_: int) -> None:
        """Not of interest."""

    def finished(self, cell: Cell, round_: int, run: Run) -> None:
        self.finishes += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


def with_backend(backend: Scripted) -> Registry:
    return replace(registry(), backends={"scripted": backend})


def run(
    backend: Scripted, journal: Journal, budget: float | None = None, request: Request = REQUEST
) -> tuple[Outcome, Watcher]:
    watcher = Watcher()
    outcome = execute(with_backend(backend), ["scripted"], request, journal, watcher, budget=budget)
    assert backend.opened == 0, "the session was closed"
    return outcome, watcher


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def new(path: Path) -> Journal:
    header = Header(refbench="0", started="", targets=("scripted",), request=REQUEST)
    return Journal.create(path, header)


def test_every_cell_in_every_round(path: Path) -> None:
    backend = Scripted(good)
    with new(path) as journal:
        outcome, watcher = run(backend, journal)
    assert outcome.measured == watcher.finishes == 4 * CELLS
    assert not outcome.failures
    content = read(path)
    assert content.complete
    assert [len(m.good) for m in content.measurements()] == [4] * CELLS
    for index in range(4):
        assert len(set(backend.calls[index * CELLS : (index + 1) * CELLS])) == CELLS


def test_resume_does_only_the_rest(path: Path) -> None:
    backend = Scripted(good)

    def interrupted(cell: Cell) -> Run:
        if len(backend.calls) == 6:
            raise KeyboardInterrupt
        return GOOD

    backend.script = interrupted
    with new(path) as journal, pytest.raises(KeyboardInterrupt):
        run(backend, journal)
    assert backend.opened == 0
    assert len(read(path).runs) == 5
    backend.script = good
    backend.calls.clear()
    with Journal.resume(path) as journal:
        outcome, _ = run(backend, journal)
    assert outcome.kept == 5
    assert len(backend.calls) == 4 * CELLS - 5
    content = read(path)
    assert {(line.cell.key, line.round) for line in content.runs} == {
        (key, index) for key in set(backend.calls) for index in range(4)
    }
    assert len(content.runs) == 4 * CELLS


@pytest.mark.parametrize(
    ("boots", "sessions"),
    [(1, [0, 0, 0, 0]), (2, [0, 0, 1, 1]), (3, [0, 0, 1, 2]), (9, [0, 1, 2, 3])],
)
def test_runs_are_spread_over_the_boots_of_a_guest(
    path: Path, boots: int, sessions: list[int]
) -> None:
    request = replace(REQUEST, boots=boots)
    for facts, expected in (({"accel": "tcg"}, sessions), ({}, [0, 0, 0, 0])):
        backend = Scripted(good, facts=facts)
        with new(path) as journal:
            run(backend, journal, request=request)
        lines = read(path).runs
        assert [line.session for line in lines] == [each for each in expected for _ in range(CELLS)]
        assert [len(m.good) for m in read(path).measurements()] == [4] * CELLS
        path.unlink()


def test_resume_boots_as_often_as_there_is_something_left(path: Path) -> None:
    request = replace(REQUEST, boots=4)
    backend = Scripted(good, facts={"accel": "tcg"})

    def interrupted(cell: Cell) -> Run:
        if len(backend.calls) == 2 * CELLS:
            raise KeyboardInterrupt
        return GOOD

    backend.script = interrupted
    with new(path) as journal, pytest.raises(KeyboardInterrupt):
        run(backend, journal, request=request)
    backend.script = good
    backend.openings = 0
    with Journal.resume(path) as journal:
        run(backend, journal, request=request)
    # The last cell of the second round, then the third and the fourth round.
    assert backend.openings == 3


def test_resume_elsewhere_is_refused(path: Path) -> None:
    with new(path) as journal, pytest.raises(KeyboardInterrupt):
        run(Scripted(_interrupt), journal)
    with Journal.resume(path) as journal, pytest.raises(UsageError, match=r"kernel 6\.18"):
        run(Scripted(good, kernel="7.0"), journal)


def _interrupt(cell: Cell) -> Run:
    raise KeyboardInterrupt


def test_stable_failure_is_not_measured_again(path: Path) -> None:
    failure = Failure(kind="wrong-content", message="zero at 4096")
    backend = Scripted(lambda cell: Run(failure=failure) if cell.mechanism.name == "anon" else GOOD)
    with new(path) as journal:
        outcome, _ = run(backend, journal)
    assert len(outcome.failures) == 2
    assert set(outcome.failures.values()) == {failure}
    assert len(backend.calls) == 2 * 1 + 2 * 4


def test_transient_failure_is_tried_in_later_rounds(path: Path) -> None:
    lost = Run(failure=Failure(kind="no-answer", message="deadline"))
    backend = Scripted(lambda _: lost if len(backend.calls) <= CELLS else GOOD)
    with new(path) as journal:
        outcome, _ = run(backend, journal)
    assert not outcome.failures
    assert [len(m.good) for m in read(path).measurements()] == [3] * CELLS


def test_transient_failure_is_given_up_in_the_end(path: Path) -> None:
    lost = Run(failure=Failure(kind="no-answer", message="deadline"))
    backend = Scripted(lambda _: lost)
    with new(path) as journal:
        outcome, _ = run(backend, journal)
    assert len(outcome.failures) == CELLS
    assert len(backend.calls) == CELLS * MOST_TRANSIENT


def test_unavailable_mechanism_is_recorded_without_running(path: Path) -> None:
    backend = Scripted(good, mechanisms={"anon": Availability(False, "no memory", "buy some")})
    with new(path) as journal:
        outcome, _ = run(backend, journal)
    assert all("|memset|" in key for key in backend.calls)
    assert {failure.message for failure in outcome.failures.values()} == {"no memory"}


def test_lost_session_is_opened_again(path: Path) -> None:
    def sometimes(cell: Cell) -> Run:
        if len(backend.calls) in (3, 9):
            raise BackendError("The launcher is gone.")
        return GOOD

    backend = Scripted(sometimes)
    with new(path) as journal:
        outcome, watcher = run(backend, journal)
    assert not outcome.failures
    assert len(watcher.notes) == 2
    content = read(path)
    assert len(content.sessions) == 3
    assert len(content.runs) == 4 * CELLS


def test_session_that_stays_lost_is_an_error(path: Path) -> None:
    def never(cell: Cell) -> Run:
        raise BackendError("The launcher is gone.")

    with new(path) as journal, pytest.raises(BackendError, match="gone"):
        run(Scripted(never), journal)
    assert not read(path).complete


def test_budget_ends_between_rounds(path: Path) -> None:
    backend = Scripted(good)
    with new(path) as journal:
        outcome, _ = run(backend, journal, budget=0.0)
    assert outcome.rounds == {"scripted": LEAST_ROUNDS}
    assert len(backend.calls) == LEAST_ROUNDS * CELLS


def test_backend_that_cannot_run_says_why(path: Path) -> None:
    backend = Scripted(good, available=Availability(False, "no Linux", "use one"))
    with new(path) as journal, pytest.raises(BackendError) as caught:
        run(backend, journal)
    assert "no Linux" in str(caught.value)
    assert caught.value.remedy == "use one"


def test_two_targets_share_a_journal(path: Path) -> None:
    backend = Scripted(good)
    with new(path) as journal:
        execute(with_backend(backend), ["scripted", "scripted"], REQUEST, journal, Watcher())
    content = read(path)
    assert len(content.sessions) == 2
    assert len(content.runs) == 8 * CELLS
