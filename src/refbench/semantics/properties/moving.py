"""mremap, mprotect, munmap, neighbours."""

from __future__ import annotations

from refbench.program import Expect, MapAnonymous, Measure, Protect, Remap, Step, Touch, Unmap
from refbench.semantics.properties.clean import PAGES, fresh
from refbench.semantics.properties.stores import VALUE, around, each_page
from refbench.semantics.property import Exhibit, Finding, Property, first_failure
from refbench.words import Verdict


def _remap_move(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        *fresh(page_size),
        Touch(0, 3 * page_size, 1, "write", 1, value=VALUE),
        Touch(0, page_size, 1, "read", 1),
        Remap(0, 0, whole, target=1),
        *around(page_size, 3 * page_size, 1, region=1),
    )


def _remap_grow(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        *fresh(page_size),
        Remap(0, 0, whole, target=1, new_length=2 * whole),
        Expect(1, 0, whole),
        Expect(1, whole, whole),
    )


def _protect(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        *fresh(page_size),
        Touch(0, 0, 4 * page_size, "read", page_size),
        Protect(0, 0, whole, "none"),
        Protect(0, 0, whole, "read"),
        Expect(0, 0, whole // 2),
        Protect(0, 0, whole, "readwrite"),
        Expect(0, 0, whole),
        Touch(0, 0, whole, "write", page_size, value=VALUE),
        Expect(0, 0, whole, VALUE, stride=page_size),
        *each_page(page_size, 0, PAGES),
    )


def _unmap_partial(page_size: int) -> tuple[Step, ...]:
    quarter = PAGES // 4 * page_size
    return (
        *fresh(page_size),
        Touch(0, 0, 2 * page_size, "read", page_size),
        Unmap(0, quarter, quarter),
        Expect(0, 0, quarter),
        Expect(0, 2 * quarter, 2 * quarter),
    )


def _neighbour_content(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        *fresh(page_size),
        MapAnonymous(1, whole, after=0),
        Touch(0, whole - page_size, 1, "write", 1, value=VALUE),
        Touch(1, 0, 1, "write", 1, value=VALUE),
        Expect(0, 0, whole - page_size),
        Expect(0, whole - page_size + 1, page_size - 1),
        Expect(1, 1, whole - 1, "zero"),
    )


def _neighbour_vma(page_size: int) -> tuple[Step, ...]:
    whole = PAGES * page_size
    return (
        *fresh(page_size),
        Measure("alone"),
        MapAnonymous(1, whole, after=0),
        Measure("beside"),
    )


def _judge_neighbour_vma(exhibit: Exhibit) -> Finding:
    alone, beside = exhibit.memory("alone"), exhibit.memory("beside")
    if exhibit.failed or alone is None or beside is None:
        return first_failure(exhibit)
    more = beside.vmas - alone.vmas
    said = f"{alone.vmas} VMAs without and {beside.vmas} with the neighbour."
    return Finding(Verdict.MET if more == 1 else Verdict.NOT_MET, said)


MOVING = (
    Property(
        "remap-move",
        "mremap moves clean and stored pages with their content.",
        "mremap to another address.",
        _remap_move,
    ),
    Property(
        "remap-grow",
        "What mremap adds to a mapping reads as the pattern.",
        "mremap to a larger size, as realloc does.",
        _remap_grow,
    ),
    Property(
        "protect",
        "mprotect to nothing, to read-only and back keeps the pattern.",
        "mprotect round trip.",
        _protect,
    ),
    Property(
        "unmap-partial",
        "Both sides of an unmapped hole keep the pattern.",
        "Partial munmap splits the VMA.",
        _unmap_partial,
    ),
    Property(
        "neighbour-content",
        "Beside an anonymous mapping both keep their own clean content.",
        "No VMA merge with a neighbouring anonymous mapping: the contents of both.",
        _neighbour_content,
    ),
    Property(
        "neighbour-vma",
        "The kernel keeps the mapping apart from an anonymous mapping beside it.",
        "No VMA merge with a neighbouring anonymous mapping: the VMA count.",
        _neighbour_vma,
        _judge_neighbour_vma,
    ),
)
