"""Running a plan: targets one after the other, cells in rounds, every run into the journal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from refbench.backend import Session
from refbench.errors import BackendError, Transient, UsageError
from refbench.estimate import pace
from refbench.grammar import Spec, resolve
from refbench.journal import Journal
from refbench.plan import Plan, Request, cell_id, make_plan
from refbench.plugins import Registry
from refbench.samples import Environment, Failure, Run
from refbench.version import VERSION
from refbench.words import Capabilities, Cell

LEAST_ROUNDS = 3
"""Rounds that are measured whatever the budget says: fewer give no interval at all."""
MOST_TRANSIENT = 3
"""Transient failures of one cell after which it is given up."""
MOST_REOPENED = 3
"""How often one target is opened again after its session was lost."""
TRANSIENT = frozenset(cls.kind for cls in Transient.__subclasses__())


class Progress(Protocol):
    """Who watches. Every method is called between runs, never inside one."""

    def opened(self, target: Spec, capabilities: Capabilities, plan: Plan) -> None:
        """A target is open and planned."""

    def started(self, cell: Cell, round_: int) -> None:
        """A run begins."""

    def finished(self, cell: Cell, round_: int, run: Run) -> None:
        """A run is in the journal."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


@dataclass(slots=True)
class Outcome:
    """What became of the plan."""

    measured: int = 0
    kept: int = 0
    """Runs that an earlier part of the same journal had already."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """By ``target | cell``: the failures of cells that were given up."""
    rounds: dict[str, int] = field(default_factory=dict)
    """By target: rounds finished."""


def execute(
    registry: Registry,
    targets: Sequence[str],
    request: Request,
    journal: Journal,
    progress: Progress,
    *,
    budget: float | None = None,
) -> Outcome:
    """Measure what ``request`` asks for on every target and finish the journal.

    ``budget`` in seconds ends a target's measurement before a round that would exceed its share,
    but not before :data:`LEAST_ROUNDS`. What the journal has already is not measured again.

    :raises UsageError: when something asked for does not exist.
    :raises BackendError: when a target cannot be opened.
    :raises StorageError: when the journal cannot be written.
    """
    outcome = Outcome()
    share = budget / len(targets) if budget is not None else None
    for text in targets:
        campaign = _Campaign(text, registry, request, journal, progress=progress, outcome=outcome)
        campaign.run(share)
    journal.finish()
    return outcome


def open_target(registry: Registry, text: str) -> tuple[Spec, Session]:
    """Open the target that ``text`` names; errors as for :func:`execute`."""
    spec = Spec.parse(text, what="target")
    backend = registry.backend(spec)
    values = resolve(spec, backend.options, what="target")
    availability = backend.probe()
    if not availability.ok:
        raise BackendError(
            f"The backend {spec.name!r} cannot run here: {availability.reason.rstrip('.')}.",
            remedy=availability.remedy,
        )
    return spec, backend.open(values)


def plan_for(
    registry: Registry, session: Session, capabilities: Capabilities, request: Request
) -> Plan:
    """The plan for ``request`` on an open target; errors as for :func:`refbench.plan.make_plan`."""
    return make_plan(
        registry,
        capabilities.page_size,
        request,
        capabilities.mechanisms,
        clock=session.clock,
        pace=pace(session.clock, capabilities.environment),
    )


def environment_of(target: Spec, session: Session, capabilities: Capabilities) -> Environment:
    """The environment that a session's measurements carry."""
    return Environment(
        target=str(target),
        clock=session.clock.value,
        kernel=capabilities.kernel,
        arch=capabilities.arch,
        page_size=capabilities.page_size,
        facts={"refbench": VERSION, **capabilities.environment},
    )


