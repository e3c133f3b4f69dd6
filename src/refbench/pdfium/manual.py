"""The generated document: a manual of 120 pages, the same to the byte on every run.

Twelve pages of contents, then chapters of twelve pages. Every page is set by itself from its
number: a recipe says which tables, figures, listings and images stand on it, and running text
fills the rest, so that pages are as full as those of an architecture manual.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refbench.pdfium import figures, pictures, prose
from refbench.pdfium.layout import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Column, register_fonts
from refbench.pdfium.prose import Numbers

PAGES = 120
CONTENTS = 12
CHAPTER = 12
"""Pages of the whole, of the contents, of a chapter."""
_TITLE = "Reference Manual of an Architecture That Does Not Exist"
_HEADINGS = 3
"""On every page of a chapter."""
_SETTINGS = {
    "invariant": 1,  # no time of writing, no random identifier
    "useA85": 0,  # streams as bytes, as publishers write them
    "ttfAsciiReadable": 1,
    "reserveTTFNotdef": 1,
    "pdfComments": 0,
    "pdfMultiLine": 0,
    "documentLang": None,
    "std14Embed": False,
}
"""The library's settings that change its output."""


def write(path: Path, pages: int = PAGES) -> None:
    """Write the first ``pages`` pages of the manual to ``path``."""
    from reportlab import rl_config
    from reportlab.pdfgen.canvas import Canvas

    # Said here, because a file or variables of the user's may say something else.
    for name, value in _SETTINGS.items():
        setattr(rl_config, name, value)
    register_fonts()
    canvas = Canvas(str(path), pagesize=(WIDTH, HEIGHT), pageCompression=1, pdfVersion=(1, 5))
    canvas.setTitle(_TITLE)
    canvas.setAuthor("refbench")
    canvas.showOutline()
    for page in range(pages):
        if page < CONTENTS:
            _contents(canvas, page, pages)
        else:
            _body(canvas, page)
        canvas.showPage()
    canvas.save()


def _headings(page: int) -> list[tuple[str, str, int]]:
    """Text, key and level of the headings of a page, which is known without setting it."""
    numbers = Numbers.of(1, page)
    chapter, inside = divmod(page - CONTENTS, CHAPTER)
    name = f"{chr(ord('A') + chapter)}{inside + 1}"
    return [
        (f"{name}.{index + 1}  {prose.title(numbers)}", f"s{page}.{index}", 0 if not index else 1)
        for index in range(_HEADINGS)
    ]


def _frame(canvas: Any, page: int, running: str) -> None:
    canvas.setFont("slanted", 7.2)
    canvas.drawString(LEFT, 806, running)
    canvas.drawRightString(RIGHT, 806, f"{prose.register(Numbers.of(2, page))} and related")
    canvas.setLineWidth(0.5)
    canvas.line(LEFT, 801, RIGHT, 801)
    canvas.line(LEFT, BOTTOM - 12, RIGHT, BOTTOM - 12)
    canvas.drawString(LEFT, BOTTOM - 22, f"RBM 0120 ({_TITLE})")
    canvas.drawRightString(RIGHT, BOTTOM - 22, f"{page + 1}")


def _contents(canvas: Any, page: int, pages: int) -> None:
    """Lines with dots that lead to page numbers, each a link."""
    column = Column(canvas, Numbers.of(3, page))
    _frame(canvas, page, "Contents")
    column.heading("Contents" if not page else f"Contents ({page + 1})", 15, f"c{page}", 0)
    entries = [
        (text, key, target)
        for target in range(CONTENTS, PAGES)
        for text, key, _ in _headings(target)
    ]
    share = -(-len(entries) // CONTENTS)
    for text, key, target in entries[page * share : (page + 1) * share]:
        column.y -= 14
        canvas.setFont("label", 8.4)
        canvas.drawString(LEFT, column.y, text)
        canvas.drawRightString(RIGHT, column.y, str(target + 1))
        if target < pages:
            canvas.linkRect("", key, (LEFT, column.y - 3, RIGHT, column.y + 9), relative=0)
        _dots(canvas, text, column.y)
    column.y -= 10
    while column.room > 30:
        column.prose(prose.paragraph(column.numbers, 4))


def _dots(canvas: Any, text: str, y: float) -> None:
    from refbench.pdfium.layout import width_of

    x = LEFT + width_of(text, "label", 8.4) + 6
    canvas.drawString(x, y, ". " * int((RIGHT - 24 - x) / width_of(". ", "label", 8.4)))


def _body(canvas: Any, page: int) -> None:
    numbers = Numbers.of(4, page)
    column = Column(canvas, numbers)
    headings = _headings(page)
    _frame(canvas, page, headings[0][0])
    for index, (text, key, level) in enumerate(headings):
        if index and column.room < 60:
            # The contents lead here, whether or not there is room for the heading.
            canvas.bookmarkPage(key)
            continue
        column.heading(text, 13 if not level else 10.5, key, level)
        column.prose(prose.paragraph(numbers, 2 + numbers.below(3)))
        _feature(column, (page + 5 * index) % 8)
    while column.room > 24:
        column.prose(prose.paragraph(numbers, 3 + numbers.below(4)))


def _feature(column: Column, which: int) -> None:
    """One of eight things that are not running text, where there is room for it."""
    numbers, canvas = column.numbers, column.canvas
    name = prose.register(numbers)
    match which:
        case 0 | 1 | 2 | 3:
            height, caption, draw = figures.FIGURES[which]
            if column.room > height + 40:
                column.figure(
                    height,
                    f"Figure {numbers.below(90) + 10}  {caption.format(name=name)}",
                    lambda x, y: draw(canvas, numbers, x, y),
                )
        case 4:
            if column.room > 120:
                _field_table(column, name)
        case 5:
            if column.room > 100:
                column.listing(prose.pseudocode(numbers, 12 + numbers.below(14)))
        case 6:
            if column.room > 80:
                column.bullets(prose.sentence(numbers) for _ in range(3 + numbers.below(4)))
        case _:
            if column.room > 260:
                _picture(column, name)


def _field_table(column: Column, name: str) -> None:
    numbers = column.numbers
    rows: list[tuple[str, ...]] = [("Bits", "Name", "Reset", "Meaning")]
    bit = 63
    while bit >= 0 and len(rows) < 12:
        low = max(0, bit - numbers.below(9))
        meaning = prose.sentence(numbers)
        reset = f"`0x{numbers.below(256):02X}`"
        rows.append((f"[{bit}:{low}]", f"`{prose.field(numbers)}`", reset, meaning))
        bit = low - 1
    column.table((42, 52, 42, 347), rows, f"Table {numbers.below(90) + 10}  Fields of {name}")


def _picture(column: Column, name: str) -> None:
    from reportlab.lib.utils import ImageReader

    numbers, canvas = column.numbers, column.canvas
    picture = (
        pictures.photograph(numbers, 720, 330)
        if numbers.below(2)
        else pictures.waveform(numbers, 960, 440)
    )
    column.figure(
        221,
        f"Figure {numbers.below(90) + 10}  Recorded while {name} was written",
        lambda x, y: canvas.drawImage(ImageReader(picture), x, y, figures.WIDTH, 221),
    )
