"""The figures that the reference page series was posted with, and the experiments behind them.

Data, with its source. ``refbench reproduce`` measures the same again and sets it beside them. The
letter of version 5 repeats version 4's figures with a program written for the older interface, so
version 4 is cited; version 2 has no figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

KIB = 1024


@dataclass(frozen=True, slots=True)
class Letter:
    """One posting of the series, with what its figures were taken on."""

    version: str
    date: str
    machine: str
    statistic: str
    """What of how many runs the figures are."""
    message: str = ""
    """Its Message-ID, where that is known."""

    @property
    def source(self) -> str:
        """One sentence for people."""
        name = f" <{self.message}>" if self.message else ""
        return f"{self.version}, {self.date}{name}: {self.machine}, {self.statistic}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a published table. ``seconds`` is text, so that it keeps its digits."""

    variant: str
    mechanism: str
    """What it is called here."""
    seconds: str
    peak: int | None
    """Maximum resident set size in KiB, None where the letter gives no number."""
    letter: Letter
    note: str = ""

    def figure(self, metric: str) -> float | None:
        """Seconds for ``time``, bytes for the peak of memory."""
        if metric == "time":
            return float(self.seconds)
        return None if self.peak is None else float(self.peak * KIB)


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that was measured under every variant.

    ``workload`` is it as published, ``quick`` a smaller form of it. A measurement belongs to the
    part whose ``options`` its workload has.
    """

    title: str
    workload: str
    quick: str
    lines: tuple[Line, ...]
    options: tuple[tuple[str, str], ...] = ()
    document: str = ""
    """The published input, which the workload's option ``pdf`` names; empty: it has none."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A claim of the series about a ratio of two mechanisms, with the range that meets it."""

    text: str
    metric: str
    over: str
    under: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """A published experiment, and how it is measured again."""

    name: str
    title: str
    about: str
    parts: tuple[Part, ...]
    metrics: tuple[str, ...]
    """What is set beside the published figures, and what else the tables show."""
    base: str
    """The variant that the published figures are divided by."""
    runs: int
    """Runs of a variant on a clock that has noise, as many as were published."""
    expectations: tuple[Expectation, ...] = ()
    mechanisms: tuple[str, ...] = ()
    """Compared beside those of the bench."""

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The letters that the figures are from."""
        lines = [line for part in self.parts for line in part.lines]
        return tuple(dict.fromkeys(line.letter for line in lines))


V1 = Letter(
    "v1",
    "2020-07-31",
    "Pixel 4, Linux 4.14, Scudo",
    "median of 100 runs",
    "20200731203241.50427-1-pcc@google.com",
)
V3 = Letter("v3", "2020-08", V1.machine, V1.statistic)
V4 = Letter("v4", "2021-06-19", "DragonBoard 845c", "median of 10 runs")

V4_MICROBENCH = Experiment(
    name="v4",
    title="The program of the series' version 4",
    about="Map 4,096,000 bytes, store in some of the pages, unmap; 1000 times.",
    parts=tuple(
        Part(
            f"store in {what}",
            f"v4-microbench:touch={touch}",
            f"v4-{touch}",
            (
                Line("memset", "memset", memset, peaks[0], V4, note),
                Line("refpage", "refpage", refpage, peaks[1], V4, note),
            ),
            (("touch", touch),),
        )
        for touch, what, memset, refpage, peaks, note in (
            ("one", "1 page", "3.962", "0.0267", (6656, 3448), ""),
            ("half", "half of the pages", "3.925", "1.481", (6696, 4580), ""),
            ("all", "all pages", "3.986", "3.385", (None, None), "equal, no number given"),
        )
    ),
    metrics=("time", "hwm"),
    base="memset",
    runs=10,
)

PDFIUM = Experiment(
    name="pdfium",
    title="PDFium under an allocator, of the series' version 1",
    about="pdfium_test --pages=1-100 DDI0487F_b_armv8_arm.pdf, whose allocator takes fresh memory"
    " as it comes (anon), fills it (memset) or has it from reference pages (refpage).",
    parts=(
        Part(
            "rendering",
            "pdfium",
            "pdfium-short",
            (
                Line("anon", "anon", "2.237081", 107088, V1),
                Line("memset", "memset", "2.252241", 112180, V1),
                Line(
                    "refpage",
                    "refpage",
                    "2.251220",
                    103504,
                    V1,
                    "the letter does not trust this number, because the patch miscounted",
                ),
                Line("refpage, v3", "refpage", "2.243786", 107128, V3),
            ),
            document="DDI0487F_b_armv8_arm.pdf",
        ),
    ),
    metrics=("time", "hwm", "cgroup-peak"),
    base="anon",
    runs=100,
    expectations=tuple(
        Expectation(f"{over}: {name} {text}", metric, over, "anon", low, high)
        for metric, name in (("hwm", "peak RSS"), ("cgroup-peak", "the memory cgroup's peak"))
        for over, text, low, high in (
            ("memset", "is about 5 % above anon's", 1.04, 1.06),
            ("refpage", "is within 0.1 % of anon's", 0.999, 1.001),
        )
    ),
    mechanisms=(
        "memset-malloc",
        "scudo:fill=none",
        "scudo:fill=zero",
        "scudo:fill=pattern",
        "glibc:perturb=no",
        "glibc:perturb=yes",
    ),
)
"""What is expected of memory is what the letter says of its own figures: an impact of 5 % for
memset, and that the true figure for reference pages is that of anon. How near counts as "about 5 %"
and as the same was fixed before anything was measured: within a fifth, and 0.1 %."""

EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {experiment.name: experiment for experiment in (PDFIUM, V4_MICROBENCH)}
)
