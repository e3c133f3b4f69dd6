"""Random small programs about huge pages: what shares, splits, collapses and moves them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import get_args

from refbench.program import Program, Step
from refbench.program import steps as s

MIB = 1 << 20
PAGE = 4096
SIZES = tuple(size * MIB for size in (2, 3, 4, 6, 8, 8, 16, 32))
STRIDES = (PAGE, 2 * PAGE, 16 * PAGE, MIB, 2 * MIB)
ADVICE = (
    "hugepage", "hugepage", "nohugepage", "dontneed", "free", "cold", "pageout", "collapse",
    "collapse", "populate-read", "populate-write",
)  # fmt: skip
MOVED = (1, 2, 3)


@dataclass
class Drawer:
    """Draws one program; ``seed`` says which."""

    seed: str
    collapses: bool = True
    """Whether MADV_COLLAPSE is drawn: not for mappings of files, whose huge pages the model
    has not."""
    regions: list[tuple[int, int]] = field(default_factory=list)
    labels: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.free = list(MOVED)

    def program(self) -> Program:
        """Up to 32 MiB, with forks in forks."""
        size = self.random.choice(SIZES)
        self.regions.append((0, size))
        steps: list[Step] = [s.Map(0, size)]
        if self.random.random() < 0.7:
            steps.append(s.Advise(0, 0, size, "hugepage"))
        steps += self._block(self.random.randint(3, 12), depth=0)
        steps.append(s.Measure("end"))
        return Program(f"huge {self.seed}", tuple(steps), observe_all=True)

    def _block(self, count: int, depth: int) -> list[Step]:
        steps: list[Step] = []
        for _ in range(count):
            steps += self._step(depth)
            if self.random.random() < 0.4:
                steps.append(s.Measure(self._label("m")))
            if self.random.random() < 0.12 and depth < 2:
                child = tuple(self._block(self.random.randint(1, 4), depth + 1))
                parent = tuple(self._block(self.random.randint(0, 3), depth + 1))
                steps.append(s.Fork(child, parent, self.random.random() < 0.5))
        return steps

    def _step(self, depth: int) -> list[Step]:
        draw, (region, size) = self.random, self.random.choice(self.regions)
        offset, length = self._range(size)
        kind = draw.choice("TTTTTTTAAAAAAAAAPPLUMX")
        if kind == "T":
            access = draw.choice(get_args(s.Access))
            order = draw.choice(get_args(s.Order))
            touch = s.Touch(region, offset, length, access, draw.choice(STRIDES), order=order)
            return [s.Phase(self._label("p")), touch, s.Phase()]
        if kind == "A":
            advice = draw.choice(ADVICE)
            if advice == "collapse" and not self.collapses:
                advice = "hugepage"
            return [s.Advise(region, offset, length, advice)]
        if kind == "P":
            allowed: tuple[s.Protection, ...] = ("read", "readwrite", "readwrite")
            return [s.Protect(region, offset, length, draw.choice(allowed))]
        if kind in "LU":
            return [s.Lock(region, offset, length, on=kind == "L")]
        if depth:
            return []
        if kind == "M" and self.free and length < size:
            target = self.free.pop(0)
            self.regions.append((target, length))
            return [s.Remap(region, offset, length, target)]
        if kind == "X" and length < size:
            return [s.Unmap(region, offset, length)]
        return []

    def _range(self, size: int) -> tuple[int, int]:
        draw = self.random
        if draw.random() < 0.35:
            return 0, size
        unit = draw.choice((2 * MIB, 2 * MIB, MIB, MIB // 2, PAGE * draw.randint(1, 300)))
        start = draw.randrange(0, size, PAGE) // unit * unit
        return start, min(size, start + unit * draw.randint(1, 4)) - start

    def _label(self, kind: str) -> str:
        self.labels += 1
        return f"{kind}{self.labels}"
