"""Medians, robust spread and hierarchical bootstrap intervals over boots, runs and samples.

The unit that varies independently is the run, a fresh process; samples of one run share its
luck with physical pages and caches, and runs of one boot share the boot's. So the statistic of a
cell is the *median, or another quantile, over its runs of the median over each run's samples*, and
its interval comes from a bootstrap that draws boots, then runs, then samples, each with
replacement (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refbench.metrics import Metric
from refbench.samples import Measurement

Floats = npt.NDArray[np.float64]

REPLICATES = 4000
"""Bootstrap replicates: the end of a 99.9 % interval then has two of them beyond it."""
MAD_TO_SIGMA = 1.4826
"""Makes the median absolute deviation estimate the standard deviation of normal data."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one metric in one cell: ``boots[b][r]`` holds the samples of a run."""

    boots: tuple[tuple[Floats, ...], ...]

    @property
    def runs(self) -> tuple[Floats, ...]:
        """The samples of every run."""
        return tuple(run for boot in self.boots for run in boot)

    @property
    def flat(self) -> Floats:
        """All samples."""
        return np.concatenate(self.runs) if self.runs else np.empty(0)

    @property
    def medians(self) -> Floats:
        """The median of each run."""
        runs = self.runs
        if len({len(run) for run in runs}) == 1:
            stacked: Floats = np.median(np.stack(runs), axis=1)
            return stacked
        return np.array([np.median(run) for run in runs])

    @property
    def median(self) -> float:
        """The median of the runs' medians."""
        return self.quantile(0.5)

    def quantile(self, which: float) -> float:
        """A quantile of the runs' medians, between two of them by linear interpolation."""
        return float(np.quantile(self.medians, which))

    @property
    def spread(self) -> float:
        """Robust standard deviation between the runs' medians."""
        medians = self.medians
        return float(MAD_TO_SIGMA * np.median(np.abs(medians - np.median(medians))))


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether a counter that should be the same in every sample was; its range if not."""

    equal: bool
    low: float
    high: float


def values(measurement: Measurement, metric: Metric) -> Values | None:
    """The metric's values in all good runs, warm-up left out; ``None`` if a sample lacks it."""
    boots: dict[int, list[Floats]] = {}
    for run in measurement.good:
        found = [metric.value(sample) for sample in run.kept]
        numbers = [value for value in found if value is not None]
        if not found or len(numbers) != len(found):
            return None
        boots.setdefault(run.boot, []).append(np.array(numbers))
    return Values(tuple(tuple(runs) for runs in boots.values())) if boots else None


def agreement(values: Values) -> Agreement:
    """Whether all samples are equal."""
    flat = values.flat
    low, high = float(flat.min()), float(flat.max())
    return Agreement(low == high, low, high)


def generator(*parts: object) -> np.random.Generator:
    """A random generator whose seed is a hash of ``parts``: equal questions, equal answers."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def bootstrap(
    values: Values,
    random: np.random.Generator,
    replicates: int = REPLICATES,
    quantile: float = 0.5,
) -> Floats:
    """``replicates`` draws of :meth:`Values.quantile`."""
    if len(values.boots) == 1:
        pool = _Pool.of(values.runs)
        return _of_one_boot(pool, len(values.runs), random, replicates, quantile=quantile)
    return _of_boots(values, random, replicates, quantile)


def interval(draws: Floats, estimate: float, confidence: float) -> Interval:
    """The percentile interval of bootstrap draws."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high))


def median_interval(
    values: Values, random: np.random.Generator, confidence: float = 0.95
) -> Interval:
    """The statistic with its interval.

    With a single run the interval covers what happens within a process, nothing else.
    """
    return interval(bootstrap(values, random), values.median, confidence)


def runs_needed(confidence: float) -> int:
    """The least number of runs with which an interval for a median can have ``confidence``.

    The whole range of n values covers the median of their distribution with probability
    1 - 2 ** (1 - n): no interval made from them can promise more (Conover, Practical
    Nonparametric Statistics, 1999, section 3.2).
    """
    return math.ceil(1 - math.log2(1 - confidence))


