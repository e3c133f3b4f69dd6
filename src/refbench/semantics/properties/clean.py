"""Clean pages read as the pattern, whoever reads them."""

from __future__ import annotations

from refbench.program import Expect, KernelReads, Map, Settle, Step, Touch
from refbench.program.steps import KernelRead
from refbench.semantics.property import Property

PAGES = 32
"""Small regions: two blocks of ``memfd:block=16``."""


def fresh(page_size: int, region: int = 0, pages: int = PAGES) -> tuple[Step, ...]:
    """A mapping in the state that the mechanism calls clean."""
    return Map(region, pages * page_size), Settle()


def _user(page_size: int) -> tuple[Step, ...]:
    return *fresh(page_size), Expect(0, 0, PAGES * page_size)


def _core(page_size: int) -> tuple[Step, ...]:
    half = PAGES // 2 * page_size
    return (
        *fresh(page_size),
        Touch(0, 0, 1, "write", 1),
        KernelReads(0, half, half, "core"),
    )


def _kernel(via: KernelRead, title: str, answers: str) -> Property:
    def build(page_size: int) -> tuple[Step, ...]:
        return *fresh(page_size), KernelReads(0, 0, PAGES * page_size, via)

    return Property(f"clean-{via}", title, answers, build)


CLEAN = (
    Property(
        "clean-user",
        "Clean pages read as the pattern to user code.",
        "Clean pages read as the pattern.",
        _user,
    ),
    _kernel(
        "write",
        "write(2) from clean pages writes the pattern.",
        "Kernel reads of clean pages: system calls into the range must not fail.",
    ),
    _kernel(
        "direct",
        "A write with O_DIRECT from clean pages writes the pattern.",
        "Kernel reads through GUP: it knows the zero page, and must know the reference page.",
    ),
    _kernel(
        "vmreadv",
        "process_vm_readv finds the pattern in clean pages.",
        "Kernel reads through remote GUP: debuggers, crash handlers, checkpointing.",
    ),
    _kernel(
        "procmem",
        "/proc/PID/mem shows the pattern in clean pages.",
        "Kernel reads through remote GUP with FOLL_FORCE: debuggers.",
    ),
    Property(
        "clean-core",
        "A core dump holds the pattern of clean pages.",
        "Kernel reads with FOLL_DUMP, which leaves out what it takes for holes.",
        _core,
    ),
)
