"""How much memory a program will populate, worked out before it runs.

The rule errs towards letting a cell run, because the kernel's own refusal is a result too:

- a mechanism that populates when mapping (:attr:`refbench.words.Mechanism.populates`) fills a
  region when it is mapped: its whole size counts;
- elsewhere a region counts by the pages that touches reach, at most once each: stores always,
  loads only where the mechanism gives a page of its own to a load;
- MAP_POPULATE, MADV_POPULATE_WRITE, mlock and stores by the kernel count as stores;
- what a forked child stores counts beside its parent's;
- a region stops counting when it is unmapped as a whole.

Page tables, VMAs and the agent itself (a few MiB) are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from refbench import program as p
from refbench.words import Populates


def populated(program: p.Program, populates: Populates, page_size: int) -> int:
    """The most bytes that ``program`` has populated at one time, a lower bound."""
    walk = _Walk(populates, page_size)
    walk.steps(program.steps)
    return walk.peak


def mapped(program: p.Program) -> int:
    """The most bytes that ``program`` has mapped at one time."""
    walk = _Walk("map", 1)
    walk.steps(program.steps)
    return walk.peak


class _Walk:
    """Follows the steps with a count of bytes for each region."""

    def __init__(self, populates: Populates, page_size: int) -> None:
        self.filling = populates == "map"
        self.sharing = populates == "store"
        self.page_size = page_size
        self.sizes: dict[int, int] = {}
        self.counts: dict[int, int] = {}
        self.elsewhere = 0
        self.peak = 0

    def steps(self, steps: Iterable[p.Step]) -> None:
        for step in steps:
            match step:
                case p.Repeat(_, body):
                    self.steps(body)
                case p.Fork(child, parent, _):
                    self.fork(child, parent)
                case p.Parallel(groups):
                    for group in groups:
                        self.steps(group.body)
                case _:
                    self.lay_out(step)
                    self.populate(step)
            self.peak = max(self.peak, self.elsewhere + sum(self.counts.values()))

    def lay_out(self, step: p.Step) -> None:
        match step:
            case p.Map(region, size, populate, plain):
                self.sizes[region] = size
                filled = populate or (self.filling and not plain)
                self.counts[region] = size if filled else 0
            case p.MapAnonymous(region, size):
                self.sizes[region] = size
                self.counts[region] = 0
            case p.Unmap(region, offset, length):
                if not offset and length in (0, self.sizes.get(region, 0)):
                    self.sizes.pop(region, None)
                    self.counts.pop(region, None)
            case p.Remap(region, offset, length, target, new_length):
                self.remap(region, (offset, length), target, new_length or length)
            case _:
                return

    def remap(self, region: int, part: tuple[int, int], target: int, size: int) -> None:
        """What was populated is taken to be in the part that moves; the rest stays mapped."""
        count = self.counts.get(region, 0)
        self.sizes[target] = size
        self.counts[target] = min(count, size)
        self.counts[region] = count - self.counts[target]
        if part == (0, self.sizes.get(region, part[1])):
            self.sizes.pop(region, None)
            del self.counts[region]

    def populate(self, step: p.Step) -> None:
        match step:
            case p.Touch():
                if step.access != "read" or not self.sharing:
                    self.add(step.region, self.reached(step))
            case p.Advise(region, _, length, "populate-write"):
                self.add(region, length)
            case p.Lock(region, _, length, True) | p.KernelWrites(region, _, length):
                self.add(region, length)
            case p.Userfault(region, _, length):
                self.add(region, length)
            case _:
                return

    def fork(self, child: tuple[p.Step, ...], parent: tuple[p.Step, ...]) -> None:
        """The child's copies lie beside what the parent has; then the parent goes on."""
        kept, beside = self.counts, self.elsewhere
        self.elsewhere += sum(kept.values())
        self.counts = dict.fromkeys(kept, 0)
        sizes = dict(self.sizes)
        self.steps(child)
        self.sizes, self.counts, self.elsewhere = sizes, kept, beside
        self.steps(parent)

    def add(self, region: int, size: int) -> None:
        if region in self.sizes:
            self.counts[region] = min(self.counts[region] + size, self.sizes[region])

    def reached(self, step: p.Touch) -> int:
        """Bytes of the pages that a touch reaches."""
        places = -(-step.length // step.stride)
        places = min(places, step.count) if step.count else places
        pages = -(-step.size // self.page_size)
        if step.stride >= self.page_size:
            return places * pages * self.page_size
        return min(places * step.stride + self.page_size, step.length)
