"""Who else deals with a process's memory: ``native/agent/userfault.c`` and ``descriptors.c``."""

from __future__ import annotations

import errno
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import kernel_access, storing
from refbench_simulator.mechanisms import userfault
from refbench_simulator.model import forking
from refbench_simulator.model.space import NO_FILE, AddressSpace, Flag, Prot, Pte
from refbench_simulator.process import Process
from refbench_simulator.stamps import Stamp

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Refused(NamedTuple):
    """What the kernel said no to."""

    errno: int
    call: str


def supply(space: AddressSpace, rows: Index, start: int, length: int, value: int) -> Refused | None:
    """A userfaultfd of somebody's own over ``rows``, ``length`` bytes from the address ``start``:
    each missing page gets ``value``. What is not missing is read by the kernel meanwhile."""
    number = _registered(space, rows)
    if number:
        return Refused(number, "UFFDIO_REGISTER")
    closed = _closed(space, rows)
    missing = closed | _missing(space, rows)
    kernel_access.reach(space, rows[~missing], "write")
    here = space.mapped[rows]
    # mfill_atomic() of mm/userfaultfd.c: no VMA, or an entry that is there already.
    bad = missing & (~here | (space.pte[rows] != Pte.NONE))
    count = int(bad.argmax()) if bad.any() else rows.size
    good = rows[:count][missing[:count]]
    if good.size:
        userfault.copy(space, good)
        storing.put(space, good, Stamp(start, length, 1, length, start + length, value))
    if count == rows.size:
        return None
    return Refused(errno.EEXIST if here[count] else errno.ENOENT, "UFFDIO_COPY")


def execute(process: Process) -> None:
    """A forked child executes a program. Every mechanism's descriptors are opened with O_CLOEXEC,
    so that there is nothing to find for it."""
    process.model.before_fork(process.space)
    process.space.machine.system_call()
    child = process.fork()
    forking.end(child.space)
    child.model.exited()


def _registered(space: AddressSpace, rows: Index) -> int:
    """What ``userfaultfd_register()`` of fs/userfaultfd.c says: it takes anonymous memory and
    that of shmem, which has no userfaultfd yet; 0 when it does."""
    mine = rows[space.mapped[rows]]
    if not mine.size:
        return errno.EINVAL
    shmem = np.array([True, *(file.kind == "shmem" for file in space.machine.files)], np.bool_)
    if not (space.anonymous(mine) | shmem[space.file[mine] - NO_FILE]).all():
        return errno.EINVAL
    return errno.EBUSY if ((space.flags[mine] & Flag.UFFD) != 0).any() else 0


def _closed(space: AddressSpace, rows: Index) -> Mask:
    """Pages that the kernel does not read either, for this process."""
    readable = space.mapped[rows] & ((space.prot[rows] & Prot.READ) != 0)
    return np.asarray(~readable, dtype=np.bool_)


def _missing(space: AddressSpace, rows: Index) -> Mask:
    """Pages of which a userfaultfd is told. A file's are not: it has them."""
    return np.asarray((space.pte[rows] == Pte.NONE) & space.anonymous(rows), dtype=np.bool_)