class _Campaign:
    """One target's part of a journal."""

    def __init__(
        self,
        text: str,
        registry: Registry,
        request: Request,
        journal: Journal,
        *,
        progress: Progress,
        outcome: Outcome,
    ) -> None:
        self.text = text
        self.registry = registry
        self.request = request
        self.journal = journal
        self.progress = progress
        self.outcome = outcome
        self.troubles: Counter[str] = Counter()
        self.given_up: set[str] = set()

    def open(self) -> None:
        """Open the target and note it in the journal."""
        target, self.session = open_target(self.registry, self.text)
        try:
            self.target = target
            self.capabilities = self.session.capabilities()
            environment = environment_of(target, self.session, self.capabilities)
            self._same_place(environment)
            self.number = self.journal.session(environment)
            self.used = False
        except BaseException:
            self.session.close()
            raise

    def run(self, budget: float | None) -> None:
        self.open()
        try:
            found = self.capabilities
            plan = plan_for(self.registry, self.session, found, self.request)
            self.progress.opened(self.target, self.capabilities, plan)
            done = self._done()
            begun = time.monotonic()
            last = 0.0
            boot_due = False
            for index, cells in plan.rounds():
                now = time.monotonic()
                if budget is not None and index >= LEAST_ROUNDS and now - begun + last > budget:
                    break
                boot_due = boot_due or self._begins_boot(index, plan.runs)
                for cell in cells:
                    if (cell.key, index) in done:
                        self.outcome.kept += 1
                    elif cell.key not in self.given_up:
                        if boot_due and self.used:
                            self.session.close()
                            self.open()
                        boot_due = False
                        self._measure(cell, index, plan)
                last = time.monotonic() - now
                self.outcome.rounds[str(self.target)] = index + 1
        finally:
            self.session.close()

    def _begins_boot(self, round_: int, rounds: int) -> bool:
        """Whether a round is the first of a boot; only guests are booted anew."""
        if "accel" not in self.capabilities.environment:
            return False
        boots = self.request.boots
        return round_ * boots // rounds != (round_ - 1) * boots // rounds

    def _done(self) -> set[tuple[str, int]]:
        """What the journal has of this target: samples, or a failure that would come again."""
        mine = {
            line.session
            for line in self.journal.before.sessions
            if line.environment.target == str(self.target)
        }
        done: set[tuple[str, int]] = set()
        for line in self.journal.before.runs:
            if line.session not in mine:
                continue
            if line.run.failure is None:
                done.add((line.cell.key, line.round))
            elif line.run.failure.kind not in TRANSIENT:
                self.given_up.add(line.cell.key)
        return done

    def _same_place(self, environment: Environment) -> None:
        """Refuse to mix environments in one journal."""
        for line in self.journal.before.sessions:
            old = line.environment
            if old.target != environment.target:
                continue
            for name in ("clock", "kernel", "arch", "page_size"):
                if getattr(old, name) != getattr(environment, name):
                    raise UsageError(
                        f"The journal {self.journal.path} was begun with the {name} "
                        f"{getattr(old, name)}; here it is {getattr(environment, name)}.",
                        remedy="Start a new journal; `refbench compare` compares the two.",
                    )

    def _measure(self, cell: Cell, index: int, plan: Plan) -> None:
        self.progress.started(cell, index)
        self.used = True
        run = self._attempt(cell, plan)
        self.journal.append(self.number, index, cell_id(cell), run)
        if run.failure is not None:
            self.troubles[cell.key] += 1
            stable = run.failure.kind not in TRANSIENT
            if stable or self.troubles[cell.key] >= MOST_TRANSIENT:
                self.given_up.add(cell.key)
                name = f"{self.target} | {cell.label} | {cell.mechanism}"
                self.outcome.failures[name] = run.failure
        self.outcome.measured += 1
        self.progress.finished(cell, index, run)

    def _attempt(self, cell: Cell, plan: Plan) -> Run:
        known = self.capabilities.mechanisms.get(cell.mechanism.name)
        if known is not None and not known.ok:
            failure = Failure(kind="unsupported", message=known.reason, remedy=known.remedy)
            return Run(failure=failure)
        deadline = max(30.0, 20 * plan.run_seconds(cell))
        for _ in range(MOST_REOPENED):
            try:
                return self.session.run(cell, plan.iterations, deadline=deadline)
            except BackendError as error:
                self.progress.note(f"{error} Opening the target again.")
                self.session.close()
                self.open()
        return self.session.run(cell, plan.iterations, deadline=deadline)
