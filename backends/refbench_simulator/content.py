"""What the modelled pages hold: a base content and the stores on top of it, looked at lazily.

No byte of a page is kept. A content is a number that stands for a base (zeroes, the pattern,
some other page) and for the stamps that were put on it, oldest first; which byte lies at an
address follows by arithmetic when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refbench_simulator.comparing import Bytes, Comparison, Probe, Wrong, joined
from refbench_simulator.stamps import Addresses, Places, Stamp

__all__ = ["PATTERN", "ZERO", "Contents", "Places", "Probe", "Stamp", "Wrong"]

Ids = NDArray[np.int32]

ZERO = 0
"""The content of a page of zeroes."""
PATTERN = 1
"""The content of a page as the cell's pattern has it."""


class Contents:
    """All contents that came up, by number; equal histories have equal numbers.

    ``pattern`` is a page of the pattern, ``page_size`` bytes.
    """

    def __init__(self, page_size: int, pattern: bytes) -> None:
        if len(pattern) != page_size:
            raise ValueError(f"a pattern of {len(pattern)} bytes for pages of {page_size}")
        self.page_size = page_size
        self._bases = [np.zeros(page_size, np.uint8), np.frombuffer(pattern, np.uint8)]
        self._images: dict[bytes, int] = {}
        self._stamps: list[Stamp] = []
        self._numbers: dict[Stamp, int] = {}
        self._base: list[int] = [ZERO, PATTERN]
        self._history: list[tuple[int, ...]] = [(), ()]
        self._ids: dict[tuple[int, tuple[int, ...]], int] = {(ZERO, ()): ZERO, (PATTERN, ()): 1}
        self._after: dict[tuple[int, int], int] = {}
        self._misses = lru_cache(maxsize=1 << 16)(self._look_whether_they_miss)

    def __len__(self) -> int:
        return len(self._base)

    def image(self, page: bytes) -> int:
        """The number of a content that is neither zero nor the pattern: ``page_size`` bytes."""
        if page not in self._images:
            self._bases.append(np.frombuffer(page, np.uint8))
            self._images[page] = self._intern(len(self._bases) - 1, ())
        return self._images[page]

    def stamped(self, ids: Ids, stamp: Stamp) -> Ids:
        """What contents become by a store: an array of numbers, of the shape of ``ids``.

        ``stamp`` may store outside the pages that have these contents as well: what counts at
        an address is whether it stores there.
        """
        stamp = stamp.normal()
        if stamp.empty or not ids.size:
            return ids
        number = self._number(stamp)
        return self._each(ids, lambda one: self._stamp_one(one, number))

    def moved(self, ids: Ids, by: int) -> Ids:
        """What contents are called after their pages were moved ``by`` bytes, whole pages."""
        if not by or not ids.size:
            return ids
        return self._each(ids, lambda one: self._move_one(one, by))

    def read(self, content: int, addresses: Addresses) -> Bytes:
        """The bytes at ``addresses``, of their shape, in pages that have this content."""
        found = self.base(content)[addresses % self.page_size]
        for stamp in self.stamps(content):
            found[stamp.stores(addresses)] = stamp.value
        return found

    def base(self, content: int) -> Bytes:
        """The page, ``page_size`` bytes, below the stamps of a content."""
        return self._bases[self._base[content]]

    def stamps(self, content: int) -> list[Stamp]:
        """The stamps of a content, oldest first."""
        return [self._stamps[number] for number in self._history[content]]

    def mismatches(
        self,
        ids: ArrayLike,
        first_page: ArrayLike,
        pages: ArrayLike,
        probe: Probe,
        wanted: Bytes,
        *,
        copies: ArrayLike = 1,
        period: ArrayLike = 0,
    ) -> Wrong:
        """Compare what pages hold with ``wanted``, one page of it, ``page_size`` bytes.

        All arguments but ``probe`` and ``wanted`` are columns over runs of pages, or single
        numbers: a run holds content ``ids`` in ``pages`` pages from number ``first_page`` on,
        ``copies`` times, ``period`` pages apart. No page is in two runs. The counts are those
        of check.c of the agent, had it read all runs by ascending address.
        """
        given = (ids, first_page, pages, copies, period)
        columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, np.int64)) for x in given))
        if not columns[0].size:
            return Wrong(0)
        comparison = Comparison(self.page_size, probe, wanted)
        order = np.argsort(columns[0], kind="stable")
        found, starts = np.unique(columns[0][order], return_index=True)
        parts = []
        for content, mine in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
            runs = [column[mine] for column in columns[1:]]
            parts.append(comparison.of(self.base(content), self.stamps(content), *runs))
        return joined(parts)

    def _each(self, ids: Ids, change: Callable[[int], int]) -> Ids:
        if ids.size == 1:
            return np.full_like(ids, change(int(ids.flat[0])))
        if ids.size * 8 < len(self):
            unique, where = np.unique(ids, return_inverse=True)
            changed = np.array([change(one) for one in unique.tolist()], np.int32)
            return changed[where].reshape(ids.shape)
        there = np.zeros(len(self), np.bool_)
        there[ids] = True
        table = np.zeros(there.size, np.int32)
        for one in np.flatnonzero(there).tolist():
            table[one] = change(one)
        return table[ids]

    def _number(self, stamp: Stamp) -> int:
        number = self._numbers.setdefault(stamp, len(self._stamps))
        if number == len(self._stamps):
            self._stamps.append(stamp)
        return number

    def _intern(self, base: int, history: tuple[int, ...]) -> int:
        found = self._ids.setdefault((base, history), len(self._base))
        if found == len(self._base):
            self._base.append(base)
            self._history.append(history)
        return found

    def _stamp_one(self, content: int, number: int) -> int:
        found = self._after.get((content, number))
        if found is None:
            history = self._put(self._history[content], number)
            found = self._after[content, number] = self._intern(self._base[content], history)
        return found

    def _put(self, history: tuple[int, ...], number: int) -> tuple[int, ...]:
        """A history with one more stamp, as short as it can be.

        A program that repeats itself must come back to the histories that it had: a stamp
        takes the place of an older one for the same bytes when nothing in between stored to
        any of them, else goes last; what it hides is dropped.
        """
        stamp = self._stamps[number]
        before = [i for i, old in enumerate(history) if stamp.same_bytes(self._stamps[old])]
        if before and all(self._agree(number, later) for later in history[before[0] + 1 :]):
            return (*history[: before[0]], number, *history[before[0] + 1 :])
        kept = tuple(old for old in history if not stamp.hides(self._stamps[old]))
        return (*kept, number)

    def _agree(self, number: int, later: int) -> bool:
        """Whether it is all the same which of two stamps comes first."""
        return self._stamps[number].value == self._stamps[later].value or self._misses(
            min(number, later), max(number, later)
        )

    def _look_whether_they_miss(self, one: int, other: int) -> bool:
        return self._stamps[one].misses(self._stamps[other])

    def _move_one(self, content: int, by: int) -> int:
        moved = (self._number(stamp.moved(by)) for stamp in self.stamps(content))
        return self._intern(self._base[content], tuple(moved))
