"""Deliberate faults in the models of mechanisms: userfaultfd, SIGSEGV, memfd."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.backends.simulator.differential.mutating import Collection, Function, nothing

from refbench_simulator.content import ZERO
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanisms import userfault
from refbench_simulator.mechanisms.memfd_full import MemfdFull
from refbench_simulator.mechanisms.ranges import Ranges
from refbench_simulator.mechanisms.segv import Segv
from refbench_simulator.mechanisms.uffd_sigbus import UffdSigbus
from refbench_simulator.model import faults
from refbench_simulator.model.machine import Machine
from refbench_simulator.model.space import AddressSpace

Index = NDArray[np.int64]

MECHANISMS = Collection()
fault = MECHANISMS.fault

# -- userfaultfd ----------------------------------------------------------------------------


@fault(
    "fork-keeps-registration",
    "A child's VMAs stay registered with its parent's userfaultfd.",
    (Machine, "heir"),
)
def _same(original: Function, machine: Machine, number: int) -> int:
    return number


@fault(
    "userfault-major",
    "A userfault that a thread served counts as a major fault, as before 6.6.",
    (Kernel, "handled_userfault_is_major"),
)
def _major(original: Function, kernel: Kernel) -> bool:
    return True


@fault("userfault-uncounted", "A userfault is no fault.", (faults, "_userfault"))
def _no_fault(original: Function, space: AddressSpace, *given: object, **named: object) -> None:
    minor = space.machine.counters.minor
    try:
        original(space, *given, **named)
    finally:
        space.machine.counters.minor = minor


@fault(
    "sigbus-is-a-fault",
    "A round by way of SIGBUS counts as a fault.",
    (UffdSigbus, "_serve"),
)
def _counted(
    original: Function, model: UffdSigbus, space: AddressSpace, rows: Index, store: bool
) -> int:
    done = int(original(model, space, rows, store))
    model.machine.counters.minor += space.pages(rows[:done])
    return done


@fault(
    "uffd-copy-read-only",
    "UFFDIO_COPY leaves pages that a store must fault for.",
    (userfault, "copy"),
)
def _read_only(original: Function, space: AddressSpace, rows: Index) -> None:
    original(space, rows)
    space.writable[rows] = False


@fault(
    "uffd-copy-without-anon-vma",
    "UFFDIO_COPY gives a VMA no anon_vma, and fork(2) does not copy it.",
    (userfault, "copy"),
)
def _bare(original: Function, space: AddressSpace, rows: Index) -> None:
    anon_vma, chain = space.anon_vma.copy(), space.chain.copy()
    original(space, rows)
    space.anon_vma, space.chain = anon_vma, chain


@fault(
    "atfork-registers-nothing",
    "The child's handler does not know the ranges.",
    (Ranges, "slices"),
)
def _none(original: Function, ranges: Ranges) -> list[slice]:
    return []


# -- SIGSEGV --------------------------------------------------------------------------------

fault("segv-fills-nothing", "The handler only opens the page.", (Segv, "fill"))(nothing)


@fault("segv-fills-zeros", "The handler fills with zeros.", (Segv, "fill"))
def _zeros(original: Function, model: Segv, space: AddressSpace, rows: Index) -> None:
    original(model, space, rows)
    model.machine.folios.content[space.folio[rows]] = ZERO


@fault("segv-uncounted", "SIGSEGV is not counted.", (Segv, "_open_pages"))
def _unseen(original: Function, model: Segv, *given: Any) -> int:
    before = model.machine.counters.sigsegv
    done = int(original(model, *given))
    model.machine.counters.sigsegv = before
    return done


# -- memfd ----------------------------------------------------------------------------------


@fault(
    "memfd-held-nothing",
    "What a full-size memfd holds is not counted.",
    (MemfdFull, "held"),
)
def _nothing_held(original: Function, model: MemfdFull, space: AddressSpace) -> int:
    return 0
