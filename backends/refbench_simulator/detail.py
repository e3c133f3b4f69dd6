"""How finely a program's pages are told apart, and the wish for more of it.

Folding, and taking random touches in ascending order, are right as long as all copies fare alike
and nothing depends on the order. Where the model finds out that they do not (at
``vm.max_map_count``, at a signal), it raises :class:`Finer`, and the session works the cell out
again from the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MOST_CUTS = 32
"""Places at which folds are broken up before the region is told apart as a whole."""


class Finer(Exception):
    """Copies of a folded stretch differ, or an order matters that was not kept.

    ``region``: where; none: everywhere. ``page``: the number of the page near which the copies
    begin to differ; none: they must not be folded at all.
    """

    def __init__(self, region: int | None = None, page: int | None = None) -> None:
        super().__init__(region, page)
        self.region, self.page = region, page


@dataclass(frozen=True, slots=True)
class Detail:
    """What is told apart beyond what the program itself asks for."""

    ordered: bool = False
    """Random touches keep their order, however many there are."""
    whole: bool = False
    """All places of random touches are looked at, also where a limit should come before."""
    unfolded: frozenset[int] = frozenset()
    """Regions that are not folded."""
    cuts: frozenset[tuple[int, int]] = frozenset()
    """Regions and pages, by their number in the address space, near which nothing is folded."""

    def finer(self, wish: Finer) -> Detail:
        """What ``wish`` asks for, and what was there before."""
        if wish.region is None:
            return replace(self, ordered=True, whole=self.ordered)
        cut = (wish.region, wish.page or 0)
        if wish.page is None or cut in self.cuts or len(self.cuts) >= MOST_CUTS:
            return replace(self, unfolded=self.unfolded | {wish.region})
        return replace(self, cuts=self.cuts | {cut})
