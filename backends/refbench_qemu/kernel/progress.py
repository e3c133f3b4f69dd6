"""Progress of a build: a bar where there is a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from refbench.cli.progress import LINE_EVERY
from refbench.cli.screen import Screen

_DRAW_EVERY = 0.1


class Watcher:
    """A callback of the artefact cache that writes on a screen."""

    def __init__(self, screen: Screen, name: str, bar: Progress | None) -> None:
        self._screen = screen
        self._name = name
        self._bar = bar
        self._task = bar.add_task(name, total=1.0, doing="") if bar else None
        self._begun = time.monotonic()
        self._shown = 0.0
        self._said = ""
        self.built = False
        """Whether anything had to be done."""

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._begun

    def __call__(self, what: str, share: float | None) -> None:
        """Show it, unless something was shown a moment ago."""
        self.built = self.built or share is not None
        now = time.monotonic()
        if self._bar is not None and self._task is not None:
            if now - self._shown >= _DRAW_EVERY:
                self._shown = now
                self._bar.update(self._task, completed=share, doing=what)
                self._bar.refresh()
            return
        stage = what.partition(" ")[0]
        if now - self._shown >= LINE_EVERY or stage != self._said:
            self._shown, self._said = now, stage
            percent = "" if share is None else f"{share:4.0%} "
            self._screen.note(f"{self._name}: {percent}{what} ({self.seconds:.0f} s)")


@contextmanager
def watching(screen: Screen, name: str) -> Iterator[Watcher]:
    """A watcher for one build; its bar is gone afterwards."""
    if not screen.live:
        yield Watcher(screen, name, None)
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}", markup=False),
        console=screen.err,
        auto_refresh=False,
        transient=True,
        expand=True,
    )
    with bar:
        yield Watcher(screen, name, bar)
