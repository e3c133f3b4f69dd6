"""Events sorted by the kind of work that they are: where the time goes, in seven words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refbench_simulator.costs import Costs
from refbench_simulator.model.events import Event


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work; ``sign`` stands for it in bars."""

    name: str
    sign: str
    events: frozenset[Event]


KINDS: tuple[Kind, ...] = (
    Kind(
        "entering the kernel",
        "E",
        frozenset(
            {Event.TRAP, Event.FAULT, Event.LOOKUP, Event.SYSCALL, Event.SIGNAL, Event.MESSAGE}
        ),
    ),
    Kind(
        "getting pages",
        "P",
        frozenset(
            {
                Event.ALLOC,
                Event.CLEAR,
                Event.CLEAR_HUGE,
                Event.COPY,
                Event.RMAP,
                Event.CACHE,
                Event.FILE,
                Event.SWAP,
                Event.MERGE,
            }
        ),
    ),
    Kind(
        "entries and tables",
        "T",
        frozenset(
            {
                Event.PTE,
                Event.AROUND,
                Event.MAPPED,
                Event.FLUSH,
                Event.TABLE,
                Event.PROTECT,
                Event.MOVE,
                Event.FORK_PTE,
            }
        ),
    ),
    Kind(
        "VMAs",
        "V",
        frozenset(
            {
                Event.MMAP,
                Event.ANON_VMA,
                Event.UNLINK,
                Event.SPLIT,
                Event.MODIFY,
                Event.MUNMAP,
                Event.FORK_VMA,
            }
        ),
    ),
    Kind(
        "giving back",
        "G",
        frozenset({Event.ZAP, Event.UNMAPPED, Event.FREE, Event.DROP}),
    ),
    Kind("processes", "X", frozenset({Event.FORK, Event.EXIT, Event.THREAD})),
    Kind("user space", "U", frozenset({Event.FILL, Event.TOUCH})),
)
"""Every event is of exactly one kind."""


def by_kind(events: Mapping[Event, int], costs: Costs, page_size: int) -> dict[str, int]:
    """Modelled nanoseconds of each kind of work, by its name, in the order of KINDS."""
    return {
        kind.name: costs.time(
            {event: count for event, count in events.items() if event in kind.events}, page_size
        ).ns
        for kind in KINDS
    }


def bar(times: Mapping[str, int], width: int) -> str:
    """Signs in proportion to the times: ``PPPPPEEETT``; the largest remainders get the rest."""
    total = sum(times.values())
    if not total:
        return ""
    exact = [times[kind.name] * width / total for kind in KINDS]
    whole = [int(part) for part in exact]
    order = sorted(range(len(KINDS)), key=lambda at: (whole[at] - exact[at], at))
    for at in order[: width - sum(whole)]:
        whole[at] += 1
    return "".join(kind.sign * count for kind, count in zip(KINDS, whole, strict=True))
