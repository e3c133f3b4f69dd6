"""Deliberate faults in what the model does with address spaces: fork, VMAs, mremap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.backends.simulator.differential.mutating import Collection, Function, nothing

from refbench_simulator.knobs import Kernel
from refbench_simulator.model import anon_vma, forking, mapping, moving
from refbench_simulator.model.folios import Folios, Ids
from refbench_simulator.model.space import AddressSpace, Flag, Prot, Pte
from refbench_simulator.model.tables import Tables

Index = NDArray[np.int64]

SPACES = Collection()
fault = SPACES.fault

# -- fork and exit --------------------------------------------------------------------------


@fault(
    "fork-leaves-writable",
    "fork(2) leaves the parent's pages writable: a store copies nothing.",
    (forking, "fork"),
)
def _writable(original: Function, parent: AddressSpace) -> AddressSpace:
    writable = parent.writable.copy()
    child: AddressSpace = original(parent)
    parent.writable[:] = writable
    return child


@fault(
    "fork-leaves-exclusive",
    "fork(2) leaves pages exclusive: a store reuses what is shared.",
    (Folios, "share"),
)
def _exclusive(original: Function, folios: Folios, ids: Ids) -> None:
    exclusive = folios.exclusive[ids]
    original(folios, ids)
    folios.exclusive[ids] = exclusive


@fault(
    "fork-copies-every-vma",
    "fork(2) copies the entries of VMAs without an anon_vma.",
    (forking, "fork"),
)
def _every(original: Function, parent: AddressSpace) -> AddressSpace:
    bare = parent.mapped & (parent.anon_vma == 0)
    parent.anon_vma[bare] = 1 << 30
    child: AddressSpace = original(parent)
    parent.anon_vma[bare] = child.anon_vma[bare] = child.chain[bare] = 0
    return child


@fault("fork-copies-no-entries", "A child begins without any page.", (forking, "fork"))
def _no_entries(original: Function, parent: AddressSpace) -> AddressSpace:
    child: AddressSpace = original(parent)
    mapping.zap(child, np.flatnonzero(child.mapped))
    return child


@fault("fork-inherits-no-tables", "A child begins without page tables.", (Tables, "inherit"))
def _no_tables(original: Function, tables: Tables, parent: Tables, rows: Index) -> int:
    return 0


@fault(
    "fork-inherits-all-tables",
    "A child gets tables for VMAs that are not copied, too.",
    (Tables, "inherit"),
)
def _all_tables(original: Function, tables: Tables, parent: Tables, rows: Index) -> int:
    tables.present = [there.copy() for there in parent.present]
    return 0


@fault("fork-inherits-locks", "A child inherits mlock(2).", (forking, "fork"))
def _locks(original: Function, parent: AddressSpace) -> AddressSpace:
    child: AddressSpace = original(parent)
    child.flags |= parent.flags & np.uint16(Flag.LOCKED)
    return child


fault(
    "fork-without-anon-vmas",
    "A child's VMAs keep their parent's anon_vma and get none of their own.",
    (forking, "_new_anon_vmas"),
)(nothing)


@fault(
    "exit-keeps-mapcounts",
    "The end of a child lowers no mapcount.",
    (forking, "end"),
)
def _still_mapped(original: Function, space: AddressSpace) -> None:
    space.machine.folios.mapcount[space.folio[space.pte == Pte.ANON]] += 1
    original(space)


# -- VMAs -----------------------------------------------------------------------------------


@fault("merge-never", "VMAs never merge.", (AddressSpace, "can_merge"))
def _never(original: Function, space: AddressSpace, *given: object, **touched: object) -> bool:
    return False


def _ignoring(name: str) -> Function:
    """The body of a merge that does not look at one column."""

    def body(
        original: Function, space: AddressSpace, row: int, changed: int, **touched: object
    ) -> bool:
        column: NDArray[Any] = getattr(space, name)
        kept = column[row]
        column[row] = column[row - 1]
        if name == "pgoff":
            column[row] += space.rows.page[row] - space.rows.page[row - 1]
        merges = bool(original(space, row, changed, **touched))
        column[row] = kept
        return merges

    return body


for _name, _what in (
    ("prot", "permissions"),
    ("flags", "flags"),
    ("pgoff", "offsets"),
):
    fault(
        f"merge-ignores-{_what}",
        f"VMAs merge whose {_what} differ.",
        (AddressSpace, "can_merge"),
    )(_ignoring(_name))


@fault(
    "merge-ignores-anon-vmas",
    "VMAs merge whose anon_vmas differ.",
    (AddressSpace, "_anon_vmas_merge"),
)
def _any_anon_vma(original: Function, *given: object) -> bool:
    return True


@fault(
    "merge-of-fork-children",
    "VMAs merge that a forked child shares with its parent.",
    (AddressSpace, "_anon_vmas_merge"),
)
def _of_children(original: Function, space: AddressSpace, a: int, b: int, touched: bool) -> bool:
    chain = space.chain
    space.chain = np.minimum(chain, 1).astype(np.uint8)
    merges = bool(original(space, a, b, touched))
    space.chain = chain
    return merges


@fault(
    "anon-vma-never-lent",
    "A VMA does not take the anon_vma of its neighbour.",
    (anon_vma, "_lends"),
)
def _alone(original: Function, space: AddressSpace, row: int) -> bool:
    return False


@fault(
    "anon-vma-of-fork-lent",
    "A VMA takes an anon_vma of its neighbour that a fork has cloned.",
    (anon_vma, "_lends"),
)
def _cloned(original: Function, space: AddressSpace, row: int) -> bool:
    return bool(space.anon_vma[row])


@fault(
    "split-uncounted",
    "munmap(2) in the midst of a VMA leaves two, which count as one.",
    (mapping, "unmap_range"),
    (AddressSpace, "vmas"),
)
def _as_one(original: Function, space: AddressSpace, *rows: slice) -> int | None:
    lost: int = getattr(space, "lost", 0)
    if not rows:
        return int(original(space)) - lost
    before = space.vmas
    original(space, *rows)
    vars(space)["lost"] = lost + max(0, space.vmas - before)
    return None


@fault(
    "protect-accounts-nothing",
    "mprotect(2) leaves VM_ACCOUNT as it is.",
    (mapping, "_set_prot"),
)
def _no_account(original: Function, space: AddressSpace, part: slice, prot: Prot) -> None:
    space.prot[part] = prot


@fault(
    "map-blocks-merge",
    "Blocks of a file that are mapped one by one are one VMA.",
    (mapping, "map_range"),
)
def _one_vma(original: Function, *given: object, **named: Any) -> None:
    original(*given, **{**named, "starts": None})


# -- mremap ---------------------------------------------------------------------------------


@fault(
    "mremap-makes-no-tables",
    "mremap(2) makes no page tables for what it moves.",
    (moving, "_move_entries"),
)
def _no_new_tables(original: Function, space: AddressSpace, source: slice, target: slice) -> None:
    present = [there.copy() for there in space.tables.present]
    original(space, source, target)
    space.tables.present = present


@fault("mremap-drops-pages", "mremap(2) moves no page.", (moving, "_move_entries"))
def _dropped(original: Function, space: AddressSpace, source: slice, target: slice) -> None:
    original(space, source, target)
    mapping.zap(space, np.arange(target.start, target.stop))


@fault(
    "mremap-keeps-registration",
    "What mremap(2) moves stays registered with its userfaultfd.",
    (moving, "_move"),
)
def _registered(original: Function, space: AddressSpace, source: slice, target: slice) -> None:
    flags, ctx = space.flags[source.start], space.ctx[source.start]
    original(space, source, target)
    space.flags[target], space.ctx[target] = flags, ctx


@fault(
    "mremap-keeps-offsets",
    "A VMA without pages keeps its offset when mremap(2) moves it.",
    (moving, "_move"),
)
def _offsets(original: Function, space: AddressSpace, source: slice, target: slice) -> None:
    rows = slice(source.start, source.stop)
    bare = space.anon_vma[rows] == 0
    space.anon_vma[rows][bare] = 1 << 30
    original(space, source, target)
    space.anon_vma[space.anon_vma == 1 << 30] = 0


@fault(
    "mremap-moves-one-vma",
    "mremap(2) refuses ranges of several VMAs, as before 6.17.",
    (Kernel, "moves_many_vmas"),
)
def _one_only(original: Function, kernel: Kernel) -> bool:
    return False
