"""Traces that no program was recorded for: what a simple allocator would have left behind."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from refbench.trace import Events, Kind, Trace, open_trace
from refbench.trace.writer import Row, events_of, write_trace

PAGE = 4096
BASE = 0x7F0000000000


def written(path: Path, *blocks: Sequence[Row], page_size: int = PAGE) -> Trace:
    """A trace of these events."""
    parts: list[Events] = [events_of(rows) for rows in blocks]
    write_trace(path, page_size, {"command": "made"}, parts, {})
    return open_trace(path)


def random_rows(seed: int, count: int = 400) -> list[Row]:
    """A heap of few mappings: blocks handed out and freed, pages touched, purged and unmapped.

    Hand-outs are fresh or reused as an allocator would have it, page by page.
    """
    chance = random.Random(seed)
    regions: dict[int, int] = {}
    rows: list[Row] = []
    clean: dict[int, set[int]] = {}
    loaded: set[int] = set()
    stored: set[int] = set()
    for _ in range(count):
        what = chance.random()
        thread = chance.randrange(1, 4)
        if not regions or what < 0.02:
            base = BASE + len(rows) * (1 << 24)
            regions[base] = chance.choice((1, 3, 16, 64)) * PAGE
            clean[base] = set(range(regions[base] // PAGE))
            kind = Kind.MAP if chance.random() < 0.8 else Kind.MAP_ZERO
            rows.append((kind, base, regions[base], thread))
            continue
        base = chance.choice(list(regions))
        pages = regions[base] // PAGE
        first = chance.randrange(pages)
        behind = chance.randrange(first + 1, pages + 1)
        mine = {base + page * PAGE for page in range(first, behind)}
        if what < 0.5:
            # Up or down, as programs do.
            for address in sorted(mine, reverse=chance.random() < 0.3):
                store = chance.random() < 0.8
                if address in stored or (not store and address in loaded):
                    continue
                (stored if store else loaded).add(address)
                rows.append((Kind.WRITE if store else Kind.READ, address, PAGE, thread))
        elif what < 0.93:
            inside = chance.randrange(0, PAGE, 16)
            length = min((behind - first) * PAGE - inside, chance.choice((16, 100, 5000, 40000)))
            here = set(range(first, first + -(-(inside + length) // PAGE)))
            fresh = here <= clean[base]
            clean[base] -= here
            kind = Kind.BLOCK_FRESH if fresh else Kind.BLOCK_REUSED
            rows.append((kind, base + first * PAGE + inside, length, thread))
        elif what < 0.985:
            rows.append((Kind.PURGE, base + first * PAGE, (behind - first) * PAGE, thread))
            clean[base] |= set(range(first, behind))
            stored -= mine
            loaded -= mine
        else:
            rows.append((Kind.UNMAP, base, regions[base], thread))
            gone = {base + page * PAGE for page in range(pages)}
            stored -= gone
            loaded -= gone
            del regions[base], clean[base]
    return rows
