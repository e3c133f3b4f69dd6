"""Forked and executed processes, racing threads, and whoever else answers for missing pages."""

from __future__ import annotations

from refbench.program import (
    Descriptors,
    Expect,
    Fork,
    Map,
    Parallel,
    Repeat,
    Step,
    Threads,
    Touch,
    Unmap,
    Userfault,
)
from refbench.semantics.properties.clean import PAGES, fresh
from refbench.semantics.properties.stores import VALUE, each_page
from refbench.semantics.property import Property

_OTHER = 0x77
"""What somebody else puts into pages that are missing."""
_THREADS = 4
_RACE_PAGES = 1024
_RACES = 6
"""Enough first touches that threads meet inside a fault handler, also when one CPU is all there
is and only the scheduler's tick lets them meet."""


def _child(page_size: int) -> tuple[Step, ...]:
    whole = Expect(0, 0, PAGES * page_size)
    return *fresh(page_size), Touch(0, 0, 8 * page_size, "read", page_size), Fork((whole,))


def _child_store(page_size: int) -> tuple[Step, ...]:
    first, last = 6, 10
    stores = Touch(
        0, first * page_size, (last - first) * page_size, "write", page_size, value=VALUE
    )
    return (
        *fresh(page_size),
        Touch(0, 0, 8 * page_size, "read", page_size),
        Fork((stores, *each_page(page_size, first, last))),
    )


def _parent(page_size: int) -> tuple[Step, ...]:
    size = PAGES * page_size
    return (
        *fresh(page_size),
        Fork(
            child=(Touch(0, size // 2, size // 2, "read", page_size),),
            parent=(Expect(0, 0, size),),
        ),
        Expect(0, 0, size),
    )


def _grandchild(page_size: int) -> tuple[Step, ...]:
    inner = Fork((Expect(0, 0, PAGES * page_size),))
    return *fresh(page_size), Fork((Touch(0, 0, 8 * page_size, "read", page_size), inner))


def _private(page_size: int) -> tuple[Step, ...]:
    size, half = PAGES * page_size, PAGES // 2 * page_size
    return (
        *fresh(page_size),
        Touch(0, 0, half, "read", page_size),
        Fork(
            child=(
                Touch(0, 0, size, "write", page_size, value=VALUE),
                Expect(0, 0, size, VALUE, stride=page_size),
            ),
            parent=(Expect(0, 0, size),),
        ),
        Touch(0, 0, half, "write", page_size, value=VALUE),
        Fork(
            child=(Expect(0, 0, half, VALUE, stride=page_size),),
            parent=(
                Touch(0, 0, half, "write", page_size, value=VALUE + 1),
                Expect(0, 0, half, VALUE + 1, stride=page_size),
            ),
            parent_first=True,
        ),
    )


def _race(page_size: int, body: tuple[Step, ...], after: tuple[Step, ...]) -> tuple[Step, ...]:
    return (
        Repeat(
            _RACES,
            (
                Map(0, _RACE_PAGES * page_size),
                Parallel((Threads(_THREADS, body),)),
                *after,
                Unmap(0),
            ),
        ),
    )


def _threads_read(page_size: int) -> tuple[Step, ...]:
    last = page_size - 1
    lasts = Expect(0, last, (_RACE_PAGES - 1) * page_size + 1, stride=page_size)
    return _race(page_size, (lasts,), ())


def _threads_store(page_size: int) -> tuple[Step, ...]:
    size, quarter = _RACE_PAGES * page_size, page_size // _THREADS
    stores = Touch(0, 0, size, "write", quarter, value=VALUE, shared=True)
    return _race(
        page_size,
        (stores,),
        (Expect(0, 0, size, VALUE, stride=quarter), Expect(0, 1, size - 1, stride=quarter)),
    )


def _executed(page_size: int) -> tuple[Step, ...]:
    loads = Touch(0, 0, 8 * page_size, "read", page_size)
    return (
        *fresh(page_size),
        loads,
        Fork((loads,)),
        *fresh(page_size, region=1),
        Descriptors(),
        Expect(0, 0, PAGES * page_size),
    )


def _userfault(page_size: int) -> tuple[Step, ...]:
    """What is read is far from what is left alone: a file's pages are mapped around a fault."""
    size, half = PAGES * page_size, PAGES // 2
    return (
        *fresh(page_size),
        Touch(0, 0, 8 * page_size, "read", page_size),
        Touch(0, 8 * page_size, 8 * page_size, "write", page_size, value=VALUE),
        Userfault(0, 0, size, _OTHER),
        Expect(0, 0, 8 * page_size),
        *each_page(page_size, 8, half),
        Expect(0, half * page_size, size - half * page_size, _OTHER),
    )


SHARING = (
    Property(
        "fork-child",
        "A forked child reads the pattern in clean pages.",
        "The pattern survives fork in the child.",
        _child,
    ),
    Property(
        "fork-child-store",
        "A forked child's store to a clean page keeps the rest of the page.",
        "The pattern survives fork in the child, also when the first access is a store.",
        _child_store,
    ),
    Property(
        "fork-parent",
        "The parent reads the pattern while the child lives and afterwards.",
        "The pattern survives fork in the parent.",
        _parent,
    ),
    Property(
        "fork-grandchild",
        "A child's child reads the pattern in clean pages.",
        "The pattern survives fork at any depth: zygotes fork processes that fork again.",
        _grandchild,
    ),
    Property(
        "fork-private",
        "Stores of parent and child stay their own.",
        "The pattern survives fork: copy-on-write between parent and child.",
        _private,
    ),
    Property(
        "threads-read",
        "Threads that race on the first touch of a page see nothing but the pattern.",
        "Threads racing on a first touch.",
        _threads_read,
    ),
    Property(
        "threads-store",
        "Threads that race to store in a clean page lose no store.",
        "Threads racing on a first touch, with stores.",
        _threads_store,
    ),
    Property(
        "exec-closes",
        "A program that the process executes inherits no descriptor of the mechanism.",
        "The descriptor is close-on-exec.",
        _executed,
    ),
    Property(
        "userfault",
        "A userfaultfd over the mapping gets the pages nobody touched, and leaves the others.",
        "userfaultfd over a mapping: checkpointing, garbage collection, migration.",
        _userfault,
    ),
)
