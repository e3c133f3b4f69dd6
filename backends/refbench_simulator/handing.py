"""What an allocator above the mechanism stores when it hands out memory.

What native/agent/handout.c does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench import program as p
from refbench_simulator import rules, storing, touching
from refbench_simulator.content import PATTERN
from refbench_simulator.mechanism import Model, indices
from refbench_simulator.model.machine import Trapped
from refbench_simulator.model.space import AddressSpace, Pte
from refbench_simulator.places import reach
from refbench_simulator.stamps import Stamp

Index = NDArray[np.int64]


def is_filled(model: Model, past: p.Past) -> bool:
    """Whether the allocator fills it: docs/program-format.md, handout."""
    if not model.applies_pattern or model.fills_at_malloc:
        return model.fills_at_malloc
    return past == "reused" or (past == "purged" and not model.purge_restores)


def hand_out(space: AddressSpace, model: Model, step: p.Handout) -> Trapped | None:
    """Hand out a range; the signal that ended it, if one did."""
    if not step.length or not is_filled(model, step.past):
        return None
    columns = space.rows
    rows = indices(columns.between(step.region, step.offset, step.length))
    store = p.Touch(step.region, step.offset, step.length, "write", step.length, step.length)
    walk = touching.walk(space, rows, reach(store), store)
    _put(space, walk.rows, step)
    space.machine.ledger.add(rules.FILL, walk.rows, fill=space.pages(walk.rows) * step.times)
    return walk.trap


def _put(space: AddressSpace, rows: Index, step: p.Handout) -> None:
    """The new content: whole pages have it as such, of others it covers a part."""
    columns, folios, size = space.rows, space.machine.folios, space.rows.page_size
    start = columns.regions[step.region].base + step.offset
    end = start + step.length
    own = rows[(space.pte[rows] == Pte.ANON) | (space.pte[rows] == Pte.SWAP)]
    first = columns.page[own] * size
    whole = (first >= start) & (columns.last[own] * size <= end)
    shown = space.folio[own[whole]]
    folios.content[shown] = PATTERN
    folios.home[shown] = columns.page[own[whole]]
    for row in own[~whole].tolist():
        _put_part(space, row, start, end)


def _put_part(space: AddressSpace, row: int, start: int, end: int) -> None:
    contents, folios, size = space.machine.contents, space.machine.folios, space.rows.page_size
    new = contents.base(PATTERN)
    if (new == new[0]).all():
        stamp = Stamp(start, end - start, 1, end - start, end, int(new[0]))
        storing.put(space, np.array([row]), stamp)
        return
    folio = space.folio[row]
    addresses = np.arange(size) + int(folios.home[folio]) * size
    page = contents.read(int(folios.content[folio]), addresses)
    first = int(space.rows.page[row]) * size
    covered = slice(max(start - first, 0), min(end - first, size))
    page[covered] = new[covered]
    folios.content[folio] = contents.image(page.tobytes())
