"""The report as JSON: what the tables show, each number beside its unit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from refbench.report.summary import summarise
from refbench.samples import Measurement

VERSION = 1


def text(measurements: Sequence[Measurement]) -> str:
    """An object with ``version`` and ``sections``; see :mod:`refbench.report.summary`."""
    document = {"version": VERSION, "sections": summarise(measurements)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
