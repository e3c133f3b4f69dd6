"""Writing traces from Python: condensed ones, and those that were recorded, made smaller."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from refbench.trace import format as f
from refbench.trace.format import Events
from refbench.trace.reader import Trace

Row = tuple[int, int, int, int]
"""Kind, address, length, thread."""


def events_of(rows: Iterable[Row]) -> Events:
    """Columns of single events."""
    columns = np.array(list(rows), np.int64).reshape(-1, 4)
    return Events(columns[:, 0].astype(np.uint8), *(columns[:, i].copy() for i in (1, 2, 3)))


def write_trace(
    path: Path,
    page_size: int,
    facts: Mapping[str, str],
    blocks: Iterable[Events],
    ending: Mapping[str, str],
) -> None:
    """Write a trace whose blocks are deflated.

    ``facts`` and ``ending`` must not have line breaks; ``ending`` need not count anything.

    :raises OSError: when the file cannot be written.
    """
    count = events = 0
    with path.open("wb") as file:
        file.write(f.header(page_size, facts))
        for block in blocks:
            payload = f.encode(block)
            stored = zlib.compress(payload, 6)
            file.write(f.block(f.DEFLATED, stored, len(block), len(payload)))
            count, events = count + 1, events + len(block)
        told = {key: value for key, value in ending.items() if key not in ("events", "blocks")}
        text = f.facts_text({"events": str(events), "blocks": str(count), **told})
        file.write(f.block(f.LAST, text, 0, len(text)))


def pack(trace: Trace) -> None:
    """Deflate the blocks of a trace that the recorder wrote, in place.

    :raises OSError: when the folder cannot be written to; the trace is as it was then.
    """
    smaller = trace.path.with_name(trace.path.name + ".packing")
    try:
        write_trace(smaller, trace.page_size, trace.facts, trace.read(), trace.ending)
        smaller.replace(trace.path)
    finally:
        smaller.unlink(missing_ok=True)
