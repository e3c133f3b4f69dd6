"""Samepage merging, when it has been everywhere: mm/ksm.c.

ksmd goes round for ever; the model merges when a program lets things settle, everything at once.
Pages with equal bytes, in VMAs that offer them, share one page of the kernel's, write-protected. A
KSM page is shown by at most ``max_page_sharing`` pages that were merged; the next ones begin
another, and one page alone begins none.

The pages of one content stand in a queue, and each merged line of folios has a stretch of it, its
*slots*; slots 0 to 255 share the first KSM page, and so on. A line that is merged owns no page
(its weight is 0); who shows which slot tells the KSM pages that there are, and their mapcounts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.model.space import Flag, Pte

if TYPE_CHECKING:
    from refbench_simulator.content import Contents
    from refbench_simulator.model.machine import Machine
    from refbench_simulator.model.space import AddressSpace

Index = NDArray[np.int64]

SHARING = 256
"""Merged pages that one KSM page stands for: ``ksm_max_page_sharing`` of mm/ksm.c."""
_MOST_COMPARED = 1 << 12
"""Pages of one run that are read to see whether they are all equal."""


@dataclass(slots=True)
class Queue:
    """The pages of one content."""

    slots: int = 0
    """How many were ever put in; the next one is behind them."""


@dataclass(slots=True)
class Merging:
    """What a machine has merged."""

    queues: list[Queue] = field(default_factory=list)
    of: Index = field(default_factory=lambda: np.full(1, -1, np.int64))
    """For each number in the column ``merged`` of the folios, its queue ..."""
    at: Index = field(default_factory=lambda: np.zeros(1, np.int64))
    """... and its first slot."""
    known: dict[bytes, int] = field(default_factory=dict)
    """The queue of a content."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A queue in stretches of slots: where each begins (and the last one ends), how many entries
    show one of its slots, and how many the KSM page of that slot."""

    cuts: Index
    level: Index
    mapcount: Index
    alone: NDArray[np.bool_]
    """Stretches of one slot that has no KSM page: nothing else is equal."""

    @property
    def pages(self) -> int:
        """Pages of memory that it takes."""
        low, high = self.cuts[:-1] // SHARING, (self.cuts[1:] - 1) // SHARING
        there = self.mapcount > 0
        within = there & (low == high)
        return int((high - low + 1)[there & ~within].sum()) + int(np.unique(low[within]).size)


def merge(machine: Machine) -> None:
    """Merge what can be merged in all processes."""
    if not machine.kernel.ksm:
        return
    offered: dict[bytes, list[tuple[AddressSpace, Index]]] = {}
    for space in machine.spaces:
        rows = _candidates(space)
        contents = machine.folios.content[space.folio[rows]]
        for content in np.unique(contents).tolist():
            for key, found in _by_bytes(space, rows[contents == content], content):
                offered.setdefault(key, []).append((space, found))
    for key, parts in offered.items():
        _merge_equal(machine, key, parts)


def _by_bytes(space: AddressSpace, rows: Index, content: int) -> Iterator[tuple[bytes, Index]]:
    """Rows of one content, which differ in where their stores lie; those whose own pages differ
    are left out."""
    contents = space.machine.contents
    if not contents.stamps(content):
        yield contents.base(content).tobytes(), rows
        return
    for row in rows.tolist():
        key = _bytes_of(space, row, content)
        if key is not None:
            yield key, np.array([row])


def _candidates(space: AddressSpace) -> Index:
    """Rows of anonymous pages that may be merged and are not."""
    wanted = (space.pte == Pte.ANON) & ((space.flags & Flag.MERGEABLE) != 0) & ~space.huge
    rows: Index = np.flatnonzero(wanted)
    merged = space.machine.folios.merged[space.folio[rows]] > 0
    return np.asarray(rows[~merged], np.int64)


def _bytes_of(space: AddressSpace, row: int, content: int) -> bytes | None:
    """What each page of a row holds; None when they differ among themselves."""
    contents, pages = space.machine.contents, int(space.rows.length[row])
    size, home = contents.page_size, int(space.machine.folios.home[space.folio[row]])
    first = _page(contents, content, home)
    if pages == 1:
        return first
    looked = range(1, pages)
    if pages > _MOST_COMPARED:
        if any(not stamp.solid and size % stamp.stride for stamp in contents.stamps(content)):
            return None
        # Every page between the second and the last but one is like them.
        looked = range(1, pages, pages - 2)
    alike = all(_page(contents, content, home + page) == first for page in looked)
    return first if alike else None


def _page(contents: Contents, content: int, page: int) -> bytes:
    size = contents.page_size
    return contents.read(content, np.arange(page * size, (page + 1) * size)).tobytes()


def _merge_equal(machine: Machine, key: bytes, parts: list[tuple[AddressSpace, Index]]) -> None:
    """``stable_tree_search()``, and the unstable tree for what finds nothing there."""
    merging = machine.merging
    number = merging.known.get(key)
    if number is not None and not _shown(machine, number).level.any():
        # Nobody shows it any more: remove_node_from_stable_tree().
        number = None
    before = merging.queues[number].slots if number is not None else 0
    total = sum(space.pages(rows) for space, rows in parts)
    if (before + total) % SHARING == 1:
        # The last one has no partner to begin a KSM page with.
        space, rows = parts[-1]
        if space.rows.weight[rows[-1]] == 1:
            parts[-1] = space, rows[:-1]
            total -= 1
    if before + total < 2:
        return
    if number is None:
        number = merging.known[key] = len(merging.queues)
        merging.queues.append(Queue())
    there = _shown(machine, number).pages
    freed = sum(_replace(space, rows, number) for space, rows in parts)
    kept = _shown(machine, number).pages - there
    merged = np.unique(np.concatenate([rows for _, rows in parts]))
    machine.ledger.add(rules.KSM_MERGE, merged, merge=total, free=freed, alloc=kept)


def _replace(space: AddressSpace, rows: Index, number: int) -> int:
    """``replace_page()``: the entries show KSM pages; how many pages that frees."""
    folios, merging = space.machine.folios, space.machine.merging
    old, queue = space.folio[rows], merging.queues[number]
    behind = queue.slots + np.cumsum(space.rows.weight[rows])
    first = merging.of.size
    merging.of = np.concatenate((merging.of, np.full(rows.size, number)))
    merging.at = np.concatenate((merging.at, behind - space.rows.weight[rows]))
    queue.slots += space.pages(rows)
    lines = folios.make(folios.content[old], folios.home[old], np.zeros(rows.size, np.int64))
    folios.exclusive[lines] = False
    folios.merged[lines] = np.arange(first, first + rows.size)
    space.folio[rows] = lines
    space.writable[rows] = False
    return folios.drop(old)


def _shown(machine: Machine, number: int) -> Shown:
    """Who shows what of a queue."""
    of, at = machine.merging.of, machine.merging.at
    lows: list[Index] = []
    highs: list[Index] = []
    for space, rows in _merged_rows(machine):
        marks = machine.folios.merged[space.folio[rows]]
        mine = of[marks] == number
        lows.append(at[marks[mine]])
        highs.append(at[marks[mine]] + space.rows.weight[rows[mine]])
    low, high = _joined(lows), _joined(highs)
    slots = machine.merging.queues[number].slots
    edges = np.concatenate((low, high, [0, slots]))
    down = edges // SHARING * SHARING
    cuts = np.unique(np.concatenate((edges, down, np.minimum(down + SHARING, slots))))
    changes = np.bincount(np.searchsorted(cuts, low), minlength=cuts.size)
    changes -= np.bincount(np.searchsorted(cuts, high), minlength=cuts.size)
    level = np.cumsum(changes)[:-1].astype(np.int64)
    length, unit = np.diff(cuts), cuts[:-1] // SHARING
    within = unit == (cuts[1:] - 1) // SHARING
    mapcount = level * SHARING
    inside = np.bincount(unit[within], (level * length)[within]).astype(np.int64)
    mapcount[within] = inside[unit[within]]
    alone = (cuts[:-1] % SHARING == 0) & (cuts[1:] == slots) & (length == 1)
    return Shown(cuts, level, mapcount, alone)


def _merged_rows(machine: Machine) -> Iterator[tuple[AddressSpace, Index]]:
    for space in machine.spaces:
        rows = np.flatnonzero(space.pte == Pte.ANON)
        merged: Index = rows[machine.folios.merged[space.folio[rows]] > 0]
        if merged.size:
            yield space, merged


def pages(machine: Machine) -> int:
    """KSM pages that there are, of all contents."""
    return sum(_shown(machine, number).pages for number in set(machine.merging.known.values()))


def shares(space: AddressSpace, rows: Index) -> tuple[Index, Index, int]:
    """How many entries show the KSM pages of merged ``rows``: pages, mapcounts of each, and how
    many of the pages are really merged."""
    machine = space.machine
    marks = machine.folios.merged[space.folio[rows]]
    of, at = machine.merging.of[marks], machine.merging.at[marks]
    counts: list[Index] = []
    mapcounts: list[Index] = []
    merged = 0
    for number in np.unique(of).tolist():
        shown = _shown(machine, number)
        mine = of == number
        low = np.searchsorted(shown.cuts, at[mine])
        high = np.searchsorted(shown.cuts, at[mine] + space.rows.weight[rows[mine]])
        pieces = high - low
        inside = np.arange(int(pieces.sum())) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        index = np.repeat(low, pieces) + inside
        length = np.diff(shown.cuts)[index]
        counts.append(length)
        mapcounts.append(shown.mapcount[index])
        merged += int(length[~shown.alone[index]].sum())
    return _joined(counts), _joined(mapcounts), merged


def _joined(parts: list[Index]) -> Index:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
