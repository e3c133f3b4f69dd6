"""Where a program's regions lie, as the agent places them: docs/program-format.md, *Addresses*."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refbench import program as p
from refbench.errors import UsageError

FIRST_SLOT = 0x1000000000
_GIB = 1 << 30


RANGED = (
    p.Unmap,
    p.Touch,
    p.Handout,
    p.Expect,
    p.Advise,
    p.Protect,
    p.Lock,
    p.Remap,
    p.KernelReads,
    p.KernelWrites,
    p.Userfault,
)
"""Steps that name a range of a region."""


@dataclass(frozen=True, slots=True)
class Region:
    """One region: its address and the sizes that the program gives it, in bytes."""

    number: int
    base: int
    sizes: tuple[int, ...]
    anonymous: bool = False

    @property
    def most(self) -> int:
        """Its largest size."""
        return max(self.sizes)


def everything(steps: Sequence[p.Step]) -> Iterator[p.Step]:
    """All steps, those of blocks included, in the order of the program file."""
    for step in steps:
        yield step
        match step:
            case p.Repeat():
                yield from everything(step.body)
            case p.Fork():
                yield from everything(step.child)
                yield from everything(step.parent)
            case p.Parallel():
                for group in step.groups:
                    yield from everything(group.body)
            case _:
                pass


def find_regions(program: p.Program, page_size: int) -> dict[int, Region]:
    """Every region that is mapped, by its number, in the order of addresses.

    :raises UsageError: for what the agent refuses too: sizes that are no multiple of the page
        size, ranges behind the end of their region, regions that are never mapped.
    """
    sizes: dict[int, list[int]] = {}
    after: dict[int, int] = {}
    mentioned: set[int] = set()
    for step in everything(program.steps):
        match step:
            case p.Map():
                sizes.setdefault(step.region, []).append(step.size)
            case p.MapAnonymous():
                sizes.setdefault(step.region, []).append(step.size)
                after[step.region] = step.after
            case p.Remap():
                sizes.setdefault(step.target, []).append(step.new_length or step.length)
                mentioned.add(step.region)
            case _:
                pass
        if hasattr(step, "region"):
            mentioned.add(step.region)
    _check(program, sizes, mentioned | set(after.values()), page_size)
    return _placed(sizes, after)


def _placed(sizes: dict[int, list[int]], after: dict[int, int]) -> dict[int, Region]:
    found: dict[int, Region] = {}
    at = FIRST_SLOT
    for number in sorted(set(sizes) - set(after)):
        found[number] = Region(number, at, tuple(sizes[number]))
        at += -(-found[number].most // _GIB) * _GIB + _GIB
    waiting = dict(after)
    while waiting:
        number = next(number for number in waiting if waiting[number] in found)
        before = found[waiting.pop(number)]
        base = before.base + before.most
        found[number] = Region(number, base, tuple(sizes[number]), anonymous=True)
    return dict(sorted(found.items(), key=lambda item: item[1].base))


def _check(
    program: p.Program, sizes: dict[int, list[int]], mentioned: set[int], page_size: int
) -> None:
    for number in sorted(mentioned):
        if number not in sizes:
            raise UsageError(
                f"Region {number} of the program is never mapped.", remedy="Map it first."
            )
    for number, mine in sizes.items():
        if any(size % page_size or not size for size in mine):
            raise UsageError(
                f"Region {number}: a size is not a multiple of the page size.",
                remedy=f"Give multiples of {page_size} bytes.",
            )
    for step in everything(program.steps):
        if not isinstance(step, RANGED):
            continue
        most = max(sizes[step.region])
        if step.offset + step.length > most:
            raise UsageError(
                f"A range of region {step.region} ends behind the region.",
                remedy=f"The region has at most {most} bytes.",
            )