@dataclass(frozen=True, slots=True)
class _Pool:
    """The distribution of one bootstrap draw: a run at random, then the median of its samples
    drawn with replacement. ``values`` ascend, ``below`` is their cumulative probability."""

    values: Floats
    below: Floats

    @classmethod
    def of(cls, runs: Sequence[Floats]) -> _Pool:
        medians, weights = [], []
        for run in runs:
            lower, upper, probability = _median_weights(len(run))
            ordered = np.sort(run)
            medians.append((ordered[lower] + ordered[upper]) / 2)
            weights.append(probability)
        pooled, weight = np.concatenate(medians), np.concatenate(weights)
        order = np.argsort(pooled, kind="stable")
        below = np.cumsum(weight[order])
        return cls(pooled[order], below / below[-1])

    def at(self, uniform: Floats) -> Floats:
        """Draws, one for each of the uniform numbers."""
        found: Floats = self.values[np.searchsorted(self.below, uniform)]
        return found


@functools.cache
def _median_weights(count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Floats]:
    """The exact distribution of the median of ``count`` draws from as many values.

    Pairs of ranks whose values' mean is the median (equal ranks where ``count`` is odd) and
    their probabilities. The k-th smallest draw is at most the i-th value with the probability
    that a binomial of ``count`` trials of i / count reaches k; for two neighbours, k draws are
    at most the i-th value and the others at least the j-th, each bound being met.
    """

    def reaches(k: int, i: int) -> float:
        share = i / count
        return sum(
            math.comb(count, hits) * share**hits * (1 - share) ** (count - hits)
            for hits in range(k, count + 1)
        )

    k = (count + 1) // 2
    alone = [reaches(k, i) - reaches(k, i - 1) for i in range(1, count + 1)]
    pairs = {(i, i): alone[i] for i in range(count)}
    if count % 2 == 0:
        for i in range(count):
            for j in range(i + 1, count):
                low = ((i + 1) / count) ** k - (i / count) ** k
                high = ((count - j) / count) ** k - ((count - j - 1) / count) ** k
                pairs[i, j] = math.comb(count, k) * low * high
                pairs[i, i] -= pairs[i, j]
    lower, upper = (np.array(side, dtype=np.intp) for side in zip(*pairs, strict=True))
    return lower, upper, np.maximum(np.array(list(pairs.values())), 0.0)


def _of_one_boot(
    pool: _Pool, count: int, random: np.random.Generator, replicates: int, *, quantile: float
) -> Floats:
    """Quantiles of ``count`` independent draws, without drawing them all.

    The draws' ranks are order statistics of uniform numbers: the k-th of n is Beta(k, n - k + 1),
    and given it, the next one is the least of the n - k that remain (David and Nagaraja, Order
    Statistics, 2003, section 2.5). That gives the same distribution for 1/n of the work.
    """
    below, share = divmod((count - 1) * quantile, 1)
    k = int(below) + 1
    lower = random.beta(k, count - k + 1, replicates)
    if not share:
        return pool.at(lower)
    upper = lower + (1 - lower) * random.beta(1, count - k, replicates)
    return (1 - share) * pool.at(lower) + share * pool.at(upper)


def _of_boots(
    values: Values, random: np.random.Generator, replicates: int, quantile: float
) -> Floats:
    """Quantiles over the runs of boots that are drawn with replacement, then runs within each."""
    counts = np.array([len(boot) for boot in values.boots])
    chosen = random.integers(len(counts), size=(replicates, len(counts)))
    drawn = random.random((replicates, len(counts), int(counts.max())))
    for boot, runs in enumerate(values.boots):
        drawn[chosen == boot] = _Pool.of(runs).at(drawn[chosen == boot])
    drawn[np.arange(drawn.shape[2]) >= counts[chosen][:, :, None]] = np.nan
    flat = np.sort(drawn.reshape(replicates, -1), axis=1)
    place = (np.count_nonzero(~np.isnan(flat), axis=1) - 1) * quantile
    below = place.astype(int)
    above = np.ceil(place).astype(int)
    rows = np.arange(replicates)
    low, high = flat[rows, below], flat[rows, above]
    drawn_quantiles: Floats = low + (place - below) * (high - low)
    return drawn_quantiles
