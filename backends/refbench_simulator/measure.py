"""What a kernel tells nobody, found by looking at what it does to memory of our own.

``fault_around_bytes`` is in debugfs, which is root's; a kernel's configuration is in no fixed
place. Both show in the counters of a process that any user may read of itself.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path

MOST_AROUND = 4 << 20
"""Bytes. More than this is measured as this: the kernel maps at most what one page table holds,
2 MiB with pages of 4 KiB, and its default is 64 KiB."""
_TABLES = 4
"""Page tables that are emptied to see whether they are given back."""
_NORESERVE = 0x4000
"""MAP_NORESERVE on x86_64 and arm64; Python names it from 3.13 on."""
_NAME = "refbench-around"


def fault_around(page: int) -> int | None:
    """How many bytes one read fault of a file mapping maps; ``page`` in bytes. ``None`` where
    it cannot be seen.

    A file in memory is filled, mapped again, and read in one place, at an address that is
    aligned as ``do_fault_around()`` of mm/memory.c aligns; the RSS of that mapping is the answer.
    """
    span = min(page * (page // 8), MOST_AROUND)
    size = 2 * span
    try:
        file = os.memfd_create(_NAME)
    except OSError:
        return None
    try:
        os.ftruncate(file, size)
        with mmap.mmap(file, size) as filled:
            _no_huge_pages(filled)
            for at in range(0, size, page):
                filled[at] = 1
            with mmap.mmap(file, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as view:
                _no_huge_pages(view)
                start, before = _of_view()
                touched = view[-start % span]
                _, after = _of_view()
                return after - before if touched == 1 and after > before else None
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


def reclaims_tables(page: int) -> bool | None:
    """Whether MADV_DONTNEED gives the page tables back that it empties (CONFIG_PT_RECLAIM);
    ``page`` in bytes. ``None`` where it cannot be seen.

    One page is touched under each of several page tables and dropped again; VmPTE says what
    became of the tables.
    """
    span = page * (page // 8)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    try:
        with mmap.mmap(-1, (_TABLES + 1) * span, flags=flags) as area:
            _no_huge_pages(area)
            before = _page_tables()
            for at in range(0, len(area), span):
                area[at] = 1
            touched = _page_tables()
            area.madvise(mmap.MADV_DONTNEED)
            left = _page_tables()
    except (OSError, ValueError):
        return None
    made = (touched - before) // page
    if made < _TABLES:
        return None
    # The two at the ends are covered in part when the area does not start at a table's edge.
    return (touched - left) // page >= _TABLES - 1


def _no_huge_pages(area: mmap.mmap) -> None:
    """Also keeps the file's own pages small: shmem asks the mapping that faults them in."""
    with contextlib.suppress(OSError):  # a kernel without huge pages does not know the advice
        area.madvise(mmap.MADV_NOHUGEPAGE)


def _of_view() -> tuple[int, int]:
    """Start and RSS, in bytes, of the read-only mapping of our file."""
    start = -1
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        if _NAME in line and " r--p " in line:
            start = int(line.partition("-")[0], 16)
        elif start >= 0 and line.startswith("Rss:"):
            return start, int(line.split()[1]) << 10
    raise ValueError("the mapping is not in /proc/self/smaps")


def _page_tables() -> int:
    """VmPTE of this process in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmPTE:"):
            return int(line.split()[1]) << 10
    raise ValueError("no VmPTE in /proc/self/status")
