"""What the workloads share: their common options and the steps around a measured phase."""

from __future__ import annotations

from refbench.errors import UsageError
from refbench.grammar import Option, Values, format_size
from refbench.program import Expect, Phase, Step, Touch

MAX_SIZE = 1 << 46
"""64 TiB, what is left of a 47-bit address space above the first region's address."""

ACCESS = Option("access", "choice", "write", "what a touch does", ("read", "write", "readwrite"))
ORDER = Option(
    "order", "choice", "forward", "order of the touches", ("forward", "backward", "random")
)
SEED = Option("seed", "int", 0, "seed of the random order", minimum=0, maximum=(1 << 32) - 1)
STORED = 0x55
"""The byte that touches store. A pattern of the same byte would hide a store from the checks."""


def size_option(default: int) -> Option:
    """The ``size`` option of a mapping, in bytes."""
    return Option("size", "size", default, "size of the mapping", minimum=1, maximum=MAX_SIZE)


def whole_pages(values: Values, page_size: int, key: str = "size") -> int:
    """A size option in bytes.

    :raises UsageError: when it is not a whole number of pages.
    """
    size = values.integer(key)
    if size % page_size:
        raise UsageError(
            f"The {key} {size} is not a whole number of pages of {format_size(page_size)}.",
            remedy=f"Give a multiple of {format_size(page_size)}.",
        )
    return size


def timed(name: str, *steps: Step) -> tuple[Step, ...]:
    """Steps under one phase, the clock stopped again behind them."""
    return (Phase(name), *steps, Phase())


def checked(touch: Touch, page_size: int) -> tuple[Step, ...]:
    """Checks for what ``touch`` must have left behind in otherwise clean memory.

    What was stored is there (in every sample: reading it faults nothing in), and the second and
    the last byte of every page read as the pattern (in the warm-up only: reading clean pages
    would change what the later samples count). Only for touches of one byte.
    """
    stored: tuple[Step, ...] = ()
    if touch.access != "read" and not touch.count:
        stored = (
            Expect(touch.region, touch.offset, touch.length, touch.value, stride=touch.stride),
        )
    clean = tuple(
        Expect(
            touch.region,
            touch.offset + inside,
            touch.length - inside,
            "pattern",
            stride=page_size,
            once=True,
        )
        for inside in (1, page_size - 1)
    )
    return stored + clean
