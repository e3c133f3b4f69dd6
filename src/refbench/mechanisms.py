"""The mechanisms: their options, and the C files that implement them.

No stock kernel carries those of reference pages; ``refbench kernel build`` makes one that does.
The last three serve only programs that a workload executes: see :mod:`refbench.allocators`.
"""

from __future__ import annotations

from pathlib import Path

from refbench.grammar import Option
from refbench.semantics.expected import EXPECTED
from refbench.words import Mechanism

_SOURCES = Path(__file__).resolve().parent / "native" / "mechanisms"
_MOST_PAGES = 1 << 28


def _sources(*names: str) -> tuple[Path, ...]:
    return tuple(_SOURCES / f"{name}.c" for name in names)


_ATFORK = Option(
    "atfork",
    "bool",
    False,
    "a forked child opens a userfaultfd of its own and registers its ranges anew",
)

MECHANISMS: tuple[Mechanism, ...] = (
    Mechanism(
        "anon",
        "clean anonymous memory, never filled: the baseline without a pattern",
        sources=_sources("anon"),
        expected=EXPECTED.get("anon", {}),
        populates="store",
        applies_pattern=False,
    ),
    Mechanism(
        "memset",
        "anonymous memory, filled when it is mapped",
        sources=_sources("memset"),
        expected=EXPECTED.get("memset", {}),
        populates="map",
    ),
    Mechanism(
        "memfd",
        "a small sealed memfd mapped privately again and again over the range",
        options=(
            Option(
                "block",
                "int",
                1,
                "pages in the memfd; a mapping takes size / block calls and VMAs",
                minimum=1,
                maximum=_MOST_PAGES,
            ),
            Option(
                "huge",
                "size",
                0,
                "size of the huge pages to build it from, 0 for base pages; "
                "block then counts huge pages",
                minimum=0,
                maximum=2 << 20,
                multiple=2 << 20,
            ),
            Option(
                "reserve",
                "bool",
                False,
                "keep the range from other threads by a PROT_NONE mapping before the blocks go in",
            ),
        ),
        sources=_sources("memfd", "sealed"),
        expected=EXPECTED.get("memfd", {}),
        populates="store",
    ),
    Mechanism(
        "memfd-full",
        "a sealed memfd as large as the mapping, filled when it is mapped",
        sources=_sources("memfd_full", "sealed"),
        expected=EXPECTED.get("memfd-full", {}),
        populates="map",
    ),
    Mechanism(
        "uffd",
        "userfaultfd with a handler thread that copies each page on its first touch",
        options=(
            Option(
                "events",
                "choice",
                "none",
                "fork: the handler thread also serves forked children (needs CAP_SYS_PTRACE)",
                choices=("none", "fork"),
            ),
            _ATFORK,
        ),
        sources=_sources("uffd", "userfault", "ranges"),
        expected=EXPECTED.get("uffd", {}),
    ),
    Mechanism(
        "uffd-sigbus",
        "userfaultfd that raises SIGBUS, whose handler copies the page in the faulting thread",
        options=(_ATFORK,),
        sources=_sources("uffd_sigbus", "userfault", "ranges", "signals"),
        expected=EXPECTED.get("uffd-sigbus", {}),
        owns_signals=True,
    ),
    Mechanism(
        "segv",
        "inaccessible memory and a SIGSEGV handler that opens each page, then fills it",
        sources=_sources("segv", "ranges", "signals"),
        expected=EXPECTED.get("segv", {}),
        owns_signals=True,
    ),
    Mechanism(
        "ksm",
        "anonymous memory, filled when it is mapped, that samepage merging may share",
        sources=_sources("ksm"),
        expected=EXPECTED.get("ksm", {}),
        populates="map",
    ),
    Mechanism(
        "refpage",
        "refpage_create(2): clean pages show a page that the kernel keeps behind a descriptor",
        sources=_sources("refpage", "reference_file", "sealed"),
        expected=EXPECTED.get("refpage", {}),
        populates="store",
    ),
    Mechanism(
        "refpage-mmap",
        "mmap(2) with MAP_REFPAGE: clean pages show a page of the process's own",
        sources=_sources("refpage_mmap"),
        expected=EXPECTED.get("refpage-mmap", {}),
        populates="store",
    ),
    Mechanism(
        "refpage-dev",
        "a private mapping of /dev/refpage: a device whose every page is the same one",
        options=(
            Option(
                "handler",
                "choice",
                "safe",
                "its fault handler; naive: returns the page, which counts each entry; "
                "safe: special entries, which no count knows",
                choices=("naive", "safe"),
            ),
        ),
        sources=_sources("refpage_dev", "reference_file", "sealed"),
        expected=EXPECTED.get("refpage-dev", {}),
        populates="store",
    ),
    Mechanism(
        "memset-malloc",
        "anonymous memory, filled when malloc hands it out, as shipping allocators do it",
        sources=_sources("memset_malloc"),
        expected=EXPECTED.get("memset-malloc", {}),
        only_executed=True,
    ),
    Mechanism(
        "scudo",
        "the allocator Scudo as Debian has it: a reference from outside",
        options=(
            Option(
                "fill",
                "choice",
                "none",
                "what it fills memory with that it hands out; its pattern is 0xAB",
                choices=("none", "zero", "pattern"),
            ),
        ),
        applies_pattern=False,
        only_executed=True,
    ),
    Mechanism(
        "glibc",
        "the C library's own malloc: a reference from outside",
        options=(
            Option(
                "perturb",
                "bool",
                False,
                "fill what is handed out with the pattern, and what is freed with its complement",
            ),
        ),
        applies_pattern=False,
        only_executed=True,
    ),
)
"""Every mechanism that refbench itself brings."""
