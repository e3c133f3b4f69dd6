"""The plots of the HTML report, as SVG that takes its ink from the page's style sheet."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    MultipleLocator,
    NullFormatter,
    NullLocator,
)

from refbench import metrics, readings, statistics
from refbench.report import palette, units
from refbench.report.summary import Block, Row
from refbench.samples import Measurement

INK, GRID = "#111213", "#a1a2a3"
"""Stand-ins that become the style sheet's ``--ink`` and ``--grid``."""
LOG_FROM = 12.0
"""Axes whose values span more than this factor are logarithmic."""
HALF, WIDE = 6.7, 13.8
"""Inches: two plots of half the page's width beside one another, or one of the whole."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "refbench",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


def scatter(block: Block, clock: str, page_size: int) -> str:
    """Memory lost against time, a marker a mechanism, with what both are uncertain by."""
    rows = [row for row in _good(block) if "lost" in row.figures]
    marks = palette.markers(row.cell.mechanism for row in block.rows)
    least = metrics.find("lost").resolution(page_size)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        hidden = any(row.figures["lost"].value < least for row in rows)
        for row in rows:
            _point(axes, row, marks[row.cell.mechanism], least)
        _scale(axes, "x", [row.figures["time"].value for row in rows], clock)
        _scale_bytes(axes, [max(row.figures["lost"].value, least) for row in rows])
        if hidden:
            bottom = axes.get_ylim()[0]
            axes.axhspan(bottom, least, color=GRID, alpha=0.18, linewidth=0, zorder=0)
            axes.set_ylim(bottom=bottom)
        axes.set_xlabel(_time_label(clock))
        axes.set_ylabel("memory lost")
        figure.legend(loc="outside right upper", fontsize=9, handletextpad=0.3)

    return _svg(draw, HALF, 3.9)


def phases(block: Block, clock: str) -> str:
    """Time per phase: stacked on a linear axis, and each by itself on a logarithmic one."""
    rows = list(reversed(_good(block)))
    names = [name for name in block.phases if name != readings.SETUP]

    def draw(figure: Figure) -> None:
        stacked, single = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        _stack(stacked, rows, names, clock)
        for at, row in enumerate(rows):
            for step, name in enumerate(names):
                shown = row.figures.get(f"time.{name}")
                if shown is not None and shown.value > 0:
                    place = at + (len(names) - 1 - 2 * step) * 0.3 / len(names)
                    error = [[shown.value - shown.low], [shown.high - shown.value]]
                    single.errorbar(
                        shown.value, place, xerr=error, fmt="o", markersize=4.5,
                        color=palette.phase(name), elinewidth=1.3,
                    )  # fmt: skip
        found = [row.figures[f"time.{n}"].value for row in rows for n in names if _has(row, n)]
        _scale(single, "x", found, clock, force_log=True)
        single.set_title("each phase, logarithmic")
        single.tick_params(axis="y", length=0)
        for at in range(1, len(rows)):
            single.axhline(at - 0.5, color=GRID, alpha=0.35, linewidth=0.7)
        single.grid(axis="y", visible=False)
        handles, texts = stacked.get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside upper left", ncols=len(names), fontsize=9)

    return _svg(draw, WIDE, 1.75 + 0.36 * len(rows))


def traps(block: Block) -> str:
    """Traps: faults, and the SIGBUS and SIGSEGV rounds beside them."""
    rows = list(reversed(_good(block)))
    kinds = (("faults", "#4477aa", "o"), ("sigbus", "#ee6677", "s"), ("sigsegv", "#228833", "D"))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for at, row in enumerate(rows):
            total = row.figures["traps"].value
            axes.plot([0.5, max(total, 0.5)], [at, at], color=GRID, linewidth=1.2, zorder=1)
            axes.annotate(
                row.figures["traps"].text, (max(total, 0.5), at), xytext=(9, 0),
                textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        for name, colour, mark in kinds:
            points = [(row.figures[name].value, at) for at, row in enumerate(rows)]
            points = [(value, at) for value, at in points if value > 0]
            if points:
                places, heights = zip(*points, strict=True)
                label = metrics.find(name).title
                axes.plot(places, heights, mark, color=colour, markersize=6, label=label)
        axes.set_xscale("log")
        axes.set_xlim(0.5, 6 * max(1.0, *(row.figures["traps"].value for row in rows)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: units.tick(units.decimal(x))))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _mechanisms(axes, rows)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("count; the number at the end is the traps, their sum")
        figure.legend(loc="outside upper left", ncols=3, fontsize=9)

    return _svg(draw, HALF, 1.75 + 0.32 * len(rows))


def strips(block: Block, members: Mapping[str, Measurement], clock: str) -> str:
    """Every sample's total time, runs side by side; the bar is the median."""
    rows = list(reversed(_good(block)))
    metric = metrics.find("time")
    scale = units.amount(metric, 1.0, clock)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        everything: list[float] = []
        for at, row in enumerate(rows):
            values = statistics.values(members[row.cell.key], metric)
            assert values is not None
            colour = palette.mechanism(row.cell.mechanism)
            for number, run in enumerate(values.runs):
                place = at - 0.33 + 0.66 * (number + 0.5) / len(values.runs)
                axes.plot(run * scale, [place] * len(run), "o", markersize=2.6, color=colour,
                          alpha=0.65, markeredgewidth=0)  # fmt: skip
            axes.plot([values.median * scale] * 2, [at - 0.4, at + 0.4], color=INK, linewidth=1.6)
            everything += (values.flat * scale).tolist()
        _scale(axes, "x", everything, clock)
        _mechanisms(axes, rows)
        axes.set_xlabel(_time_label(clock))

    return _svg(draw, WIDE, 0.9 + 0.42 * len(rows))


