"""Random programs, as a hypothesis strategy: valid, without races, small enough for milliseconds.

A program is written step by step by a :class:`Writer`, which knows what each process has mapped,
so that no step is refused by the agent. What the *kernel* refuses is wanted: it is observed.
Every draw shrinks towards fewer steps, fewer pages, whole ranges and plain anonymous memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from tests.backends.simulator.differential.drawing import (
    ACCESSES,
    AROUND,
    ORDERS,
    PROTECTIONS,
    READS,
    WRITES,
    Dice,
    Region,
    Shared,
    price,
)

from refbench.program import Program, Step
from refbench.program import steps as s

MECHANISMS = (
    "anon",
    "memset",
    "memfd:block=1",
    "memfd:block=16",
    "memfd-full",
    "segv",
    "uffd",
    "uffd-sigbus",
    "memfd:block=3",
    "memfd:block=5",
    "memfd:block=17",
    "memfd:block=512",
    "memfd:block=3,reserve=yes",
    "memfd:block=16,reserve=yes",
    "uffd:atfork=yes",
    "uffd:events=fork",
    "uffd-sigbus:atfork=yes",
)
"""Every mechanism but ksm, with its options; huge=... needs a pool that machines do not have."""

MOST_DEPTH = 3
MOST_FORKS = 6
MOST_LABELS = 48
MOST_PHASES = 32
FIRST_ANONYMOUS = 100
ADVICE = (
    "dontneed",
    "free",
    "populate-read",
    "populate-write",
    "cold",
    "pageout",
    "willneed",
    "hugepage",
    "nohugepage",
    "collapse",
)


class Writer(Dice):
    """Writes the steps of one process."""

    def __init__(
        self, draw: DrawFn, shared: Shared, regions: dict[int, Region], depth: int
    ) -> None:
        super().__init__(draw, shared, regions)
        self.depth = depth
        self.steps: list[Step] = []
        self.neutral = False
        """Inside a repeated block: nothing may change what is mapped."""

    # -- blocks --------------------------------------------------------------------------

    def block(self) -> tuple[Step, ...]:
        """Up to so many steps as a draw says, fewer in the deeper processes."""
        for _ in range(self.number(0, 18 if self.depth == 0 else 6)):
            self.punctuation()
            self.step()
        if self.depth == 0 or self.chance(70):
            self.measure()
        return tuple(self.steps)

    def punctuation(self) -> None:
        """A phase's begin or end, a snapshot."""
        kind = self.number(0, 7)
        if kind in {1, 2} and self.shared.phases < MOST_PHASES:
            self.shared.phases += 1
            self.steps.append(s.Phase(f"p{self.shared.phases}"))
        elif kind == 3:
            self.steps.append(s.Phase())
        elif kind == 4 and self.shared.phases:
            self.steps.append(s.Phase(f"p{self.number(1, self.shared.phases)}"))
        elif kind >= 6:
            self.measure()

    def measure(self) -> None:
        if self.shared.labels < MOST_LABELS:
            self.shared.labels += 1
            self.steps.append(s.Measure(f"m{self.shared.labels}"))

    def step(self) -> None:
        write = self.draw(st.sampled_from(WEIGHTED))
        if not self.known():
            write = Writer.map
        write(self)

    # -- steps that change what is mapped ------------------------------------------------

    def map(self) -> None:
        free = [r for r in range(4) if self.state(r).size == 0 and self.state(r).certain]
        if self.neutral or not free:
            return self.touch()
        region = self.draw(st.sampled_from(free))
        self.emit_map(region, min(self.pages(), self.room(region)), self.chance(15))
        return None

    def emit_map(self, region: int, pages: int, populate: bool) -> None:
        size = pages * self.page
        name = self.shared.mechanism
        if name.startswith(("mem", "memfd:block=1")) or populate:
            self.shared.work -= pages * (3 if name.startswith("memfd:block=1") else 1)
        self.steps.append(s.Map(region, size, populate))
        self.grow(region, size)
        self.regions[region] = Region(size)

    def map_anonymous(self) -> None:
        """A neighbour has one address in the whole program: behind the end of its region."""
        fits = [r for r, known in self.regions.items() if self.may_have_neighbour(r, known)]
        if self.neutral or not fits:
            return self.touch()
        after = self.draw(st.sampled_from(fits))
        new = FIRST_ANONYMOUS + after
        size = min(self.pages(), 2100) * self.page
        self.steps.append(s.MapAnonymous(new, size, after))
        self.grow(new, size)
        self.shared.room[after] = self.shared.most[after] // self.page
        self.regions[new] = Region(size)
        return None

    def may_have_neighbour(self, region: int, known: Region) -> bool:
        neighbour = self.state(FIRST_ANONYMOUS + region)
        whole = known.mapped and known.size == self.shared.most[region]
        return whole and region < FIRST_ANONYMOUS and not neighbour.size and neighbour.certain

    def unmap(self) -> None:
        region = self.any_region()
        if self.neutral or region is None:
            return self.touch()
        known = self.regions[region]
        offset, length = self.span(region)
        if known.mapped and self.chance(25):
            length = 0
            self.regions[region] = known if offset else replace(known, size=0)
        elif known.mapped and not offset and length >= known.size:
            self.regions[region] = replace(known, size=0)
        self.steps.append(s.Unmap(region, offset, length))
        return None

    def remap(self) -> None:
        region = self.any_region()
        targets = [r for r in range(10, 14) if not self.state(r).size]
        if self.neutral or region is None or not targets:
            return self.touch()
        target = targets[0]
        offset, length = self.span(region)
        new = length
        kind = self.number(0, 3)
        if kind == 2 and length > self.page:
            new = self.number(1, length // self.page) * self.page
        elif kind == 3:
            new = length + self.number(1, 40) * self.page
        self.steps.append(s.Remap(region, offset, length, target, 0 if new == length else new))
        self.grow(target, new)
        self.regions[target] = Region(new, certain=False)
        self.regions[region] = replace(self.regions[region], certain=False)
        return None

    # -- steps on what is mapped ---------------------------------------------------------

    def touch(self) -> None:
        region = self.any_region()
        if region is None:
            return
        offset, length = self.span(region)
        self.steps.append(self.touching(region, offset, length))

    def touching(self, region: int, offset: int, length: int) -> s.Touch:
        page = self.page
        stride = self.stride()
        if self.chance(15):
            inner = self.number(0, min(page - 1, length - 1))
            offset, length = offset + inner, length - inner
        size = 1
        if self.chance(12):
            size = self.number(1, min(stride, 3 * page))
        places = -(-length // stride)
        cost = price(self.shared.mechanism) * max(1, min(size, stride) // page)
        most = max(1, self.shared.work // (2 * cost), 8)
        count = 0
        if places > most:
            count = most
        elif self.chance(20):
            count = self.number(1, places)
        order = self.draw(st.sampled_from(ORDERS))
        self.shared.work -= cost * (count or places)
        return s.Touch(
            region,
            offset,
            length,
            self.draw(st.sampled_from(ACCESSES)),
            stride,
            size,
            order,
            self.number(0, 9) if order == "random" else 0,
            count,
            self.value(),
        )

    def expect(self) -> None:
        region = self.any_region()
        if region is None:
            return
        offset, length = self.span(region)
        stride = 1
        if length > 64 * self.page or self.chance(50):
            stride = self.of(self.page, 1000, self.page - 1, 3 * self.page)
        places = length // stride // (self.page if stride == 1 else 1) + 1
        if places * price(self.shared.mechanism) > self.shared.work:
            return
        self.shared.work -= places * price(self.shared.mechanism)
        self.steps.append(s.Expect(region, offset, length, self.content(), stride))

    def advise(self) -> None:
        region = self.any_region()
        if region is None:
            return
        advice = self.draw(st.sampled_from(ADVICE))
        if advice == "pageout" and not self.shared.evicts:
            advice = "cold"
        offset, length = self.span(region)
        length = self.affordable(length) if advice.startswith("populate") else length
        self.steps.append(s.Advise(region, offset, length, advice))

    def affordable(self, length: int) -> int:
        """At most what the work that is left pays for."""
        cost = price(self.shared.mechanism)
        pages = min(length // self.page, max(1, self.shared.work // (2 * cost)))
        self.shared.work -= pages * cost
        return pages * self.page

    def protect(self) -> None:
        region = self.any_region()
        if region is None:
            return
        offset, length = self.span(region)
        protection = self.draw(st.sampled_from(PROTECTIONS))
        self.steps.append(s.Protect(region, offset, length, protection))

    def lock(self) -> None:
        region = self.any_region()
        if region is None:
            return
        offset, length = self.span(region)
        on = not self.chance(35)
        self.steps.append(s.Lock(region, offset, self.affordable(length), on))

    def kernel_access(self) -> None:
        region = self.any_region()
        if region is None:
            return
        offset, length = self.span(region)
        length = self.affordable(min(length, 64 * self.page))
        if self.chance(25):
            inner = self.number(0, length - 1)
            offset, length = offset + inner, length - inner
        if self.chance(50):
            via = self.draw(st.sampled_from(WRITES))
            self.steps.append(s.KernelWrites(region, offset, length, via, self.value()))
        else:
            how = self.draw(st.sampled_from(READS))
            self.steps.append(s.KernelReads(region, offset, length, how, self.content()))

    # -- blocks --------------------------------------------------------------------------

    def fork(self) -> None:
        if self.depth == MOST_DEPTH or self.shared.forks == MOST_FORKS:
            return self.touch()
        self.shared.forks += 1
        if self.shared.mechanism.endswith("events=fork"):
            # The parent's thread handles the event at no fixed moment around the phase's end.
            self.steps.append(s.Phase())
        child = Writer(self.draw, self.shared, self.copied(), self.depth + 1)
        first = self.chance(30)
        inside = child.block()
        parent = Writer(self.draw, self.shared, self.regions, self.depth + 1)
        parent.neutral = self.neutral
        self.steps.append(s.Fork(inside, parent.block(), first))
        return None

    def copied(self) -> dict[int, Region]:
        return {number: replace(region) for number, region in self.regions.items()}

    def repeat(self) -> None:
        """The same steps again: churn of one region, or steps that leave all mapped as it is."""
        inner = Writer(self.draw, self.shared, self.regions, self.depth)
        free = [r for r in range(4) if self.state(r).size == 0 and self.state(r).certain]
        churn = free[0] if free and not self.neutral and self.chance(50) else None
        if churn is not None:
            pages = min(self.pages(), 64, self.room(churn))
            inner.emit_map(churn, pages, self.chance(15))
        inner.neutral = True
        for _ in range(self.number(1, 3)):
            inner.punctuation()
            inner.step()
        if churn is not None:
            inner.steps.append(s.Unmap(churn))
            self.regions[churn] = replace(self.regions[churn], size=0)
        self.steps.append(s.Repeat(self.number(1, 3), tuple(inner.steps)))

    def parallel(self) -> None:
        """Threads that share one walk, or groups that each have a region of their own."""
        fits = [r for r in self.known() if self.regions[r].mapped]
        if not fits:
            return self.touch()
        window = AROUND * self.page
        if len(fits) == 1 or self.chance(60):
            region = self.draw(st.sampled_from(fits))
            size = self.regions[region].size
            touch = self.touching(region, 0, min(size, self.shared.most[region]))
            stride = max(window, touch.stride - touch.stride % window)
            whole = replace(
                touch, offset=0, stride=stride, size=min(touch.size, self.page), shared=True
            )
            self.steps.append(s.Parallel((s.Threads(self.number(2, 3), (whole,)),)))
            return None
        groups = []
        # VMAs of neighbours may merge, as whoever comes first gives them an anon_vma.
        fits = [r for r in fits if r - FIRST_ANONYMOUS not in fits]
        for region in fits[:3]:
            offset, length = self.span(region)
            groups.append(s.Threads(1, (self.touching(region, offset, length),)))
        self.steps.append(s.Parallel(tuple(groups)))
        return None


WEIGHTED: tuple[Callable[[Writer], None], ...] = (
    *[Writer.touch] * 12,
    *[Writer.map] * 5,
    *[Writer.fork] * 4,
    *[Writer.advise] * 5,
    *[Writer.protect] * 4,
    *[Writer.unmap] * 3,
    *[Writer.expect] * 3,
    *[Writer.remap] * 2,
    *[Writer.map_anonymous] * 2,
    *[Writer.lock] * 2,
    *[Writer.kernel_access] * 2,
    *[Writer.repeat] * 1,
    *[Writer.parallel] * 1,
)


@st.composite
def programs(draw: DrawFn, mechanism: str, page: int = 4096, *, evicts: bool = True) -> Program:
    """Any program that is worth running under ``mechanism``."""
    writer = Writer(draw, Shared(mechanism, page, evicts), {}, 0)
    writer.emit_map(0, writer.pages(), writer.chance(15))
    return Program("differential", writer.block(), observe_all=True)
