"""What touches leave in pages, also those that end in a signal on their way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refbench import program as p
from refbench_simulator.model.machine import Trapped
from refbench_simulator.model.space import AddressSpace, Pte
from refbench_simulator.places import Reach
from refbench_simulator.rows import Rows
from refbench_simulator.stamps import Places, Stamp

Index = NDArray[np.int64]


def put(space: AddressSpace, rows: Index, *stored: Stamp) -> None:
    """Put stores into the pages of ``rows``, all of which have pages of their own."""
    folios, contents = space.machine.folios, space.machine.contents
    mine = rows[(space.pte[rows] == Pte.ANON) | (space.pte[rows] == Pte.SWAP)]
    ids = space.folio[mine]
    apart = folios.home[ids] - space.rows.page[mine]
    for pages in np.unique(apart).tolist():
        those = ids[apart == pages]
        for stamp in stored:
            moved = stamp.moved(pages * space.rows.page_size)
            folios.content[those] = contents.stamped(folios.content[those], moved)


def stored(
    rows: Rows, step: p.Touch, found: Reach, trap: Trapped | None = None, *, loading: bool = False
) -> Iterator[Stamp]:
    """What a touch stores to the places ``found``, up to where it ended in a signal; ``loading``:
    by a load, which comes before all stores to the same place."""
    base = rows.regions[step.region].base
    if trap is None:
        for part in rows.parts(step.region, found):
            yield _stamp(step, part, base)
        return
    place, address = first_access(rows, found, trap.row, base)
    if not loading:
        # The bytes of a place are stored by ascending address, whatever the order of places.
        end = min(found.end, address)
        yield _stamp(step, replace(found, first=place, last=place + 1, end=end, chosen=None), base)
    if found.chosen is not None:
        done = int((found.chosen == place).argmax())
        yield _stamp(step, replace(found, chosen=found.chosen[:done]), base)
    elif found.backward:
        yield _stamp(step, replace(found, first=place + 1), base)
    else:
        yield _stamp(step, replace(found, last=place), base)


def first_access(rows: Rows, found: Reach, row: int, base: int) -> tuple[int, int]:
    """The first place that reaches into a row, and the offset of its first byte there."""
    size = rows.page_size
    low = int(rows.page[row]) * size - base
    if found.backward:
        low = int(rows.last[row] - rows.length[row]) * size - base
    high = low + int(rows.length[row]) * size
    if found.chosen is not None:
        begin = found.offset + found.chosen * found.stride
        end = np.minimum(begin + found.size, found.end)
        place = int(found.chosen[int(((begin < high) & (low < end)).argmax())])
    elif found.backward:
        place = min(found.last, -(-(high - found.offset) // found.stride)) - 1
    else:
        place = max(found.first, (low - found.offset - found.size) // found.stride + 1)
    return place, max(low, found.offset + place * found.stride)


def _stamp(step: p.Touch, found: Reach, base: int) -> Stamp:
    """The stores of a touch to all places of ``found``."""
    places = None
    first, count = found.first, found.last - found.first
    if found.chosen is not None and found.chosen.size < count:
        places = Places(found.chosen)
        first, count = 0, found.last
    start = base + found.offset + first * found.stride
    end = base + found.end
    return Stamp(start, found.stride, count, found.size, end, step.value, places)
