"""The mechanisms of a stock kernel: their options, and the C files that implement them."""

from __future__ import annotations

from pathlib import Path

from refbench.grammar import Option
from refbench.semantics.expected import EXPECTED
from refbench.words import Mechanism

_SOURCES = Path(__file__).resolve().parent / "native" / "mechanisms"
_MOST_PAGES = 1 << 28


def _sources(*names: str) -> tuple[Path, ...]:
    return tuple(_SOURCES / f"{name}.c" for name in names)


MECHANISMS: tuple[Mechanism, ...] = (
    Mechanism(
        "anon",
        "clean anonymous memory, never filled: the baseline without a pattern",
        sources=_sources("anon"),
        expected=EXPECTED.get("anon", {}),
        applies_pattern=False,
    ),
    Mechanism(
        "memset",
        "anonymous memory, filled when it is mapped",
        sources=_sources("memset"),
        expected=EXPECTED.get("memset", {}),
    ),
    Mechanism(
        "memfd",
        "a small sealed memfd mapped privately again and again over the range",
        options=(
            Option(
                "block",
                "int",
                1,
                "pages in the memfd; a mapping takes size / block calls and VMAs",
                minimum=1,
                maximum=_MOST_PAGES,
            ),
            Option(
                "huge",
                "size",
                0,
                "size of the huge pages to build it from, 0 for base pages; "
                "block then counts huge pages",
                minimum=0,
                maximum=2 << 20,
                multiple=2 << 20,
            ),
        ),
        sources=_sources("memfd", "sealed"),
        expected=EXPECTED.get("memfd", {}),
    ),
)
"""Every mechanism that refbench itself brings."""