# -- parts -------------------------------------------------------------------------------------


def _good(block: Block) -> list[Row]:
    return [row for row in block.rows if "time" in row.figures]


def _has(row: Row, phase: str) -> bool:
    return f"time.{phase}" in row.figures and row.figures[f"time.{phase}"].value > 0


def _point(axes: Axes, row: Row, mark: str, least: float) -> None:
    time, lost = row.figures["time"], row.figures["lost"]
    y = max(lost.value, least * 0.75)
    axes.errorbar(
        time.value,
        y,
        xerr=[[time.value - time.low], [time.high - time.value]],
        yerr=[[max(y - max(lost.low, least * 0.75), 0)], [max(lost.high - y, 0)]],
        fmt=mark,
        markersize=8,
        color=palette.mechanism(row.cell.mechanism),
        ecolor=INK,
        elinewidth=0.8,
        label=row.cell.mechanism,
    )


def _stack(axes: Axes, rows: Sequence[Row], names: Sequence[str], clock: str) -> None:
    base = np.zeros(len(rows))
    places = np.arange(len(rows))
    for name in names:
        widths = np.array([row.figures[f"time.{name}"].value if _has(row, name) else 0.0
                           for row in rows])  # fmt: skip
        axes.barh(places, widths, 0.62, left=base, color=palette.phase(name), label=name,
                  linewidth=0)  # fmt: skip
        base += widths
    for at, row in enumerate(rows):
        total = row.figures["time"]
        low, high = total.value - total.low, total.high - total.value
        axes.errorbar(total.value, at, xerr=[[low], [high]], fmt="none", ecolor=INK,
                      elinewidth=1.1, capsize=2.5)  # fmt: skip
        axes.annotate(total.text, (max(total.high, base[at]), at), xytext=(6, 0), fontsize=9,
                      textcoords="offset points", va="center")  # fmt: skip
    highest = max(*(row.figures["time"].high for row in rows), float(base.max()))
    axes.set_xlim(0, highest * 1.22)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(_formatter(clock))
    axes.set_title(f"{_time_label(clock)}, stacked")
    axes.grid(axis="y", visible=False)
    _mechanisms(axes, rows)


def _mechanisms(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row.cell.mechanism for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)


def _time_label(clock: str) -> str:
    return {"instructions": "instructions", "modelled": "modelled time"}.get(clock, "time")


def _formatter(clock: str) -> FuncFormatter:
    unit = units.unit(metrics.find("time"), clock)
    return FuncFormatter(lambda value, _: units.tick(units.text(unit, value)) if value else "0")


def _scale(
    axes: Axes, which: str, values: Sequence[float], clock: str, *, force_log: bool = False
) -> None:
    """A time axis that is logarithmic where the values span much."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = min(values), max(values)
    if force_log or high / low > LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.7, high * 1.7)
        decades = math.log10(high / low)
        subs = (1.0, 2.0, 5.0) if decades < 1.6 else (1.0,)
        axis.set_major_locator(LogLocator(10, subs=subs, numticks=12))
        axis.set_minor_formatter(NullFormatter())
    else:
        margin = (high - low) * 0.12 or high * 0.1
        axes.set_xlim(max(0.0, low - margin), high + margin)
        axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(_formatter(clock))


def _scale_bytes(axes: Axes, values: Sequence[float]) -> None:
    """An axis of bytes with ticks at powers of two, logarithmic where the values span much."""
    low, high = min(values), max(values)
    if high / low > 4:
        axes.set_yscale("log", base=2)
        axes.set_ylim(low / 1.8, high * 1.8)
        axes.yaxis.set_major_locator(LogLocator(2 if high / low < 32 else 4, numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, high * 1.15)
        axes.yaxis.set_major_locator(MultipleLocator(2 ** math.floor(math.log2(high / 3))))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: units.tick(units.size(value)) if value else "0")
    )


def _svg(draw: Callable[[Figure], None], width: float, height: float) -> str:
    """The SVG element of a figure, with the page's colours."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    return text.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")


def with_ids(svg: str, prefix: str) -> str:
    """``svg`` with ids that are unique in a page that holds several."""
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", svg)
