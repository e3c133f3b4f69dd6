"""``pdfium``: the real libpdfium renders pages of a real document.

The experiment of the first letter of the reference page series, which ran PDFium's own test
program on an architecture manual. Pages are counted from 0, as that program does. What is timed
is a whole process, from its start to its end; peaks are those of that process.
"""

from __future__ import annotations

import re

from refbench.errors import UsageError
from refbench.grammar import Option, Spec, Values
from refbench.program import Execute, Phase, Program
from refbench.words import Case, Workload

SUPPLIED = 95
"""Percent of the process's private memory that must come from the mechanism."""
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?\Z", re.ASCII)
_STARTING = 0.1
_PAGE = 0.02
"""Seconds on the slower of the machines that it was tried on, for the estimate alone."""


def _program(values: Values, _page_size: int) -> Program:
    from refbench.pdfium.document import document
    from refbench.pdfium.library import renderer

    pages = values.text("pages")
    count = _count(pages)
    render = renderer(values.text("library"))
    path = document(values.text("pdf"))
    render.pages(path, pages)
    arguments = ("--library", "@libpdfium.so", "--pages", pages, "@document.pdf")
    return Program(
        "pdfium",
        (
            Phase("render"),
            Execute("render", arguments, _STARTING + _PAGE * count, SUPPLIED),
            Phase(),
        ),
        files={"render": render.program, "libpdfium.so": render.library, "document.pdf": path},
    )


def _count(pages: str) -> int:
    """How many pages a range has."""
    found = _RANGE.match(pages)
    count = int(found[2] or found[1]) - int(found[1]) + 1 if found else 0
    if count < 1:
        raise UsageError(
            f"{pages!r} is no range of pages.",
            remedy="Write pages=FIRST-LAST, counted from 0, for example pages=1-100.",
        )
    return count


WORKLOAD = Workload(
    "pdfium",
    "Render pages of a PDF document with libpdfium, as PDFium's own test program does.",
    (
        Option("pages", "text", "1-100", "pages to draw, FIRST-LAST, counted from 0"),
        Option("pdf", "path", "", "document of your own; empty: a generated manual of 120 pages"),
        Option("library", "path", "", "libpdfium.so; empty: the one in the package pypdfium2"),
    ),
    _program,
    ("time", "hwm", "lost", "rss", "traps"),
)
CASES: tuple[Case, ...] = tuple(
    Case(name, Spec.parse(workload, what="workload"), summary, bench=False)
    for name, workload, summary in (
        ("pdfium", "pdfium", "draw 100 pages of the generated manual"),
        ("pdfium-short", "pdfium:pages=1-80", "draw 80 pages of the generated manual"),
    )
)
"""Frozen, as those of :mod:`refbench.workloads.cases`; apart from them, because only targets that
execute programs carry them. Not measured where nobody asks: they need an extra.
Below some 65 pages the library's own relocated data, 1.3 MB, is more than 5 % of all."""
