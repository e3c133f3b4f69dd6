"""The model of ``native/mechanisms/userfault.c``: registering and copying."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench.errors import Unsupported
from refbench_simulator import rules
from refbench_simulator.content import PATTERN
from refbench_simulator.mechanism import Model, indices
from refbench_simulator.model import anon_vma, faults, mapping
from refbench_simulator.model.machine import Machine, Userfault
from refbench_simulator.model.space import AddressSpace, Flag, Prot

Index = NDArray[np.int64]

OPENING = 3
"""System calls that open one: open(2), USERFAULTFD_IOC_NEW and close(2) of the device; UFFDIO_API
comes on top."""


def open_userfault(machine: Machine, userfault: Userfault) -> int:
    """``rb_userfault_open()``; its number."""
    machine.system_call(OPENING + 1, "userfaultfd")
    return machine.open_userfault(userfault)


def register(space: AddressSpace, rows: slice, number: int) -> None:
    """``UFFDIO_REGISTER`` of a range: VMA by VMA, they merge and split.

    :raises Unsupported: for a range without a mapping: EINVAL.
    """
    space.machine.system_call(what="UFFDIO_REGISTER")
    pieces = list(space.pieces(rows))
    if not pieces:
        size = int(space.rows.weight[rows].sum()) * space.rows.page_size
        raise Unsupported(
            f"A userfaultfd did not take a range of {size} bytes: Invalid argument.",
            remedy="Look up the error in ioctl_userfaultfd(2).",
        )
    for piece in pieces:
        mapping.modify(space, piece, lambda space, part: _enlist(space, part, number))


def _enlist(space: AddressSpace, part: slice, number: int) -> None:
    space.flags[part] |= np.uint16(Flag.UFFD)
    space.ctx[part] = number


def map_registered(
    model: Model, space: AddressSpace, rows: slice, number: int, *, populate: bool
) -> None:
    """``rb_userfault_map()``."""
    model.map_anonymous(space, rows, populate=populate)
    if populate:
        model.fill(space, indices(rows))
    register(space, rows, number)


def copy(space: AddressSpace, rows: Index) -> None:
    """``UFFDIO_COPY`` of each page: ``mfill_atomic_pte_copy()``."""
    pages = space.pages(rows)
    anon_vma.prepare(space, rows)
    made = space.tables.cover(rows)
    permitted = (space.prot[rows] & Prot.WRITE) != 0
    faults.install(space, rows, PATTERN, writable=permitted)
    space.machine.system_call(pages, "UFFDIO_COPY")
    space.machine.ledger.add(
        rules.UFFD_COPY,
        rows,
        alloc=pages,
        copy=pages,
        rmap=pages,
        pte=pages,
    )
    space.machine.ledger.add(rules.TABLE, rows, table=made)
