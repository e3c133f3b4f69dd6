"""Filling a journal: what every command does that measures cells and keeps what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from refbench import journal as journals
from refbench.cli.places import Place
from refbench.cli.progress import watching
from refbench.cli.screen import Interrupted, Screen
from refbench.errors import CellError, StorageError
from refbench.journal import Header, Journal
from refbench.plan import Request
from refbench.plugins import registry
from refbench.runner import Outcome, execute
from refbench.samples import Failure, Measurement
from refbench.version import VERSION


def header_of(targets: tuple[str, ...], request: Request) -> Header:
    """The first line of a journal that is begun now."""
    return Header(
        refbench=VERSION,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        targets=targets,
        request=request,
    )


@contextmanager
def started(place: Place, header: Header) -> Iterator[Journal]:
    """A new journal; if nothing comes of it, neither it nor its directory stays."""
    try:
        journal = Journal.create(place.journal, header)
    except StorageError:
        place.discard_empty()
        raise
    try:
        with journal:
            yield journal
    except BaseException:
        if not journals.read(place.journal).runs:
            place.discard()
        raise


def fill(
    screen: Screen, journal: Journal, *, budget: float | None = None, command: str = "run"
) -> Outcome:
    """Measure what the journal's header asks for and it does not have yet.

    :raises Interrupted: on Ctrl-C, with what is kept and how ``refbench COMMAND`` goes on.
    """
    header = journal.before.header
    try:
        with watching(screen, budget) as watcher:
            return execute(
                registry(), header.targets, header.request, journal, watcher, budget=budget
            )
    except KeyboardInterrupt:
        kept = len(journal.content().runs)
        raise Interrupted(
            f"Interrupted. {kept} finished runs are kept in {journal.path}."
            if kept
            else "Interrupted before anything was measured; nothing is kept.",
            remedy=f"Go on with: refbench {command} --resume {journal.path}" if kept else "",
        ) from None


class _NothingMeasured(CellError):
    """No cell has a result; with one cell, its own failure says why."""

    kind = "nothing-measured"


def judge(measurements: Sequence[Measurement]) -> None:
    """Some failed cells are a result; nothing but failed cells is not.

    :raises CellError: when no cell has a good run.
    """
    if not measurements or any(measurement.good for measurement in measurements):
        return
    failures = [measurement.failure for measurement in measurements]
    first = failures[0]
    assert first is not None
    cell = measurements[0].cell
    if len(measurements) == 1:
        raise _NothingMeasured(
            f"{cell.label} under {cell.mechanism}: {_kind(first)}: {first.message}",
            remedy=first.remedy,
        )
    kinds = sorted({_kind(failure) for failure in failures if failure is not None})
    raise _NothingMeasured(
        f"None of {len(measurements)} cells could be measured: {', '.join(kinds)}.",
        remedy="The table says why for each; `refbench doctor` looks at the machine.",
    )


def _kind(failure: Failure) -> str:
    return failure.kind.replace("-", " ")
