"""Random programs in which much repeats itself: long ranges, touched at one stride and another."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from refbench.program import (
    Access,
    Advise,
    Content,
    Expect,
    Fork,
    Lock,
    Map,
    MapAnonymous,
    Measure,
    Order,
    Phase,
    Program,
    Protect,
    Remap,
    Repeat,
    Step,
    Touch,
    Unmap,
)
from refbench_simulator.knobs import Kernel

MECHANISMS = (
    "anon",
    "ksm",
    "memfd-full",
    "memfd:block=1",
    "memfd:block=3",
    "memfd:block=16",
    "memfd:block=24",
    "memfd:block=512",
    "memfd:block=700",
    "memset",
    "refpage",
    "refpage-dev",
    "refpage-mmap",
    "segv",
    "uffd",
    "uffd-sigbus",
    "uffd-sigbus:atfork",
    "uffd:atfork",
    "uffd:events=fork",
)
"""Blocks that divide tables and windows, and blocks that do not."""
MANY_VMAS = ("memfd:block=1", "memfd:block=3", "segv")
STRIDES = (1, 2, 4, 8, 16, 32, 64, 3, 5, 7, 12, 24, 17, 512, 1024)
"""Pages."""
ACCESSES: tuple[Access, ...] = ("read", "write", "readwrite")
ADVICE = (
    *("dontneed", "dontneed", "free", "hugepage", "mergeable"),
    *("populate-read", "populate-write", "cold", "pageout"),
)
DEPTH = 3
"""Forks inside one another."""


def kernel(dice: Random) -> Kernel:
    """Page sizes, fault-around and walls of all kinds."""
    page = dice.choice([4096] * 4 + [16384, 65536])
    return Kernel(
        page_size=page,
        arch="x86_64" if page == 4096 else "arm64",
        max_map_count=dice.choice([65530] * 4 + [1 << 20, 1 << 20, 1000, 300, 5000]),
        fault_around=dice.choice([65536] * 4 + [4096, 16384, 1 << 20]),
    )


@dataclass
class Drawing:
    """One program."""

    dice: Random
    page: int
    mechanism: str
    number: int = 0
    """Of phases and labels so far."""
    sizes: dict[int, int] = field(default_factory=dict)
    """Pages of each region."""

    def program(self) -> Program:
        """A program that stays within ``observe all``."""
        dice = self.dice
        pages = self._pages()
        self.sizes = {0: pages}
        steps: list[Step] = [Phase("map"), Map(0, pages * self.page, dice.random() < 0.1)]
        if dice.random() < 0.4:
            self.sizes[1] = self._pages() // 2
            steps.append(Map(1, self.sizes[1] * self.page))
        if dice.random() < 0.2 and pages * self.page <= 1 << 30:
            self.sizes[2] = dice.choice((3, 512, 600, 4096))
            steps.append(MapAnonymous(2, self.sizes[2] * self.page, 0))
        steps += [self._measure(), *self._block(0, dice.randint(1, 5))]
        if dice.random() < 0.15:
            first, length = self._span(pages)
            # VMAs are moved one by one.
            length = min(length, 200) if self.mechanism in MANY_VMAS else length
            steps.append(Remap(0, first * self.page, length * self.page, 3))
            steps.append(self._measure())
        if dice.random() < 0.5:
            steps += [Phase("unmap"), Unmap(0, 0, 0), self._measure()]
        return Program("regular", tuple(steps), observe_all=dice.random() < 0.7)

    def _pages(self) -> int:
        dice, entries = self.dice, self.page // 8
        if dice.random() < 0.5:
            pages = 512 * dice.choice((4, 6, 8, 10, 16)) * dice.choice((1, 1, 2, 3))
        else:
            pages = dice.randint(2000, 24000)
        if self.mechanism in MANY_VMAS and entries == 512:
            pages = min(pages, 6000)
        return min(pages * entries // 512, 65536)

    def _span(self, pages: int) -> tuple[int, int]:
        """First page and length of a range, mostly of all."""
        dice = self.dice
        kind = dice.random()
        if kind < 0.5:
            return 0, pages
        first = dice.randrange(pages)
        behind = dice.randrange(first + 1, pages + 1)
        if kind < 0.75:
            unit = dice.choice((16, 64, 512))
            first = first // unit * unit
            behind = max(first + 1, behind // unit * unit)
        return first, behind - first

    def _touch(self, region: int) -> Touch:
        dice = self.dice
        first, count = self._span(self.sizes[region])
        offset, length = first * self.page, count * self.page
        stride = self.page * dice.choice(STRIDES) + dice.choice([0] * 8 + [2048, 3072])
        if dice.random() < 0.3:
            ahead = dice.randrange(min(length, 3 * self.page))
            offset, length = offset + ahead, length - ahead
        sizes = [1] * 5 + [8, self.page, self.page + 1, 2 * self.page, stride]
        orders: tuple[Order, ...] = (*3 * ("forward",), *2 * ("backward",), *2 * ("random",))
        order: Order = dice.choice(orders)
        some = 0
        if order == "random":
            some = dice.choice((0, 1, 5, 40))
        elif dice.random() < 0.2:
            some = dice.randint(1, max(1, length // stride))
        return Touch(
            region,
            offset,
            length,
            dice.choice(ACCESSES),
            stride,
            size=min(dice.choice(sizes), stride),
            order=order,
            seed=dice.randrange(100),
            count=some,
        )

    def _block(self, depth: int, count: int) -> list[Step]:
        found: list[Step] = []
        for _ in range(count):
            self.number += 1
            found += [Phase(f"p{self.number}"), *self._step(depth), self._measure()]
        return found

    def _measure(self) -> Measure:
        self.number += 1
        return Measure(f"m{self.number}")

    def _step(self, depth: int) -> list[Step]:
        dice = self.dice
        region = dice.choice(list(self.sizes))
        first, count = self._span(self.sizes[region])
        offset, length = first * self.page, count * self.page
        kind = dice.random()
        if kind < 0.5:
            return [self._touch(region)]
        if kind < 0.6:
            whole = count == self.sizes[region]
            return [
                Advise(region, offset, length, "dontneed")
                if whole
                else Unmap(region, offset, length)
            ]
        if kind < 0.72:
            return [Advise(region, offset, length, dice.choice(ADVICE))]
        if kind < 0.8:
            return [Protect(region, offset, length, dice.choice(("read", "readwrite", "none")))]
        if kind < 0.84:
            return [Lock(region, offset, length, dice.random() < 0.7)]
        if kind < 0.9:
            contents: tuple[Content, ...] = ("pattern", "zero", 0x55)
            content = dice.choice(contents)
            stride = dice.choice((1, self.page, 16 * self.page))
            return [Expect(region, offset, length - 1, content, stride, dice.random() < 0.3)]
        return self._fork(depth) if depth < DEPTH else []

    def _fork(self, depth: int) -> list[Step]:
        dice = self.dice
        child = tuple(self._block(depth + 1, dice.randint(0, 3)))
        parent = tuple(self._block(depth + 1, dice.randint(0, 2)))
        fork = Fork(child, parent, dice.random() < 0.3)
        if dice.random() < 0.2:
            return [Repeat(dice.choice((2, 9)), (Phase(f"r{depth}"), fork))]
        return [Phase(f"f{depth}"), fork]
