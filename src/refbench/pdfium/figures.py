"""The vector figures of the manual: bit fields, blocks with arrows, curves, page table trees."""

from __future__ import annotations

import math
from typing import Any

from refbench.pdfium import prose
from refbench.pdfium.prose import Numbers

WIDTH = 483.0
"""Points; all figures are as wide as the column."""


def bit_field(canvas: Any, numbers: Numbers, x: float, y: float) -> None:
    """A 64-bit register as two rows of 32 cells with its fields; 92 points high."""
    cell = WIDTH / 32
    canvas.setLineWidth(0.6)
    for row in range(2):
        base = y + 56 - row * 52
        bit = 32
        while bit:
            span = min(bit, 1 + numbers.below(7))
            bit -= span
            left = x + WIDTH - (bit + span) * cell
            if numbers.below(4) == 0:
                canvas.setFillColorRGB(0.88, 0.88, 0.88)
                canvas.rect(left, base, span * cell, 18, stroke=0, fill=1)
                canvas.setFillColorRGB(0, 0, 0)
            canvas.rect(left, base, span * cell, 18)
            canvas.setFont("label", 5.6)
            top = 63 - 32 * row - (31 - bit)
            canvas.drawString(left + 1, base + 21, str(top))
            name = prose.field(numbers)
            if span * cell > 7 + 4 * len(name):
                canvas.setFont("label", 6.6)
                canvas.drawCentredString(left + span * cell / 2, base + 6, name)
            else:
                canvas.line(left + span * cell / 2, base, left + span * cell / 2, base - 5)
                canvas.setFont("label", 5)
                canvas.drawCentredString(left + span * cell / 2, base - 11, name)
        for tick in range(1, 32):
            canvas.line(x + tick * cell, base, x + tick * cell, base + 2)


def blocks(canvas: Any, numbers: Numbers, x: float, y: float) -> None:
    """Units as boxes, joined by curved arrows; 170 points high."""
    places = [(column, row) for column in range(5) for row in range(4)]
    canvas.setStrokeColorRGB(0.35, 0.35, 0.35)
    canvas.setLineWidth(0.5)
    for column, row in places:
        for _ in range(2):
            to_column, to_row = numbers.among(places)
            if (to_column, to_row) != (column, row):
                _arrow(canvas, x + column * 99 + 78, y + row * 44 + 13,
                       x + to_column * 99, y + to_row * 44 + 5 + numbers.below(16))  # fmt: skip
    canvas.setStrokeColorRGB(0.2, 0.2, 0.45)
    for column, row in places:
        left, base = x + column * 99, y + row * 44
        shade = 0.84 + numbers.below(14) / 100
        canvas.setFillColorRGB(shade, shade, 0.98)
        canvas.roundRect(left, base, 78, 26, 4, stroke=1, fill=1)
        canvas.setFillColorRGB(0, 0, 0)
        canvas.setFont("label", 6.2)
        canvas.drawCentredString(left + 39, base + 15, numbers.among(prose.UNITS))
        canvas.setFont("code", 5.2)
        canvas.drawCentredString(left + 39, base + 6, prose.register(numbers))


def _arrow(canvas: Any, x: float, y: float, to_x: float, to_y: float) -> None:
    bend = 14.0 if to_x >= x else 26.0
    canvas.bezier(x, y, x + bend, y, to_x - bend, to_y, to_x - 3, to_y)
    head = canvas.beginPath()
    head.moveTo(to_x, to_y)
    head.lineTo(to_x - 4, to_y + 2)
    head.lineTo(to_x - 4, to_y - 2)
    head.close()
    canvas.drawPath(head, stroke=0, fill=1)


def curves(canvas: Any, numbers: Numbers, x: float, y: float) -> None:
    """A plot of five series of 240 points with a grid and a legend; 150 points high."""
    canvas.setLineWidth(0.25)
    canvas.setStrokeColorRGB(0.8, 0.8, 0.8)
    for step in range(13):
        canvas.line(x + 30 + step * 37, y + 14, x + 30 + step * 37, y + 146)
        canvas.line(x + 30, y + 14 + step * 11, x + 474, y + 14 + step * 11)
        canvas.setFont("label", 5)
        canvas.drawRightString(x + 27, y + 12 + step * 11, f"{step * 0.25:.2f}")
        canvas.drawCentredString(x + 30 + step * 37, y + 6, f"2^{step + 4}")
    for series in range(5):
        canvas.setStrokeColorRGB(0.15 * series, 0.5 - 0.1 * series, 0.9 - 0.17 * series)
        canvas.setLineWidth(0.8)
        path = canvas.beginPath()
        phase, speed = numbers.below(628) / 100, 1 + numbers.below(80) / 10
        for point in range(240):
            t = point / 239
            noise = numbers.below(1000) / 1000
            height = 0.5 + 0.3 * math.sin(speed * t + phase) * (1 - t / 2) + 0.08 * noise
            place = (round(x + 30 + 444 * t, 3), round(y + 14 + 132 * height, 3))
            if point:
                path.lineTo(*place)
            else:
                path.moveTo(*place)
        canvas.drawPath(path)
        canvas.line(x + 380, y + 138 - 9 * series, x + 396, y + 138 - 9 * series)
        canvas.setFont("mathematics", 7)
        canvas.drawString(x + 400, y + 136 - 9 * series, f"λ{series + 1}(ω) ≤ ∑ Δ·τ")


def tree(canvas: Any, numbers: Numbers, x: float, y: float) -> None:
    """Tables of a translation walk and the entries that lead from one to the next; 190 high."""
    canvas.setLineWidth(0.4)
    previous: list[float] = [y + 95]
    for level in range(4):
        left = x + 8 + level * 118
        entries: list[float] = []
        for row in range(24):
            base = y + 4 + row * 7.6
            shade = 1 - numbers.below(4) * 0.07
            canvas.setFillColorRGB(shade, shade, 1)
            canvas.rect(left, base, 74, 7.6, stroke=1, fill=1)
            canvas.setFillColorRGB(0, 0, 0)
            canvas.setFont("code", 4.6)
            canvas.drawString(left + 3, base + 2.2, f"{numbers.next() >> 16:012x} L{level}")
            if numbers.below(5) == 0:
                entries.append(base + 3.8)
        canvas.setStrokeColorRGB(0.3, 0.3, 0.3)
        for place in previous:
            target = numbers.among(entries or [y + 95.0])
            if level:
                _arrow(canvas, left - 44, place, left, target)
        previous = entries or previous


FIGURES = (
    (92.0, "Bit assignments of {name}", bit_field),
    (170.0, "Units that take part in {name}", blocks),
    (150.0, "Relative latency under {name}", curves),
    (190.0, "Translation walk with {name}", tree),
)
"""Height in points, caption, how it is drawn."""
