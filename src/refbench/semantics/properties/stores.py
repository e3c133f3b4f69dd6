"""The first store copies, whoever stores, and touches nothing else."""

from __future__ import annotations

from refbench.program import Expect, KernelWrites, Step, Touch
from refbench.program.steps import KernelWrite
from refbench.semantics.properties.clean import PAGES, fresh
from refbench.semantics.property import Property

VALUE = 0x66
"""What the programs store; neither zero nor the default pattern."""


def around(page_size: int, offset: int, length: int, region: int = 0) -> tuple[Step, ...]:
    """``VALUE`` in a range, and the pattern in the rest of a small region."""
    end = offset + length
    return (
        Expect(region, offset, length, VALUE),
        Expect(region, 0, offset),
        Expect(region, end, PAGES * page_size - end),
    )


def each_page(page_size: int, first: int, last: int) -> tuple[Step, ...]:
    """The pattern in all bytes but the first of pages ``first`` to ``last - 1``."""
    return tuple(Expect(0, page * page_size + 1, page_size - 1) for page in range(first, last))


def _store(page_size: int) -> tuple[Step, ...]:
    at = 3 * page_size + 100
    return (
        *fresh(page_size),
        *fresh(page_size, region=1),
        Touch(0, at, 1, "write", 1, value=VALUE),
        *around(page_size, at, 1),
        Expect(1, 0, PAGES * page_size),
        *fresh(page_size, region=2),
        Expect(2, 0, PAGES * page_size),
    )


def _read_then_write(page_size: int) -> tuple[Step, ...]:
    size = PAGES * page_size
    return (
        *fresh(page_size),
        Touch(0, 0, size, "readwrite", page_size, value=VALUE),
        Expect(0, 0, size, VALUE, stride=page_size),
        *each_page(page_size, 0, PAGES),
    )


def _kernel(via: KernelWrite, title: str) -> Property:
    def build(page_size: int) -> tuple[Step, ...]:
        at, length = 2 * page_size + 100, 3 * page_size
        return (
            *fresh(page_size),
            KernelWrites(0, at, length, via, VALUE),
            *around(page_size, at, length),
        )

    return Property(
        f"stored-by-{via}",
        title,
        "Kernel writes copy first; the rest of the first and last page keeps the pattern.",
        build,
    )


STORES = (
    Property(
        "store-copies",
        "The first store copies its page: neighbours and other mappings stay clean.",
        "The first store copies, neighbours stay clean.",
        _store,
    ),
    Property(
        "read-then-write",
        "A store to a page that was read before keeps the rest of the page.",
        "Read then write: the copy is made from the page that the read had mapped.",
        _read_then_write,
    ),
    _kernel("read", "read(2) into clean pages stores there and nowhere else."),
    _kernel("vmwritev", "process_vm_writev into clean pages stores there and nowhere else."),
    _kernel("procmem", "A write to /proc/PID/mem stores there and nowhere else."),
)
