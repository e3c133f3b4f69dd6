"""The modelled machine: its kernel's settings, its pages, its files, its processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refbench_simulator import rules
from refbench_simulator.content import PATTERN, ZERO, Contents
from refbench_simulator.knobs import Kernel
from refbench_simulator.model.events import Ledger
from refbench_simulator.model.folios import Folios
from refbench_simulator.model.ksm import Merging
from refbench_simulator.model.space import AddressSpace, Resolve
from refbench_simulator.model.tables import Layout
from refbench_simulator.rows import Rows


class Refusal(Exception):
    """A system call that the modelled kernel refuses; ``errno`` says why."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Trapped(Exception):
    """An access that ends in a signal which nobody resolves."""

    signal: Literal["SIGSEGV", "SIGBUS"]
    row: int


ENDLESS = 1 << 62
"""Pages of a device, which has one wherever it is mapped."""


@dataclass(slots=True)
class File:
    """A file that mechanisms map."""

    pages: int
    """Its size. A page behind it faults with SIGBUS."""
    kind: Literal["shmem", "device", "special"] = "shmem"
    """``shmem`` counts in RssShmem; ``device`` in RssFile, one page a fault; ``special`` is shown
    by special entries, which count nowhere. The pages of the latter two are the kernel's own."""
    single: bool = False
    """Whether every page of it is the same one."""
    allocated: int = 0
    """Pages of memory that it holds itself."""
    repeats: bool = False
    """Whether the copies of a folded row all show the same pages of it."""
    content: int = PATTERN
    out: set[int] = field(default_factory=set)
    """Runs of pages, by the first of each, that are in swap."""
    away: int = 0
    """Pages of :attr:`allocated` that are in swap."""
    seen: dict[int, int] = field(default_factory=dict)
    """When a run was accessed last, where memory is limited."""
    users: int = 1
    """Open descriptors. VMAs keep it, too."""
    gone: bool = False
    """Whether nothing keeps it any more."""
    entries: int = 0
    """Entries of all processes that show its pages."""


@dataclass(slots=True)
class Counters:
    """What the kernel and the mechanism count, from the beginning."""

    minor: int = 0
    major: int = 0
    syscalls: int = 0
    sigbus: int = 0
    sigsegv: int = 0
    messages: int = 0


@dataclass(slots=True)
class Userfault:
    """An open userfaultfd."""

    resolve: Resolve | None
    """Who copies pages for it: a handler thread, or nobody yet."""
    by_thread: bool = True
    """False: the faulting thread gets SIGBUS, and the kernel's own accesses fail."""
    follows_forks: bool = False
    """UFFD_FEATURE_EVENT_FORK"""
    owner: object = None
    """Whose handler it is."""
    gone: bool = False
    """Whether it was of a process that has ended."""


@dataclass(slots=True)
class Machine:
    """Everything that the processes of one program share."""

    kernel: Kernel
    rows: Rows
    contents: Contents
    layout: Layout
    ledger: Ledger = field(default_factory=Ledger)
    folios: Folios = field(default_factory=Folios)
    files: list[File] = field(default_factory=list)
    spaces: list[AddressSpace] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    userfaults: list[Userfault] = field(default_factory=list)
    merging: Merging = field(default_factory=Merging)
    next_anon_vma: int = 1
    disordered: bool = False
    """Whether a touch goes on whose rows are not in the order of its places; what depends on
    that order raises :class:`~refbench_simulator.detail.Finer`."""
    peak: int = 0

    def system_call(self, count: int = 1, what: str = "") -> None:
        """The program or its mechanism enters the kernel; ``what`` names the call."""
        self.counters.syscalls += count
        self.ledger.add(rules.SYSCALL, what=what, syscall=count)

    def new_anon_vmas(self, count: int) -> NDArray[np.int32]:
        """Numbers of ``anon_vma`` structures that nothing else has."""
        first = self.next_anon_vma
        self.next_anon_vma += count
        return np.arange(first, first + count, dtype=np.int32)

    def open_file(self, file: File) -> int:
        """Its number: that of a file that is gone, where there is one."""
        for number, old in enumerate(self.files):
            if old.gone:
                self.files[number] = file
                return number
        self.files.append(file)
        return len(self.files) - 1

    def file_contents(self) -> NDArray[np.int32]:
        """What the pages of each file hold; entry 0 is for memory without one."""
        return np.array([ZERO, *(file.content for file in self.files)], np.int32)

    def close_file(self, number: int) -> None:
        """A descriptor is closed."""
        self.files[number].users -= 1
        self.drop_unused(np.array([number]))

    def drop_unused(self, numbers: NDArray[np.int32] | NDArray[np.int64]) -> None:
        """Free the pages of those files that no descriptor and no VMA keeps any more:
        ``shmem_evict_inode()``."""
        for number in np.unique(numbers[numbers >= 0]).tolist():
            file = self.files[number]
            if file.users > 0 or not file.allocated:
                continue
            if any((space.mapped & (space.file == number)).any() for space in self.spaces):
                continue
            self.ledger.add(
                rules.DROP,
                drop=file.allocated if file.kind == "shmem" else 0,
                free=file.allocated,
            )
            file.gone = True
            file.allocated = file.away = 0
            file.out.clear()

    def open_userfault(self, userfault: Userfault) -> int:
        """Its number, from 1: that of one that is gone, where there is one."""
        for number, old in enumerate(self.userfaults, 1):
            if old.gone:
                self.userfaults[number - 1] = userfault
                return number
        self.userfaults.append(userfault)
        return len(self.userfaults)

    def heir(self, number: int) -> int:
        """The userfaultfd that a forked child's VMAs get for their parent's, 0 for none:
        ``dup_userfaultfd()``."""
        parent = self.userfaults[number - 1]
        if not parent.follows_forks:
            return 0
        return self.open_userfault(
            Userfault(
                parent.resolve,
                by_thread=parent.by_thread,
                follows_forks=True,
                owner=parent.owner,
            )
        )

    def first_space(self) -> AddressSpace:
        """The address space of the process that runs the program."""
        space = AddressSpace(self)
        self.spaces.append(space)
        return space
