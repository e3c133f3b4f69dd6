"""Numbers as people read them: three significant digits and a unit."""

from __future__ import annotations

import math

from refbench.metrics import Metric
from refbench.words import Clock

INSTRUCTIONS = "instructions"
PER_SECOND = 1e9
"""Instructions in a second of the instruction clock."""
_TIME = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BINARY = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def digits(number: float) -> str:
    """Three significant digits, never in exponent notation."""
    if number == 0:
        return "0"
    places = 2 - math.floor(math.log10(abs(number)))
    rounded = round(number, places)
    places = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(places, 0)}f}"


def seconds(value: float) -> str:
    """``243 ms``."""
    for scale, unit in _TIME:
        if abs(value) >= scale * 0.9995:
            return f"{digits(value / scale)} {unit}"
    return "0 ns" if value == 0 else f"{digits(value / 1e-9)} ns"


def decimal(value: float) -> str:
    """``42.5 M``; below a thousand the number as it is."""
    for scale, unit in _DECIMAL:
        if abs(value) >= scale * 0.9995:
            return f"{digits(value / scale)} {unit}"
    return f"{value:g}"


def size(value: float) -> str:
    """``64.0 MiB``."""
    for scale, unit in _BINARY:
        if abs(value) >= scale * 0.9995:
            return f"{digits(value / scale)} {unit}"
    return f"{value:.0f} B"


def tick(text: str) -> str:
    """``80 ms`` from ``80.0 ms``: for axes, whose ticks are round numbers."""
    amount, _, unit = text.partition(" ")
    if "." in amount:
        amount = amount.rstrip("0").rstrip(".")
    return f"{amount} {unit}".rstrip()


def number(value: float) -> str:
    """``16387``; half numbers, which medians of counts can be, with one decimal."""
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def unit(metric: Metric, clock: str) -> str:
    """What people are told values of ``metric`` in: its own unit, but for the seconds of the
    instruction clock, on which a nanosecond is an instruction and nothing is a second."""
    counted = metric.unit == "seconds" and clock == Clock.INSTRUCTIONS.value
    return INSTRUCTIONS if counted else metric.unit


def amount(metric: Metric, value: float, clock: str) -> float:
    """``value``, which is in the metric's own unit, in that of :func:`unit`."""
    return value * PER_SECOND if unit(metric, clock) == INSTRUCTIONS else value


def text(unit: str, value: float) -> str:
    """An amount with its unit: ``243 ms``, ``64.0 MiB``, ``42.5 M`` instructions, ``1026``."""
    if unit == "seconds":
        return seconds(value)
    if unit == INSTRUCTIONS:
        return decimal(value)
    return size(value) if unit == "bytes" else number(value)


def show(metric: Metric, value: float, clock: str) -> str:
    """``value`` of ``metric``, which is in the metric's own unit, as people are told it."""
    return text(unit(metric, clock), amount(metric, value, clock))


def title(metric: Metric, clock: str) -> str:
    """The heading of a column: what is no measured time never says just "time"."""
    if metric.kind == "time":
        head = metric.part or metric.title
        if clock == Clock.INSTRUCTIONS.value:
            return f"{head} (instr.)"
        if clock == Clock.MODELLED.value:
            return f"{head} (model)"
        return head
    return metric.title
