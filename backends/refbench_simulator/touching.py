"""Touches: place by place a load, a store or both, by one thread or by several.

What native/agent/touch.c does. All loads are made before all stores where that makes no difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from refbench import program as p
from refbench_simulator.model import faults
from refbench_simulator.model.machine import Trapped
from refbench_simulator.model.space import NO_FILE, AddressSpace, Prot
from refbench_simulator.places import Reach
from refbench_simulator.storing import first_access

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a touch came: the rows that it stored to, and the signal that ended it."""

    rows: Index
    trap: Trapped | None = None
    loading: bool = False
    """Whether it was a load that ended it."""


def share(found: Reach, thread: int, threads: int) -> Reach:
    """The places of one thread: every so many-th of the order."""
    if found.chosen is not None:
        chosen = found.chosen[thread::threads]
    else:
        chosen = np.arange(found.first, found.last, dtype=np.int64)
        chosen = (chosen[::-1] if found.backward else chosen)[thread::threads]
    return replace(found, chosen=chosen, backward=False)


def is_plain(space: AddressSpace, rows: Index, access: p.Access) -> bool:
    """Whether a touch of ``rows`` cannot end in a signal, so that threads may share it anyhow."""
    need = Prot.READ if access == "read" else Prot.READ | Prot.WRITE
    permitted = space.mapped[rows] & ((space.prot[rows] & need) == need)
    sizes = np.array([0, *(file.pages for file in space.machine.files)], np.int64)
    behind = (space.file[rows] != NO_FILE) & (
        space.pgoff[rows] >= sizes[space.file[rows] - NO_FILE]
    )
    return bool(permitted.all() and not behind.any())


def walk(space: AddressSpace, rows: Index, found: Reach, step: p.Touch) -> Walk:
    """Touch ``rows``, which the places ``found`` reach in this order."""
    if step.access == "readwrite":
        return _walk_both(space, rows, found, step.region)
    done, trap = _access(space, rows, store=step.access == "write")
    return Walk(done, trap, loading=step.access == "read")


def _access(space: AddressSpace, rows: Index, *, store: bool) -> tuple[Index, Trapped | None]:
    """The rows up to the one that raised a signal."""
    try:
        faults.access(space, rows, store=store)
    except Trapped as trapped:
        return rows[: int((rows == trapped.row).argmax())], trapped
    return rows, None


def _walk_both(space: AddressSpace, rows: Index, found: Reach, region: int) -> Walk:
    """A store that is not permitted ends, or changes, what comes behind its place."""
    at = 0
    while at < rows.size:
        readable = (space.prot[rows[at:]] & (Prot.READ | Prot.WRITE)) == Prot.READ
        stop = at + (int(readable.argmax()) if readable.any() else rows.size - at)
        loaded, trap = _access(space, rows[at:stop], store=False)
        before = loaded if trap is None else _of_earlier_places(space, loaded, found, trap, region)
        stored, refused = _access(space, before, store=True)
        if trap is not None or refused is not None:
            done = np.concatenate((rows[:at], stored))
            return Walk(done, refused or trap, loading=refused is None)
        if stop == rows.size:
            break
        _, trap = _access(space, _same_place(space, int(rows[stop]), found, region), store=False)
        if trap is not None:
            return Walk(rows[:stop], trap, loading=True)
        _, refused = _access(space, rows[stop : stop + 1], store=True)
        if refused is not None:
            return Walk(rows[:stop], refused)
        at = stop + 1
    return Walk(rows)


def _base(space: AddressSpace, region: int) -> int:
    return space.rows.regions[region].base


def _same_place(space: AddressSpace, row: int, found: Reach, region: int) -> Index:
    """``row``, and the rows behind it that the first place in it reaches into as well."""
    base, size = _base(space, region), space.rows.page_size
    place, _ = first_access(space.rows, found, row, base)
    _, behind = found.pages_of(np.array([place]), size)
    stop = int(np.searchsorted(space.rows.page, base // size + int(behind[0])))
    return np.arange(row, max(row + 1, stop))


def _of_earlier_places(
    space: AddressSpace, rows: Index, found: Reach, trap: Trapped, region: int
) -> Index:
    """``rows`` less those that only the place of the trap reaches."""
    base = _base(space, region)
    place, _ = first_access(space.rows, found, trap.row, base)
    stop = rows.size
    while stop and first_access(space.rows, found, int(rows[stop - 1]), base)[0] == place:
        stop -= 1
    return rows[:stop]
