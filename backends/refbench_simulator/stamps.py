"""Stores, as arithmetic: which bytes one touch, or one write of the kernel, leaves where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd

import numpy as np
from numpy.typing import NDArray

from refbench_simulator.arrays import ascending

Addresses = NDArray[np.int64]

_COMPARED = 1 << 16
"""Bytes, or chosen places, up to which two stamps are compared one by one."""


class Places:
    """Numbers of places, ascending and each once; equal when the numbers are."""

    __slots__ = ("_hash", "numbers")

    def __init__(self, numbers: Addresses) -> None:
        self.numbers = ascending(np.asarray(numbers, dtype=np.int64))
        self.numbers.flags.writeable = False
        self._hash = hash(self.numbers.tobytes())

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Places) or self._hash != other._hash:
            return NotImplemented if not isinstance(other, Places) else False
        return np.array_equal(self.numbers, other.numbers)

    def __hash__(self) -> int:
        return self._hash

    def __len__(self) -> int:
        return int(self.numbers.size)

    def hold(self, wanted: Addresses) -> NDArray[np.bool_]:
        """Which of ``wanted`` are among them."""
        found = np.searchsorted(self.numbers, wanted)
        return np.equal(self.numbers[np.minimum(found, len(self) - 1)], wanted, dtype=np.bool_)


@dataclass(frozen=True)
class Stamp:
    """The bytes that one touch, or one write of the kernel, stores; all in byte addresses.

    Place i (0 <= i < ``count``, or only those in ``places``) stores ``value`` in the bytes
    from ``start + i * stride`` to ``size`` bytes later, but none from ``end`` on.
    ``size`` is at most ``stride``.
    """

    start: int
    stride: int
    count: int
    size: int
    end: int
    value: int
    places: Places | None = None

    def moved(self, by: int) -> Stamp:
        """The same stores ``by`` bytes higher, as mremap(2) takes them along."""
        return replace(self, start=self.start + by, end=self.end + by)

    @cached_property
    def low(self) -> int:
        """The first byte that it stores."""
        first = int(self.places.numbers[0]) if self.places else 0
        return self.start + first * self.stride

    @cached_property
    def high(self) -> int:
        """One behind the last byte that it stores; at most ``low`` when it stores nothing."""
        last = int(self.places.numbers[-1]) if self.places else self.count - 1
        return min(self.end, self.start + last * self.stride + self.size)

    @property
    def empty(self) -> bool:
        """Whether it stores nothing at all."""
        if not self.count or (self.places is not None and not self.places):
            return True
        return self.high <= self.low

    @property
    def solid(self) -> bool:
        """Whether it stores every byte between its first and its last."""
        return self.places is None and self.size >= min(self.stride, self.high - self.low)

    def normal(self) -> Stamp:
        """The one spelling for what stores the same bytes without a gap."""
        if not self.solid or self.empty:
            return self
        length = self.high - self.low
        return replace(self, stride=length, count=1, size=length, end=self.high)

    def same_bytes(self, other: Stamp) -> bool:
        """Whether both store to the same bytes, by their spelling."""
        return replace(self, value=other.value) == other

    def stores(self, addresses: Addresses) -> NDArray[np.bool_]:
        """Which of ``addresses`` it stores to."""
        inside = (addresses >= self.low) & (addresses < self.high)
        if self.solid:
            return inside
        far = addresses - self.start
        place = far // self.stride
        inside &= far - place * self.stride < self.size
        if self.places is not None:
            inside &= self.places.hold(place)
        return inside

    def hides(self, older: Stamp) -> bool:
        """Whether it stores to every byte of ``older``; may be False when that is hard to see."""
        if self.low > older.low or self.high < older.high:
            return False
        if self.solid:
            return True
        if older.size > self.size or (older.start - self.start) % self.stride:
            return False
        if older.count > 1 and older.stride % self.stride:
            return False
        return self.places is None or (
            self.start == older.start
            and self.stride == older.stride
            and self.places == older.places
        )

    def misses(self, other: Stamp) -> bool:
        """Whether no byte is stored to by both; may be False when that is hard to see."""
        if self.high <= other.low or other.high <= self.low:
            return True
        for one, another in ((self, other), (other, self)):
            if one.solid:
                few = one.high - one.low <= _COMPARED
                return few and not another.stores(np.arange(one.low, one.high)).any()
        step = gcd(self.stride, other.stride)
        apart = (other.start - self.start) % step
        if apart >= self.size and apart + other.size <= step:
            return True
        if self.places is None or other.places is None:
            return False
        if (self.start, self.stride) != (other.start, other.stride):
            return False
        few = max(len(self.places), len(other.places)) <= _COMPARED
        return few and not np.intersect1d(self.places.numbers, other.places.numbers).size
