"""Which memory of a trace is mapped, page by page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]

NEVER = np.iinfo(np.int64).max
_GAP = 1


@dataclass(slots=True)
class Region:
    """One mapping: ``pages`` pages at ``address``, numbered from ``start`` on among those of all
    regions ever mapped; pages of two regions never follow one another."""

    number: int
    address: int
    size: int
    pages: int
    start: int
    zero: bool
    gone: int = 0


class Heap:
    """The mappings that there are, and two columns over the pages of all that ever were: ``bits``
    and ``stamp``."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.bits = np.zeros(1024, np.uint8)
        self.stamp: Index = np.full(1024, NEVER, np.int64)
        self._used = 0
        self._addresses: list[int] = []
        self._regions: list[Region] = []
        self._ever: list[Region] = []
        self._starts: list[int] = []
        self._numbers = 0
        self._free: dict[tuple[int, bool], list[int]] = {}
        self._columns: tuple[Index, Index, Index] | None = None

    def add(self, address: int, size: int, *, zero: bool) -> Region:
        """A new mapping, where none is; ``zero``: of no mechanism. A number is used again for
        one of the same size and kind."""
        pages = -(-size // self.page_size)
        free = self._free.get((pages, zero))
        number = free.pop() if free else self._numbers
        self._numbers = max(self._numbers, number + 1)
        region = Region(number, address, size, pages, self._used, zero)
        self._ever.append(region)
        self._starts.append(region.start)
        self._used += pages + _GAP
        while self._used > self.bits.size:
            self.bits = np.concatenate((self.bits, np.zeros_like(self.bits)))
            self.stamp = np.concatenate((self.stamp, np.full_like(self.stamp, NEVER)))
        at = bisect_right(self._addresses, address)
        self._addresses.insert(at, address)
        self._regions.insert(at, region)
        self._columns = None
        return region

    def remove(self, region: Region, low: int, high: int) -> bool:
        """Pages ``low`` to ``high`` are unmapped, and with them what is not reached by any other
        call; whether that was the whole region at once."""
        region.gone += high - low
        whole = high - low == region.pages
        if region.gone >= region.pages:
            at = self._regions.index(region)
            del self._addresses[at], self._regions[at]
            self._columns = None
            if whole:
                self._free.setdefault((region.pages, region.zero), []).append(region.number)
        return whole

    def inside(self, address: int, length: int) -> list[tuple[Region, int, int]]:
        """The regions of which a range covers whole pages: first page, one behind the last."""
        found = []
        for region, low, high in self._overlaps(address, length):
            first = -(-low // self.page_size)
            behind = region.pages if high == region.size else high // self.page_size
            if behind > first:
                found.append((region, first, behind))
        return found

    def pieces(self, address: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that are mapped, in bytes of the pages' numbers."""
        for region, low, high in self._overlaps(address, length):
            base = region.start * self.page_size
            yield base + low, base + high

    def _overlaps(self, address: int, length: int) -> list[tuple[Region, int, int]]:
        at = max(bisect_right(self._addresses, address) - 1, 0)
        found = []
        for region in self._regions[at:]:
            if region.address >= address + length:
                break
            low = max(address - region.address, 0)
            high = min(address + length - region.address, region.size)
            if low < high:
                found.append((region, low, high))
        return found

    def find(self, address: Index) -> tuple[Index, NDArray[np.bool_]]:
        """The pages of addresses, and which of these are mapped."""
        byte, mapped = self.find_byte(address)
        return byte // self.page_size, mapped

    def find_byte(self, address: Index) -> tuple[Index, NDArray[np.bool_]]:
        """The same in bytes: the page's number times its size, and the place in it."""
        if not self._regions:
            return np.zeros_like(address), np.zeros(address.shape, np.bool_)
        if self._columns is None:
            self._columns = (
                np.array(self._addresses, np.int64),
                np.array([region.size for region in self._regions], np.int64),
                np.array([region.start for region in self._regions], np.int64) * self.page_size,
            )
        addresses, sizes, starts = self._columns
        at = np.maximum(np.searchsorted(addresses, address, side="right") - 1, 0)
        inside = address - addresses[at]
        mapped = (inside >= 0) & (inside < sizes[at])
        return np.where(mapped, starts[at] + inside, 0), mapped

    def region_of(self, page: int) -> Region:
        """The region that a page belongs to."""
        return self._ever[bisect_right(self._starts, page) - 1]
