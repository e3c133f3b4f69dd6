"""Opening many pages of PROT_NONE memory at once, where each ends up in a VMA of its own.

The handler of :mod:`refbench_simulator.mechanisms.segv` calls mprotect(2) once a page. A page in
the midst of a VMA whose neighbours stay closed cuts that VMA in three, whatever happens elsewhere:
such rows need not be gone through one by one. Everything else is left to
:func:`~refbench_simulator.model.mapping.protect_range`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.detail import Finer
from refbench_simulator.model import mapping
from refbench_simulator.model.space import AddressSpace, Flag, Pte

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

_SPLITS = 2
"""VMAs that a page in the midst of one adds."""


def apart(space: AddressSpace, rows: Index) -> Mask:
    """Which of ``rows``, all of which are to be opened, lie in the midst of a VMA of which
    neither the page before nor the one behind is to be opened.

    :raises Finer: for a folded row that does not, because its copies may merge with one another.
    """
    count = len(space.rows)
    opened = np.zeros(count + 1, np.bool_)
    opened[rows] = True
    inside = np.zeros(count + 1, np.bool_)
    inside[:count] = space.mapped & ~space.start
    found = inside[rows] & inside[rows + 1] & ~opened[rows + 1] & ~opened[rows - 1]
    if space.rows.folded:
        folded = space.rows.copies[rows] > 1
        first, last = _ends_of_folds(space, rows[folded])
        # The copies lie end to end: before the first row of one is the last row of another.
        found[folded] &= inside[first] & ~opened[last]
        wrong = folded & ~found
        if wrong.any():
            raise Finer(int(space.rows.region[rows[wrong.argmax()]]))
    return found


def _ends_of_folds(space: AddressSpace, rows: Index) -> tuple[Index, Index]:
    """The first and the last row of the fold that each of ``rows`` lies in."""
    folded = np.concatenate(([False], space.rows.copies > 1, [False]))
    starts = np.flatnonzero(~folded[:-1] & folded[1:])
    stops = np.flatnonzero(folded[:-1] & ~folded[1:])
    which = np.searchsorted(starts, rows, side="right") - 1
    return starts[which], stops[which] - 1


def fitting(space: AddressSpace, rows: Index) -> int:
    """How many of ``rows``, from the first on, can be split off below ``vm.max_map_count``.

    :raises Finer: when the limit lies between copies of a folded row.
    """
    copies = space.rows.copies[rows]
    room = (space.machine.kernel.max_map_count - space.map_count) // _SPLITS
    before = np.cumsum(copies) - copies
    fit = before + copies <= room
    if fit.all():
        return int(rows.size)
    stop = int(fit.argmin())
    if copies[stop] > 1:
        raise _at_the_limit(space, rows, stop, room)
    return stop


def _at_the_limit(space: AddressSpace, rows: Index, stop: int, room: int) -> Finer:
    """Where a fold has to be broken up: its copies are opened one after the other."""
    columns, row = space.rows, rows[stop]
    first, last = (int(end[0]) for end in _ends_of_folds(space, rows[stop : stop + 1]))
    mine = (rows >= first) & (rows <= last)
    earlier = int(columns.copies[rows[: int(mine.argmax())]].sum())
    done = max(0, room - earlier) // int(mine.sum())
    backward = rows[mine][0] > rows[mine][-1] or bool((rows[:stop] > last).any())
    number = int(columns.copies[row]) - done if backward else done
    page = int(columns.page[first]) + number * int(columns.period[row])
    return Finer(int(columns.region[row]), page)


def split_off(space: AddressSpace, rows: Index) -> None:
    """mprotect(2) of each of ``rows``, which lie :func:`apart`, for reading and writing."""
    machine = space.machine
    count = int(space.rows.copies[rows].sum())
    machine.ledger.add(rules.MODIFY, rows, modify=count)
    space.prot[rows] = mapping.RW
    flags = space.flags[rows]
    promised = (flags & (Flag.NORESERVE | Flag.ACCOUNT)) != 0
    space.flags[rows] = np.where(promised, flags, flags | Flag.ACCOUNT)
    space.start[rows] = True
    space.start[rows + 1] = True
    machine.ledger.add(rules.SPLIT, rows, split=_SPLITS * count)
    own = space.pte[rows] == Pte.ANON
    space.writable[rows] = own & machine.folios.exclusive[space.folio[rows]]
    shown = rows[space.pte[rows] != Pte.NONE]
    machine.ledger.add(rules.PROTECT, shown, protect=space.pages(shown))
