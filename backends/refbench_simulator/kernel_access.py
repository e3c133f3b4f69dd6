"""The kernel's own accesses to a process's memory: ``native/agent/kernel_access.c``, ``core.c``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench.errors import KernelFault
from refbench.program.steps import KernelRead, KernelWrite
from refbench_simulator.comparing import Bytes, Wrong
from refbench_simulator.model import faults, forking
from refbench_simulator.model.machine import Machine, Trapped
from refbench_simulator.model.space import NO_FILE, AddressSpace, Flag, Prot, Pte
from refbench_simulator.process import Process

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

_EFAULT, _EIO, _EEXIST = 14, 5, 17
_PIECE = 1 << 20
"""PIECE of kernel_access.c: bytes that are passed by one system call at most."""
_PINNED = frozenset({"direct", "vmreadv", "vmwritev", "procmem"})
"""Ways that take references to pages (GUP), which a special entry does not have."""
_LONG = frozenset({"direct", "vmreadv"})
"""Those that pin (FOLL_PIN) what they read; /proc/PID/mem only looks (FOLL_GET)."""


@dataclass(frozen=True, slots=True)
class Core:
    """A core file: rows whose pages it has, rows in whose place it has holes, which read as
    zeroes, and rows that it leaves out."""

    space: AddressSpace
    pages: Index
    holes: Index
    left_out: Index

    def absent(self, start: int, end: int, page: Bytes) -> Wrong:
        """What it leaves out of a range, whose rows are all here.

        ``check_missing()`` of check.c: all these bytes are wrong, whatever is wanted.
        """
        rows, columns, size = self.left_out, self.space.rows, self.space.rows.page_size
        if not rows.size:
            return Wrong(0)
        # The first and the last page of the range may be wanted in part only.
        first, last = int(columns.page[rows[0]]) * size, int(columns.last[rows].max()) * size
        count = int(columns.weight[rows].sum()) * size
        count -= max(0, start - first) + max(0, last - end)
        address = max(start, first)
        return Wrong(count, address, 0, int(page[address % size]))


def refusal(space: AddressSpace, left: Index, via: KernelRead | KernelWrite) -> int:
    """The errno when not one byte of the rows ``left`` was passed.

    ``mem_rw()`` of fs/proc/base.c says EIO whatever it was. A page that GUP finds an entry for,
    but none behind it, is EEXIST (``follow_pfn_pte()``), which process_vm_rw_single_vec() of
    mm/process_vm_access.c does not pass on.
    """
    if via == "procmem":
        return _EIO
    bare = via == "direct" and left.size and _bare(space, left[:1]).any()
    return _EEXIST if bare else _EFAULT


def reach(
    space: AddressSpace, rows: Index, via: KernelRead | KernelWrite, *, store: bool = False
) -> int:
    """The kernel faults ``rows`` in and accesses them; how many, up to the first that it cannot.

    No signal is raised and no handler of one runs. /proc/PID/mem passes over the permissions of
    private mappings (FOLL_FORCE, ``check_vma_flags()`` of mm/gup.c).
    """
    closed = _out_of_reach(space, rows, via)
    allowed = space.mapped[rows].copy()
    if via != "procmem":
        allowed &= (space.prot[rows] & (Prot.WRITE if store else Prot.READ)) != 0
    good = rows[: _leading(allowed & ~closed)]
    if good.size < rows.size and allowed[good.size]:
        faults.fail_missing(space, int(rows[good.size]), store=store)
    if store and via == "procmem":
        _refuse_closed(space, good)
    wanted = good if store or via not in _PINNED else good[: _until_bare(space, good)]
    try:
        faults.touch(space, wanted, store=store)
    except Trapped as trapped:
        good = good[: int((good == trapped.row).argmax())]
    if store:
        # maybe_mkwrite(): an entry is no more writable than its VMA.
        space.writable[good] &= (space.prot[good] & Prot.WRITE) != 0
    elif via in _PINNED:
        good = good[: _leading(~_bare(space, good))]
        if via in _LONG:
            faults.unshare(space, good)
    space.note_peak()
    return int(good.size)


def stop(
    machine: Machine, rows: Index, good: int, via: KernelRead | KernelWrite, start: int, end: int
) -> int:
    """The address behind the last byte that was passed, of those from ``start`` to ``end``.

    A write past the page cache fails as a whole when one page of it cannot be had: the error of
    any part is the error of all (``iomap_dio_complete()`` of fs/iomap/direct-io.c).
    """
    if good == rows.size:
        return end
    passed = max(0, int(machine.rows.page[rows[good]]) * machine.kernel.page_size - start)
    return start + (passed - passed % _PIECE if via == "direct" else passed)


@contextmanager
def dump_core(process: Process, rows: Index) -> Iterator[Core]:
    """A forked child dumps core; ``rows`` are looked for in the file.

    ``vma_dump_size()`` of fs/coredump.c, with the default filter: VMAs that have an anon_vma or
    a reference page, whole. ``get_dump_page()`` gives no page (FOLL_DUMP) for what anonymous
    memory does not have yet, nor for special entries, the zero page's among them; but what shows a
    reference page is faulted in and dumped. A device's driver is asked first.
    """
    process.model.before_fork(process.space)
    process.space.machine.system_call()
    child = process.fork()
    child.model.after_fork_child(child.space)
    space = child.space
    refers = (space.flags[rows] & Flag.REFERENCE) != 0
    dumped = space.mapped[rows] & ((space.anon_vma[rows] > 0) | refers)
    bare = space.anonymous(rows) | space.special(rows) | _behind_end(space, rows)
    absent = (space.pte[rows] == Pte.NONE) & bare & ~refers
    absent |= (space.pte[rows] == Pte.ZERO) | _bare(space, rows)
    there = rows[dumped & ~absent]
    faults.touch(space, there, store=False)
    yield Core(space, there, rows[dumped & absent], rows[~dumped])
    forking.end(space)
    child.model.exited()


def _out_of_reach(space: AddressSpace, rows: Index, via: KernelRead | KernelWrite) -> Mask:
    """Pages that only the process itself can fault in: ``handle_userfault()``.

    A userfaultfd that raises SIGBUS, or one for user mode only, hands no fault of the kernel on;
    and /proc/PID/mem cannot wait for an answer (``get_user_page_vma_remote()`` of
    include/linux/mm.h gives up no lock).
    """
    missing: Mask = (space.pte[rows] == Pte.NONE) & ((space.flags[rows] & Flag.UFFD) != 0)
    if not missing.any():
        return missing
    machine = space.machine
    served = machine.kernel.serves_kernel_faults and via != "procmem"
    closed = np.array([not (found.by_thread and served) for found in machine.userfaults])
    return np.asarray(missing & closed[space.ctx[rows] - 1], dtype=np.bool_)


def _bare(space: AddressSpace, rows: Index) -> Mask:
    """Entries without a page that GUP could give: ``follow_pfn_pte()`` of mm/gup.c. It knows the
    zero page and, with the patches, a mapping's reference page, but none of a device's driver."""
    shown = space.pte[rows] == Pte.REFERENCE
    return np.asarray(shown & ((space.flags[rows] & Flag.MIXEDMAP) != 0), dtype=np.bool_)


def _refuse_closed(space: AddressSpace, rows: Index) -> None:
    """``__wp_page_copy_user()`` copies what only a driver knows through the address, which fails
    where the process itself may not read: the kernel warns of it and clears the page.

    :raises KernelFault: as the guard of a guest does.
    """
    if (_bare(space, rows) & ((space.prot[rows] & Prot.READ) == 0)).any():
        raise KernelFault(
            "The kernel of the model reported a fault (WARNING): a forced store to a page that is "
            "closed to the process, and that only a driver knows, loses its content.",
            log=("WARNING: at mm/memory.c do_wp_page()",),
            remedy="Use refpage, whose page the kernel knows.",
        )


def _until_bare(space: AddressSpace, rows: Index) -> int:
    """How many GUP looks at: up to the first that has such an entry, or gets one by its fault."""
    kinds = space.pte[rows]
    bare = (kinds == Pte.NONE) | (kinds == Pte.REFERENCE)
    bare &= (space.flags[rows] & Flag.MIXEDMAP) != 0
    return int(bare.argmax()) + 1 if bare.any() else int(rows.size)


def _behind_end(space: AddressSpace, rows: Index) -> Mask:
    sizes = np.array([0, *(file.pages for file in space.machine.files)], np.int64)
    return np.asarray(space.pgoff[rows] >= sizes[space.file[rows] - NO_FILE], dtype=np.bool_)


def _leading(good: Mask) -> int:
    """How many are good up to the first that is not."""
    return int(good.size) if good.all() else int(good.argmin())
