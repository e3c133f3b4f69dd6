"""Explaining cells: their stories, what each adds up to, and how it compares with baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refbench.grammar import Spec
from refbench.readings import SETUP, START
from refbench.samples import Failure, MemorySnapshot, Run, Sample
from refbench.words import Cell
from refbench_simulator.model.events import Event
from refbench_simulator.session import SimulatorSession
from refbench_simulator.telling import Teller
from refbench_simulator.work import by_kind

BASELINES = (Spec("anon"), Spec("memset"))
"""What every mechanism is compared with: memory without a pattern, and the pattern stored by
hand."""
DEADLINE = 600.0
"""Seconds for one cell."""
PARTS = (
    ("anonymous pages", "cgroup_anon"),
    ("files in memory", "cgroup_shmem"),
    ("page tables", "cgroup_pagetables"),
    ("VMAs and anon_vmas", "cgroup_slab"),
)
"""What the memory that the system loses consists of, and the fields of a snapshot."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a cell adds up to, as refbench's metrics have it: the mechanism's set-up left out.

    ``times`` are modelled nanoseconds by kind of work, ``lost`` and ``memory`` bytes, at the stop
    (``measure``) named ``label``, where they were most.
    """

    ns: int
    times: Mapping[str, int]
    faults: int
    traps: int
    syscalls: int
    vmas: int
    label: str
    lost: int
    memory: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Explained:
    """One cell: what was told of it, and its summary where it did not fail."""

    cell: Cell
    story: Teller
    run: Run
    summary: Summary | None
    asked: bool = True
    """Not only for comparison."""

    @property
    def failure(self) -> Failure | None:
        """Why there is no summary."""
        return self.run.failure


def explain(session: SimulatorSession, cell: Cell, *, asked: bool = True) -> Explained:
    """Run a cell and listen."""
    story = Teller(cell.program, session.costs)
    run = session.explained(cell, 1, DEADLINE, story)
    summary = None
    if run.failure is None:
        summary = _summary(session, run.samples[-1], story)
    return Explained(cell, story, run, summary, asked)


def baselines(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of the baselines that are not among ``cells``, which are of one workload."""
    there = {cell.mechanism for cell in cells}
    like = cells[0]
    return [
        Cell(like.workload, spec, like.pattern, like.program, like.case, like.thp)
        for spec in BASELINES
        if spec not in there
    ]


def _summary(session: SimulatorSession, sample: Sample, story: Teller) -> Summary:
    phases = {name: found for name, found in sample.phases.items() if name != SETUP}
    events: Counter[Event] = Counter()
    for name in phases:
        if name in story.totals:
            events.update(story.totals[name].events)
    start = sample.memory[START]
    labels = {label: _lost(start, there) for label, there in sample.memory.items()}
    del labels[START]
    label = max(labels, key=lambda name: labels[name], default=START)
    there = sample.memory[label]
    return Summary(
        ns=sum(found.ns for found in phases.values()),
        times=by_kind(events, session.costs, session.kernel.page_size),
        faults=sum(found.faults for found in phases.values()),
        traps=sum(found.traps for found in phases.values()),
        syscalls=sum(found.syscalls for found in phases.values()),
        vmas=max(found.vmas for found in sample.memory.values()) - start.vmas,
        label=label,
        lost=_lost(start, there),
        memory={
            name: (getattr(there, field) or 0) - (getattr(start, field) or 0)
            for name, field in PARTS
        },
    )


def _lost(start: MemorySnapshot, there: MemorySnapshot) -> int:
    """The metric ``lost``: growth of what the memory cgroup is charged."""
    return (there.cgroup_current or 0) - (start.cgroup_current or 0)


def reasons(
    mine: Mapping[str, int], other: Mapping[str, int], most: int = 3
) -> list[tuple[str, int]]:
    """What makes most of the difference between two sums: names and differences."""
    changes = [(name, mine[name] - other[name]) for name in mine if mine[name] != other[name]]
    changes.sort(key=lambda change: -abs(change[1]))
    return changes[:most]
