"""What a random program is drawn from: sizes, ranges, strides, and what processes have mapped.

Every draw shrinks towards fewer pages, whole ranges and the first of the choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from refbench.program import steps as s

T = TypeVar("T")

MOST_PAGES = 16384
WORK = 16000
"""Pages that one program may touch or fill, weighted by :func:`price`: some ten milliseconds."""
AROUND = 16
"""Pages of a fault-around window, as almost every kernel has it. Threads keep out of each
other's windows; where it is larger the harness finds the races and says so."""

ORDERS: tuple[s.Order, ...] = ("forward", "backward", "random")
ACCESSES: tuple[s.Access, ...] = ("read", "write", "readwrite")
PROTECTIONS: tuple[s.Protection, ...] = ("read", "none", "readwrite")
WRITES: tuple[s.KernelWrite, ...] = ("vmwritev", "procmem", "read")
READS: tuple[s.KernelRead, ...] = ("vmreadv", "procmem", "write")


def price(mechanism: str) -> int:
    """What a page of work costs under a mechanism, beside one of plain memory."""
    name = mechanism.partition(":")[0]
    return {"uffd": 8, "uffd-sigbus": 6, "segv": 6}.get(name, 1)


@dataclass
class Region:
    """A region as one process sees it."""

    size: int = 0
    """Bytes mapped; 0: none."""
    certain: bool = True
    """False when it depends on the kernel's answer whether it is mapped."""

    @property
    def mapped(self) -> bool:
        return bool(self.size) and self.certain


@dataclass
class Shared:
    """What all processes of a program share: names, the work that is left, sizes in the text."""

    mechanism: str
    page: int
    evicts: bool = True
    """Whether MADV_PAGEOUT is among the advice."""
    labels: int = 0
    phases: int = 0
    forks: int = 0
    work: int = WORK
    most: dict[int, int] = field(default_factory=dict)
    """By region: the largest size in the text so far; ranges must lie in it."""
    room: dict[int, int] = field(default_factory=dict)
    """By region: pages up to a neighbour that the text maps behind it in some process."""


class Dice:
    """The draws of one process."""

    def __init__(self, draw: DrawFn, shared: Shared, regions: dict[int, Region]) -> None:
        self.draw = draw
        self.shared = shared
        self.regions = regions
        self.page = shared.page

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def chance(self, percent: int) -> bool:
        """True in about so many cases of a hundred; shrinks to False."""
        return self.number(0, 99) >= 100 - percent

    def of(self, *choices: T) -> T:
        return self.draw(st.sampled_from(choices))

    def pages(self) -> int:
        """A size in pages: mostly a few, some about a table's reach, rarely tens of MiB."""
        kind = self.number(0, 31)
        left = max(1, self.shared.work // (2 * price(self.shared.mechanism)))
        if kind < 10:
            most = 4
        elif kind < 20:
            most = 40
        elif kind < 28:
            most = 700
        elif kind < 31:
            most = 2100
        else:
            most = MOST_PAGES
        pages = self.number(1, min(most, left))
        if kind % 4 == 3:
            unit = 512 if kind >= 20 else AROUND
            pages = max(unit, pages - pages % unit) if unit <= left else pages
        return pages

    def span(self, region: int) -> tuple[int, int]:
        """A page-aligned range within what the text has of a region; often all of it."""
        size = self.regions[region].size or self.shared.most[region]
        pages = min(size, self.shared.most[region]) // self.page
        kind = self.number(0, 5)
        if kind <= 1 or pages == 1:
            return 0, pages * self.page
        cut = self.number(1, pages - 1)
        if kind == 2:
            return 0, cut * self.page
        if kind == 3:
            return cut * self.page, (pages - cut) * self.page
        length = self.number(1, pages - cut)
        return cut * self.page, length * self.page

    def known(self) -> list[int]:
        """Regions that a range may be taken from."""
        return [r for r in self.regions if r in self.shared.most]

    def any_region(self) -> int | None:
        """Mostly a region that is mapped, now and then one that is not."""
        known = self.known()
        mapped = [r for r in known if self.regions[r].size]
        if mapped and not (len(known) > len(mapped) and self.chance(3)):
            return self.draw(st.sampled_from(mapped))
        return None if not known else self.draw(st.sampled_from(known))

    def stride(self) -> int:
        """Bytes from place to place: below, at, above, multiples and not of a page."""
        page = self.page
        kind = self.number(0, 9)
        if kind <= 3:
            return page
        if kind == 4:
            return page * self.number(2, 40)
        if kind == 5:
            return page + self.number(1, page - 1)
        if kind == 6:
            return self.number(page // 16, page - 1)
        if kind == 7:
            return page * self.number(2, 700) + self.number(0, page - 1)
        return page * self.of(2, 3, 15, 16, 17, 512)

    def value(self) -> int:
        """A byte: mostly the format's own, also the pattern's and zero."""
        return (0x55, 0x55, 0x00, 0xAA, 0x01)[self.number(0, 4)]

    def content(self) -> s.Content:
        kind = self.number(0, 9)
        return "pattern" if kind < 7 else "zero" if kind == 7 else self.value()

    def grow(self, region: int, size: int) -> None:
        self.shared.most[region] = max(size, self.shared.most.get(region, 0))

    def room(self, region: int) -> int:
        return self.shared.room.get(region, MOST_PAGES)

    def state(self, region: int) -> Region:
        return self.regions.get(region, Region())
