"""Progress of a measurement: a bar where there is a terminal, now and then a line elsewhere.

Everything is drawn between runs, by the measuring thread itself: a thread that redraws a bar
would take processor time away from what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

from refbench.cli.screen import Screen, count, duration
from refbench.grammar import Spec
from refbench.plan import Plan
from refbench.runner import TRANSIENT
from refbench.samples import Run
from refbench.words import Capabilities, Cell

LINE_EVERY = 10.0
"""Seconds between two lines where nothing can be drawn over."""


class Forecast:
    """How much of a plan is left, in runs and in seconds.

    Before a cell has run it counts with the estimate, afterwards with the mean of what it took.
    How far the estimates of those that have run were off corrects those of the others.
    """

    def __init__(self, plan: Plan, budget: float | None = None) -> None:
        self._runs = plan.runs
        self._left = {cell.key: plan.runs for cell in plan.cells}
        self._seconds = {cell.key: plan.run_seconds(cell) for cell in plan.cells}
        self._taken: dict[str, list[float]] = {}
        self._begun = time.monotonic()
        self._budget = budget

    @property
    def total(self) -> int:
        """Runs of the whole plan."""
        return self._runs * len(self._left)

    @property
    def done(self) -> int:
        """Runs that need not be waited for any more."""
        return self.total - sum(self._left.values())

    @property
    def seconds(self) -> float:
        """About how long the rest takes, in seconds."""
        off = self._off()
        rest = sum(left * self._of(key, off) for key, left in self._left.items())
        if self._budget is None:
            return rest
        return min(rest, max(0.0, self._budget - (time.monotonic() - self._begun)))

    def started(self, round_: int) -> None:
        """In this round no cell has more left than the round allows."""
        most = self._runs - round_
        self._left = {key: min(left, most) for key, left in self._left.items()}

    def finished(self, cell: Cell, round_: int, run: Run, seconds: float) -> None:
        """A run took ``seconds``; a cell that failed for good has nothing left."""
        self._left[cell.key] = self._runs - 1 - round_
        self._taken.setdefault(cell.key, []).append(seconds)
        if run.failure is not None and run.failure.kind not in TRANSIENT:
            self._left[cell.key] = 0

    def _off(self) -> float:
        """What the cells that have run took, over what they had been expected to take."""
        expected = sum(len(taken) * self._seconds[key] for key, taken in self._taken.items())
        return sum(map(sum, self._taken.values())) / expected if expected else 1.0

    def _of(self, key: str, off: float) -> float:
        taken = self._taken.get(key)
        return sum(taken) / len(taken) if taken else off * self._seconds[key]


class Watcher:
    """A :class:`refbench.runner.Progress` that writes on a screen."""

    def __init__(self, screen: Screen, budget: float | None, bar: Progress | None) -> None:
        self._screen = screen
        self._budget = budget
        self._bar = bar
        self._task = bar.add_task("opening", total=None, rest="") if bar else None
        self._forecast: Forecast | None = None
        self._target = ""
        self._begun = 0.0
        self._said = time.monotonic()

    def opened(self, target: Spec, capabilities: Capabilities, plan: Plan) -> None:
        """Say what will be measured and how long it will take."""
        self._target = str(target)
        self._forecast = Forecast(plan, self._budget)
        unsupported = sum(
            not found.ok
            for cell in plan.cells
            if (found := capabilities.mechanisms.get(cell.mechanism.name)) is not None
        )
        left_out = f", {unsupported} of them not supported here" if unsupported else ""
        ends = self._budget is not None and self._budget < plan.seconds
        budget = f"; the budget ends it after {duration(self._budget or 0)}" if ends else ""
        self.note(
            f"{target}: {count(len(plan.cells), 'cell')}{left_out}, {count(plan.runs, 'run')} each "
            f"of 1 + {plan.iterations} samples, seed {plan.seed}: "
            f"{duration(plan.seconds)}{budget}."
        )

    def started(self, cell: Cell, round_: int) -> None:
        """Show the cell that is measured next."""
        self._begun = time.monotonic()
        if self._forecast is None:
            return
        self._forecast.started(round_)
        if self._bar is not None:
            self._draw(f"{cell.label} {cell.mechanism}")

    def finished(self, cell: Cell, round_: int, run: Run) -> None:
        """Count it, and say where nothing is drawn that time goes by."""
        if self._forecast is None:
            return
        now = time.monotonic()
        self._forecast.finished(cell, round_, run, now - self._begun)
        if self._bar is None and now - self._said >= LINE_EVERY:
            self._said = now
            self.note(
                f"{self._target}: round {round_ + 1}, {self._forecast.done} of "
                f"{self._forecast.total} runs, {duration(self._forecast.seconds)} left"
            )

    def note(self, text: str) -> None:
        """A remark, above the bar."""
        self._screen.note(text)

    def _draw(self, doing: str) -> None:
        assert self._bar is not None
        assert self._task is not None
        assert self._forecast is not None
        self._bar.update(
            self._task,
            description=f"{self._target} {doing}",
            completed=self._forecast.done,
            total=self._forecast.total,
            rest=f"{duration(self._forecast.seconds)} left",
        )
        self._bar.refresh()


def still_bar(screen: Screen, *more: ProgressColumn) -> Progress:
    """A bar that moves only when it is told to, and is gone afterwards."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        *more,
        console=screen.err,
        auto_refresh=False,
        transient=True,
        expand=True,
    )


@contextmanager
def watching(screen: Screen, budget: float | None) -> Iterator[Watcher]:
    """A watcher for one measurement; its bar is gone afterwards."""
    if not screen.live:
        yield Watcher(screen, budget, None)
        return
    bar = still_bar(screen, TextColumn("{task.fields[rest]}", markup=False))
    with bar:
        yield Watcher(screen, budget, bar)
