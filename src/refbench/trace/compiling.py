"""From a heap trace to a program, and to a smaller trace that compiles to the same program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from refbench import program as p
from refbench.trace.condensing import (
    Again,
    Barrier,
    HandedOut,
    Mapped,
    Operation,
    Peak,
    Purged,
    Touched,
    Unmapped,
    condense,
)
from refbench.trace.format import Kind
from refbench.trace.reader import Trace
from refbench.trace.writer import Row, events_of, write_trace

PHASE = "replay"
"""The phase of everything but the last unmapping."""
_AGAIN = {"fresh": Kind.AGAIN_FRESH, "reused": Kind.AGAIN_REUSED, "purged": Kind.AGAIN_PURGED}
_BLOCK = {"fresh": Kind.BLOCK_FRESH, "reused": Kind.BLOCK_REUSED, "purged": Kind.BLOCK_FRESH}


def compile_trace(trace: Trace, page_size: int, *, name: str) -> p.Program:
    """The program of a trace, for pages of ``page_size`` bytes.

    All threads become one, which takes the order that they took. Snapshots are taken where most
    pages were stored to (``peak``), where the recorded program ended (``exit``) and behind the
    last unmapping (``end``).

    :raises UsageError: when the trace is not whole.
    """
    operations = list(chain.from_iterable(condense(trace.read(), page_size)))
    peaks = [i for i, one in enumerate(operations) if isinstance(one, Peak)]
    steps: list[p.Step] = [p.Phase(PHASE)]
    mapped: dict[int, int] = {}
    for i, one in enumerate(operations):
        match one:
            case Mapped(region, size):
                mapped[region] = size
            case Unmapped(region, whole=True):
                del mapped[region]
            case Peak() if i == peaks[-1]:
                steps += [p.Phase(), p.Measure("peak"), p.Phase(PHASE)]
            case _:
                pass
        if (step := _step(one, page_size)) is not None:
            steps.append(step)
    steps += [p.Phase(), p.Settle(), p.Measure("exit"), p.Phase("unmap")]
    steps += [p.Unmap(region) for region in sorted(mapped)]
    return p.Program(name, (*steps, p.Phase(), p.Measure("end")))


def _step(one: Operation, page_size: int) -> p.Step | None:
    match one:
        case Mapped(region, size, zero):
            return p.Map(region, size, plain=zero)
        case Unmapped(region, offset, length):
            return p.Unmap(region, offset, length)
        case Purged(region, offset, length):
            return p.Advise(region, offset, length, "dontneed")
        case Touched(region, page, pages, store, backward):
            return p.Touch(
                region,
                page * page_size,
                pages * page_size,
                "write" if store else "read",
                page_size,
                order="backward" if backward else "forward",
            )
        case HandedOut(region, offset, length, past):
            return p.Handout(region, offset, length, past)
        case Again(region, page, size, past):
            times = max(size // page_size, 1)
            return p.Handout(region, page * page_size, min(size, page_size), past, times)
        case Peak() | Barrier():
            return None


def write_condensed(trace: Trace, path: Path) -> None:
    """Write a smaller trace without single blocks, threads and frees, which compiles to the same
    program for pages of the same size.

    :raises OSError: when the file cannot be written.
    """
    told = condense(trace.read(), trace.page_size)
    parts = chain.from_iterable(map(_parted, told))
    rows = (list(_rows(part, trace.page_size)) for part in parts)
    blocks = (events_of(part) for part in rows if part)
    facts = {key: value for key, value in trace.facts.items() if key not in ("pid", "kernel")}
    words = facts.get("command", "").split()
    # Where somebody's files lie is nothing that goes with a trace.
    facts["command"] = " ".join(word.rpartition("/")[2] or word for word in words)
    facts |= {"condensed": "yes", "recorded-events": str(trace.events)}
    write_trace(path, trace.page_size, facts, blocks, trace.ending)


def _parted(operations: Iterable[Operation]) -> Iterator[list[Operation]]:
    """Cut at barriers: what a block tells is put together within it alone."""
    part: list[Operation] = []
    for one in operations:
        part.append(one)
        if isinstance(one, Barrier):
            yield part
            part = []
    yield part


def _rows(operations: Iterable[Operation], page_size: int) -> Iterator[Row]:
    """Events again; regions get addresses of their own."""
    slot = 1 << 40
    for one in operations:
        match one:
            case Mapped(region, size, zero):
                yield Kind.MAP_ZERO if zero else Kind.MAP, region * slot, size, 0
            case Unmapped(region, offset, length):
                yield Kind.UNMAP, region * slot + offset, length, 0
            case Purged(region, offset, length):
                yield Kind.PURGE, region * slot + offset, length, 0
            case Touched(region, page, pages, store, backward):
                kind = Kind.WRITE if store else Kind.READ
                at = region * slot + page * page_size
                if not backward:
                    yield kind, at, pages * page_size, 0
                    continue
                for back in range(pages - 1, -1, -1):
                    yield kind, at + back * page_size, page_size, 0
            case HandedOut(region, offset, length, past):
                yield _BLOCK[past], region * slot + offset, length, 0
            case Again(region, page, size, past):
                yield _AGAIN[past], region * slot + page * page_size, size, 0
            case Peak() | Barrier():
                pass
