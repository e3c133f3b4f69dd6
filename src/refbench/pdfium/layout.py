"""A page of the manual while it is set: fonts, a column with a cursor, and what stands in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from refbench.errors import UsageError
from refbench.pdfium.prose import Numbers, marked_words

WIDTH, HEIGHT = 595.0, 842.0
"""ISO A4 in points."""
LEFT, RIGHT, TOP, BOTTOM = 62.0, 545.0, 780.0, 58.0
"""The column that text stands in."""
FONTS = {
    "plain": "DejaVuSerif.ttf",
    "strong": "DejaVuSerif-Bold.ttf",
    "emphasis": "DejaVuSerif-Italic.ttf",
    "code": "DejaVuSansMono.ttf",
    "label": "DejaVuSans.ttf",
    "heading": "DejaVuSans-Bold.ttf",
    "slanted": "DejaVuSans-Oblique.ttf",
    "mathematics": "STIXGeneral.ttf",
}
"""The styles of the manual and the fonts of matplotlib's package that they are embedded from."""
BLUE = (0.0, 0.29, 0.55)
GREY = (0.93, 0.94, 0.96)


def font_files() -> tuple[Path, ...]:
    """The fonts, from matplotlib's package, which is not imported for it.

    :raises UsageError: when the package does not have them.
    """
    found = importlib.util.find_spec("matplotlib")
    places = found.submodule_search_locations if found else None
    folder = Path(next(iter(places or ["matplotlib"]))) / "mpl-data" / "fonts" / "ttf"
    files = tuple(folder / name for name in FONTS.values())
    for file in files:
        if not file.is_file():
            raise UsageError(
                f"The font {file.name} that the document is set in is not in {folder}.",
                remedy="Install matplotlib again, or give a document of your own with pdf=PATH.",
            )
    return files


def register_fonts() -> None:
    """Make the styles known to the library that writes the document."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    for style, file in zip(FONTS, font_files(), strict=True):
        pdfmetrics.registerFont(TTFont(style, str(file)))


def width_of(text: str, style: str, size: float) -> float:
    """Points that ``text`` takes."""
    from reportlab.pdfbase import pdfmetrics

    return float(pdfmetrics.stringWidth(text, style, size))


class Column:
    """What has been set so far on one page; ``y`` is where the next thing goes, downwards."""

    def __init__(self, canvas: Any, numbers: Numbers) -> None:
        self.canvas = canvas
        self.numbers = numbers
        self.y = TOP

    @property
    def room(self) -> float:
        """Points that are left."""
        return self.y - BOTTOM

    def heading(self, text: str, size: float, key: str, level: int) -> None:
        """A heading that links and the outline lead to."""
        self.y -= size * 1.7
        self.canvas.setFillColorRGB(*BLUE)
        self.canvas.setFont("heading", size)
        self.canvas.drawString(LEFT, self.y, text)
        self.canvas.setFillColorRGB(0, 0, 0)
        self.canvas.bookmarkHorizontalAbsolute(key, self.y + size)
        self.canvas.addOutlineEntry(text, key, level=level, closed=level == 0)
        self.y -= 6

    def line(self, words: Iterable[tuple[str, str]], x: float, size: float) -> None:
        """One line of styled words at ``x`` and the cursor."""
        text = self.canvas.beginText(x, self.y)
        run: list[str] = []
        current = ""
        for word, style in words:
            if style != current:
                if run:
                    text.textOut(" ".join(run) + " ")
                text.setFont(style, size if style != "code" else size - 0.6)
                run, current = [], style
            run.append(word)
        text.textOut(" ".join(run))
        self.canvas.drawText(text)

    def prose(
        self, text: str, *, indent: float = 0, size: float = 8.6, width: float = RIGHT - LEFT
    ) -> None:
        """A paragraph, as much of it as there is room for."""
        for words in wrapped(text, width - indent, size):
            if self.room < size * 1.4:
                return
            self.y -= size * 1.36
            self.line(words, LEFT + indent, size)
        self.y -= size * 0.6

    def bullets(self, texts: Iterable[str]) -> None:
        """A list, each item with a dot of its own."""
        for text in texts:
            if self.room < 14:
                return
            top = self.y
            self.prose(text, indent=16)
            self.canvas.circle(LEFT + 8, top - 8.6, 1.5, stroke=0, fill=1)

    def table(self, widths: Sequence[float], rows: Iterable[Sequence[str]], caption: str) -> None:
        """A ruled table with a shaded first row; stops where the page ends."""
        size = 7.4
        self.caption(caption)
        for number, row in enumerate(rows):
            cells = [
                list(wrapped(text, width - 8, size))
                for text, width in zip(row, widths, strict=True)
            ]
            height = max(len(lines) for lines in cells) * size * 1.32 + 5
            if self.room < height:
                break
            self._row(widths, cells, height, size, header=number == 0)
        self.y -= 8

    def _row(
        self,
        widths: Sequence[float],
        cells: Sequence[list[list[tuple[str, str]]]],
        height: float,
        size: float,
        *,
        header: bool,
    ) -> None:
        x, top = LEFT, self.y
        self.canvas.setLineWidth(0.4)
        for width, lines in zip(widths, cells, strict=True):
            if header:
                self.canvas.setFillColorRGB(*GREY)
                self.canvas.rect(x, top - height, width, height, stroke=0, fill=1)
                self.canvas.setFillColorRGB(0, 0, 0)
            self.canvas.rect(x, top - height, width, height, stroke=1, fill=0)
            self.y = top
            for words in lines:
                self.y -= size * 1.32
                styled = ((word, "heading" if header else style) for word, style in words)
                self.line(styled, x + 4, size)
            x += width
        self.y = top - height

    def caption(self, text: str) -> None:
        """A line above a table or a figure."""
        self.y -= 16
        self.canvas.setFont("heading", 8)
        self.canvas.drawCentredString((LEFT + RIGHT) / 2, self.y, text)
        self.y -= 5

    def listing(self, lines: Iterable[str]) -> None:
        """Code on a shaded ground."""
        text = [line for line, _ in zip(lines, range(int(self.room / 9.2) - 2), strict=False)]
        height = len(text) * 9.2 + 8
        self.y -= 4
        self.canvas.setFillColorRGB(*GREY)
        self.canvas.roundRect(LEFT, self.y - height, RIGHT - LEFT, height, 3, stroke=0, fill=1)
        self.canvas.setFillColorRGB(0, 0, 0)
        code = self.canvas.beginText(LEFT + 6, self.y - 10)
        code.setFont("code", 7.4, 9.2)
        for line in text:
            code.textLine(line)
        self.canvas.drawText(code)
        self.y -= height + 8

    def figure(self, height: float, caption: str, draw: Callable[[float, float], None]) -> None:
        """``draw(x, y)`` draws above and to the right of its arguments, ``height`` points high."""
        self.caption(caption)
        self.y -= height
        self.canvas.saveState()
        draw(LEFT, self.y)
        self.canvas.restoreState()
        self.y -= 10


def wrapped(text: str, width: float, size: float) -> Iterator[list[tuple[str, str]]]:
    """The lines of a marked text, none wider than ``width`` points but for a single long word."""
    line: list[tuple[str, str]] = []
    used = 0.0
    for word, style in marked_words(text):
        length = width_of(word + " ", style, size)
        if line and used + length > width:
            yield line
            line, used = [], 0.0
        line.append((word, style))
        used += length
    if line:
        yield line
