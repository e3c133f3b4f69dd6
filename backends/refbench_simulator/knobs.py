"""The kernel that is modelled: its version and its settings, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refbench.grammar import format_size

Thp = Literal["never", "madvise", "always"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the model depends on. The defaults are those of a stock x86_64 machine."""

    release: tuple[int, int] = (6, 18)
    arch: Literal["x86_64", "arm64"] = "x86_64"
    page_size: int = 4096
    fault_around: int = 65536
    """``fault_around_bytes`` of debugfs, rounded down to a power of two of pages, at least one."""
    thp: Thp = "madvise"
    max_map_count: int = 65530
    """``vm.max_map_count``; the default is DEFAULT_MAX_MAP_COUNT of include/linux/mm.h."""
    memory: int = 1 << 60
    """Bytes that pages may take before the kernel reclaims; the default: no pressure."""
    swap: int = 0
    """Bytes of swap."""
    ksm: bool = True
    privileged: bool = True
    """Whether the modelled process may handle kernel faults and fork events of userfaultfd."""
    own_vmas: int = 20
    """VMAs of the modelled process itself, before a program maps anything."""

    @property
    def entries(self) -> int:
        """Entries of a page table page: eight bytes each."""
        return self.page_size // 8

    @property
    def around(self) -> int:
        """Pages that one fault of a file mapping maps at most."""
        return max(1, self.fault_around // self.page_size)

    @property
    def huge(self) -> int:
        """Pages of a huge page that one PMD entry maps."""
        return self.entries

    @property
    def reclaims_tables(self) -> bool:
        """Whether MADV_DONTNEED gives whole page tables back: CONFIG_PT_RECLAIM, x86, 6.14."""
        return self.release >= (6, 14) and self.arch == "x86_64"

    @property
    def handled_userfault_is_major(self) -> bool:
        """Whether a userfault that a thread handled counts as a major fault.

        ``mm_account_fault()`` of mm/memory.c looks at FAULT_FLAG_TRIED; with faults under the
        VMA lock (6.7) the first try is not marked.
        """
        return self.release < (6, 7)

    @property
    def moves_many_vmas(self) -> bool:
        """Whether mremap(2) moves a range of several VMAs (6.17)."""
        return self.release >= (6, 17)

    def __str__(self) -> str:
        return f"Linux {self.release[0]}.{self.release[1]}, pages of {format_size(self.page_size)}"
