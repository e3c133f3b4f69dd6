"""The kernel that is modelled: its version and its settings, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refbench.grammar import format_size

Arch = Literal["x86_64", "arm64"]
Release = tuple[int, int]
Thp = Literal["never", "madvise", "always"]

OLDEST: Release = (6, 1)
"""The model has no rules for what came before: VMAs in a maple tree (6.1) and exclusive
anonymous pages (5.19) are taken for granted."""
MEASURED: Release = (6, 18)
"""The newest release that the model was compared with count for count. A newer one is modelled
by the same rules and by what :data:`CHANGES` knows of it."""
UNLIMITED = 1 << 60
"""Bytes of memory under which nothing is ever reclaimed."""
AGENT_VMAS = 13
"""Lines of /proc/PID/maps of the agent that are its own: six of its file and what follows it,
heap, stack, five areas of its making. It is linked statically, so that no library adds any."""


@dataclass(frozen=True, slots=True)
class Change:
    """Behaviour that differs between releases. ``name`` is the property of :class:`Kernel`
    that is true from ``since`` on, or, when ``until`` is given, before it."""

    name: str
    about: str
    source: str
    """The function of Linux that it comes from, with its file."""
    since: Release | None = None
    until: Release | None = None

    def holds(self, release: Release) -> bool:
        """Whether a release behaves so."""
        if self.until is not None:
            return release < self.until
        return self.since is None or release >= self.since


CHANGES: tuple[Change, ...] = (
    Change(
        "handled_userfault_is_major",
        "a userfault that a thread handled counts as a major fault",
        "mm_account_fault() of mm/memory.c looks at FAULT_FLAG_TRIED; from 6.6 on the first try "
        "is under the VMA lock (handle_userfault() of fs/userfaultfd.c), and the second is not "
        "marked",
        until=(6, 6),
    ),
    Change(
        "unprepared_userfault_is_major",
        "the same for a VMA without an anon_vma, that is before its first page",
        "lock_vma_under_rcu() of mm/memory.c left such VMAs to the mmap lock; from 6.10 on "
        "vmf_anon_prepare() decides",
        until=(6, 10),
    ),
    Change(
        "drops_unused_parts",
        "a huge page that is broken up leaves the zero page where it held only zeroes",
        "try_to_map_unused_to_zeropage() of mm/migrate.c",
        since=(6, 12),
    ),
    Change(
        "huge_zero_write_allocates",
        "a store to the huge zero page allocates a huge page; before, the entry was split",
        "do_huge_zero_wp_pmd() of mm/huge_memory.c",
        since=(6, 13),
    ),
    Change(
        "splits_vvar",
        "x86_64 maps [vvar_vclock] beside [vvar]: a VMA more in every process",
        "map_vdso() of arch/x86/entry/vdso/vma.c",
        since=(6, 13),
    ),
    Change(
        "reclaims_tables_x86_64",
        "MADV_DONTNEED gives the tables back that it covers whole (CONFIG_PT_RECLAIM)",
        "zap_pte_range() of mm/memory.c",
        since=(6, 14),
    ),
    Change(
        "reuses_huge_parts",
        "a page of a split huge page that no other process has any part of is made writable",
        "__wp_can_reuse_large_anon_folio() of mm/memory.c",
        since=(6, 15),
    ),
    Change(
        "merges_untouched",
        "a VMA that has pages merges into an anonymous neighbour that never had any",
        "is_mergeable_anon_vma() of mm/vma.c",
        since=(6, 16),
    ),
    Change(
        "moves_many_vmas",
        "mremap(2) moves a range of several VMAs; EFAULT before",
        "remap_move() of mm/mremap.c",
        since=(6, 17),
    ),
    Change(
        "collapses_read_only",
        "MADV_COLLAPSE takes ranges without a writable entry; EINVAL before",
        "hpage_collapse_scan_pmd() of mm/khugepaged.c",
        since=(6, 18),
    ),
    Change(
        "reclaims_tables_arm64",
        "as reclaims_tables_x86_64, on every architecture with RCU-freed tables",
        "PT_RECLAIM of mm/Kconfig",
        since=(7, 0),
    ),
)
_CHANGES = {change.name: change for change in CHANGES}


def special_vmas(release: Release, arch: Arch, *, vsyscall: bool) -> int:
    """Lines of /proc/PID/maps that the kernel adds to a process of ``arch``.

    ``[vvar]`` and ``[vdso]`` everywhere; x86_64 has ``[vvar_vclock]`` beside them from 6.13 on
    and, unless booted with ``vsyscall=none``, ``[vsyscall]``.
    """
    if arch == "arm64":
        return 2
    return 2 + _CHANGES["splits_vvar"].holds(release) + vsyscall


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the model depends on. The defaults are those of a stock x86_64 machine."""

    release: Release = (6, 18)
    arch: Arch = "x86_64"
    page_size: int = 4096
    fault_around: int = 65536
    """``fault_around_bytes`` of debugfs; what it is rounded to is :attr:`around`."""
    thp: Thp = "madvise"
    max_map_count: int = 65530
    """``vm.max_map_count``; the default is DEFAULT_MAX_MAP_COUNT of include/linux/mm.h."""
    memory: int = UNLIMITED
    """Bytes that pages may take before the kernel reclaims; the default: no pressure."""
    swap: int = 0
    """Bytes of swap."""
    ksm: bool = True
    """Whether ksmd runs for cells that offer it pages."""
    privileged: bool = True
    """Whether the modelled process has CAP_SYS_PTRACE: its userfaultfd may serve faults of the
    kernel and may ask for fork events."""
    own_vmas: int = AGENT_VMAS + 4
    """Lines of /proc/PID/maps of the modelled process before a program maps anything."""
    unprivileged_userfaultfd: bool = False
    """``vm.unprivileged_userfaultfd``, or a /dev/userfaultfd that the process may open: faults
    of the kernel are served without CAP_SYS_PTRACE too, fork events are not."""
    vsyscall: bool = True
    """Whether ``[vsyscall]`` is among :attr:`own_vmas`: a line, but no VMA of the process."""
    pt_reclaim: bool | None = None
    """CONFIG_PT_RECLAIM where it is known, else what the release and architecture default to."""

    @property
    def entries(self) -> int:
        """Entries of a page table page: eight bytes each."""
        return self.page_size // 8

    @property
    def around(self) -> int:
        """Pages that one fault of a file mapping maps at most: a power of two, as
        ``fault_around_bytes_set()`` of mm/memory.c rounds it, and one means no fault-around."""
        pages = min(max(1, self.fault_around // self.page_size), self.entries)
        return 1 << (pages.bit_length() - 1)

    @property
    def huge(self) -> int:
        """Pages of a huge page that one PMD entry maps."""
        return self.entries

    @property
    def counted_vmas(self) -> int:
        """Those of :attr:`own_vmas` that ``vm.max_map_count`` counts (``mm->map_count``)."""
        return self.own_vmas - self.vsyscall

    @property
    def serves_kernel_faults(self) -> bool:
        """Whether a userfaultfd serves faults of the kernel; else it is opened with
        UFFD_USER_MODE_ONLY (``userfaultfd_syscall_allowed()`` of fs/userfaultfd.c)."""
        return self.privileged or self.unprivileged_userfaultfd

    @property
    def reclaims_tables(self) -> bool:
        """Whether MADV_DONTNEED gives whole page tables back."""
        if self.pt_reclaim is not None:
            return self.pt_reclaim
        return self.does(f"reclaims_tables_{self.arch}")

    @property
    def handled_userfault_is_major(self) -> bool:
        """See :data:`CHANGES`."""
        return self.does("handled_userfault_is_major")

    @property
    def unprepared_userfault_is_major(self) -> bool:
        """See :data:`CHANGES`."""
        return self.does("unprepared_userfault_is_major")

    @property
    def splits_vvar(self) -> bool:
        """See :data:`CHANGES`."""
        return self.arch == "x86_64" and self.does("splits_vvar")

    @property
    def merges_untouched(self) -> bool:
        """See :data:`CHANGES`."""
        return self.does("merges_untouched")

    @property
    def moves_many_vmas(self) -> bool:
        """See :data:`CHANGES`."""
        return self.does("moves_many_vmas")

    @property
    def drops_unused_parts(self) -> bool:
        """See :data:`CHANGES`."""
        return self.does("drops_unused_parts")

    @property
    def huge_zero_write_allocates(self) -> bool:
        """See :data:`CHANGES`."""
        return self.does("huge_zero_write_allocates")

    @property
    def reuses_huge_parts(self) -> bool:
        """See :data:`CHANGES`."""
        return self.does("reuses_huge_parts")

    @property
    def collapses_read_only(self) -> bool:
        """See :data:`CHANGES`."""
        return self.does("collapses_read_only")

    @property
    def version(self) -> str:
        """The release as text: ``6.18``."""
        return f"{self.release[0]}.{self.release[1]}"

    def does(self, name: str) -> bool:
        """Whether its release behaves as the change of that name says."""
        return _CHANGES[name].holds(self.release)

    def __str__(self) -> str:
        return f"Linux {self.version}, {self.arch}, pages of {format_size(self.page_size)}"
