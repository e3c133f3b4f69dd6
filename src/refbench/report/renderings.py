"""What an executed program said of itself: its bitmaps, and whose memory it used.

Two renderings are the same when the digests of all their bitmaps are: variants that draw
different things have not done the same work. A run whose memory came from elsewhere says nothing
about the mechanism; it has failed already (:func:`refbench.execution.refuse_other_memory`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from refbench.execution import PRIVATE, SUPPLIED
from refbench.samples import Measurement, Sample

_HASH = re.compile(r"page-(\d+)-hash\Z")


@dataclass(frozen=True, slots=True)
class Bitmaps:
    """The bitmaps of all renderings of one part, warm-ups included."""

    pages: int
    renderings: int
    mechanisms: int
    different: tuple[str, ...]
    """The mechanisms with a bitmap that is not the most frequent one of its page."""
    different_pages: tuple[int, ...]

    @property
    def identical(self) -> bool:
        """Whether all renderings are the same to the byte."""
        return not self.different


def bitmaps(measurements: Sequence[Measurement]) -> Bitmaps | None:
    """Compare the bitmaps of all renderings; None when there are none."""
    drawn = [
        (measurement.cell.mechanism, digests)
        for measurement in measurements
        for sample in _samples(measurement)
        if (digests := _digests(sample))
    ]
    if not drawn:
        return None
    pages = sorted({page for _, digests in drawn for page in digests})
    different: dict[str, None] = {}
    wrong = []
    for page in pages:
        seen = [digests.get(page) for _, digests in drawn]
        usual = max(seen, key=seen.count)
        others = [name for (name, _), digest in zip(drawn, seen, strict=True) if digest != usual]
        if others:
            wrong.append(page)
            different.update(dict.fromkeys(others))
    names = {name for name, _ in drawn}
    return Bitmaps(len(pages), len(drawn), len(names), tuple(different), tuple(wrong))


def share(measurement: Measurement) -> float | None:
    """The least share of private memory, 0 to 1, that came from the mechanism in any sample.

    None where nothing of ours was asked for memory: an allocator that comes as it is, or no
    executed program.
    """
    found = [
        sample.values[SUPPLIED] / sample.values[PRIVATE]
        for sample in _samples(measurement)
        if sample.values.get(PRIVATE) and SUPPLIED in sample.values
    ]
    return min(found, default=None)


def _samples(measurement: Measurement) -> list[Sample]:
    return [sample for run in measurement.good for sample in run.samples]


def _digests(sample: Sample) -> dict[int, int]:
    return {
        int(match[1]): value
        for name, value in sample.values.items()
        if (match := _HASH.match(name))
    }
