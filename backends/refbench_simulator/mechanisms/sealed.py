"""The model of ``native/mechanisms/sealed.c``: files that are filled, then sealed."""

from __future__ import annotations

import errno

from refbench_simulator import rules
from refbench_simulator.mechanism import Action
from refbench_simulator.model.machine import File, Machine, Refusal

_PAGES_A_WRITE = 256
_AROUND_WRITES = 3
"""memfd_create(2), ftruncate(2) and fcntl(2)."""


def make(machine: Machine, pages: int, real: int, *, repeats: bool) -> int:
    """A sealed file of ``real`` pages, ``pages`` in the coordinates of rows; its number."""
    machine.system_call(
        _AROUND_WRITES - (-real // _PAGES_A_WRITE),
        "memfd_create(2), ftruncate(2), write(2), fcntl(2)",
    )
    machine.ledger.add(
        rules.CACHE,
        file=1,
        alloc=real,
        copy=real,
        cache=real,
    )
    return machine.open_file(File(pages, allocated=real, repeats=repeats))


def tamper(action: Action) -> None:
    """Sealed files refuse stores and truncation; unmapping is closing."""
    if action != "unmap":
        raise Refusal(errno.EPERM)
