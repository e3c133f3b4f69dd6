"""The places that a touch accesses, as arithmetic: which bytes, which pages, in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench.program import Expect, Order, Touch

Pages = NDArray[np.int64]

MOST_ORDERED = 1 << 20
"""Places up to which a random order of *all* places can be worked out; above, they are taken in
ascending order."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The mixing function of docs/program-format.md (Steele, Lea, Flood 2014)."""
    z = z + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def permuted(places: int, seed: int, count: int) -> NDArray[np.int64]:
    """The first ``count`` of ``places`` places in random order: P(0), P(1), ...

    The four-round Feistel network of docs/program-format.md, with cycle walking.
    """
    half = 0
    while half < 32 and (1 << 2 * half) < places:
        half += 1
    mask, bits = np.uint64((1 << half) - 1), np.uint64(half)
    at = np.arange(count, dtype=np.uint64)
    left = np.arange(count)
    while left.size:
        high, low = at[left] >> bits, at[left] & mask
        for number in range(4):
            key = np.uint64(((seed << 32) + (number << 56)) % (1 << 64))
            with np.errstate(over="ignore"):
                high, low = low, high ^ (splitmix64(key + low) & mask)
        at[left] = high << bits | low
        left = left[at[left] >= places]
    return at.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Reach:
    """Which places of a range are accessed: ``first`` to ``last`` in ascending order, or those
    in ``chosen`` alone, in the order in which they are visited."""

    offset: int
    """Bytes from the region's start to place 0."""
    stride: int
    size: int
    end: int
    """Bytes from the region's start to the end of the range: a place is clipped there."""
    first: int
    last: int
    """One behind the last place."""
    chosen: Pages | None = None
    backward: bool = False
    short: int = 0
    """How many places the touch has where only the first ones are looked at; else 0."""
    sorted: bool = False
    """Whether a random order of all places was given up for an ascending one."""

    @property
    def count(self) -> int:
        """How many places there are."""
        return self.last - self.first if self.chosen is None else int(self.chosen.size)

    def bounds(self, page_size: int) -> tuple[int, int]:
        """The first page, and one behind the last, that the places reach."""
        if not self.count:
            return self.offset // page_size, self.offset // page_size
        low, high = self.first, self.last - 1
        if self.chosen is not None:
            low, high = int(self.chosen.min()), int(self.chosen.max())
        behind = min(self.offset + high * self.stride + self.size, self.end)
        return (self.offset + low * self.stride) // page_size, -(-behind // page_size)

    def pages_of(self, places: Pages, page_size: int) -> tuple[Pages, Pages]:
        """First page, and one behind the last, of each of ``places``."""
        start = self.offset + places * self.stride
        behind = np.minimum(start + self.size, self.end)
        return start // page_size, -(-behind // page_size)

    def touches(self, pages: Pages, page_size: int) -> NDArray[np.bool_]:
        """Whether each of ``pages`` holds a byte of a place; for ranges of places only."""
        start = pages * page_size
        # The first place that ends behind the page's first byte.
        place = -((self.offset + self.size - 1 - start) // self.stride)
        place = np.maximum(place, self.first)
        found = (place < self.last) & (self.offset + place * self.stride < start + page_size)
        return np.asarray(found, dtype=np.bool_)


def reach(step: Touch | Expect, most_ordered: int = MOST_ORDERED, most: int = 0) -> Reach:
    """The places of a touch, or of a check, which reads every stride-th byte.

    ``most_ordered``: from how many places on a random order of all of them is given up; ``most``:
    how many places of a random order are looked at, 0: all.
    """
    places = -(-step.length // step.stride)
    end = step.offset + step.length
    if isinstance(step, Expect):
        return Reach(step.offset, step.stride, 1, end, 0, places)
    count = min(step.count or places, places)
    order: Order = step.order
    if order == "random" and (count < places or places <= most_ordered):
        short = count if 0 < most < count and not step.shared else 0
        chosen = permuted(places, step.seed, most if short else count)
        return Reach(step.offset, step.stride, step.size, end, 0, places, chosen, short=short)
    first, last = (places - count, places) if order == "backward" else (0, count)
    backward = order == "backward"
    return Reach(
        step.offset,
        step.stride,
        step.size,
        end,
        first,
        last,
        backward=backward,
        sorted=order == "random",
    )
