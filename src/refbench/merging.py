"""KSM for the sake of a cell: which cells offer it pages, and settings that do not take long."""

from __future__ import annotations

from pathlib import Path

from refbench.program import Advise
from refbench.words import Cell

KSM = Path("/sys/kernel/mm/ksm")
"""Where KSM's settings are, one file each."""
KSM_FAST = {"smart_scan": "0", "pages_to_scan": "20000", "sleep_millisecs": "0", "run": "1"}
"""So that ksmd is through with a cell's memory in moments; its defaults (100 pages every
20 ms, admin-guide/mm/ksm.rst) take a quarter of an hour for a GiB. smart_scan, from Linux 6.7
on, passes over addresses that it knows from the sample before."""


def merges(cell: Cell) -> bool:
    """Whether the mechanism, or the program itself, offers pages to KSM."""
    offers = any(isinstance(s, Advise) and s.advice == "mergeable" for s in cell.program.steps)
    return cell.mechanism.name == "ksm" or offers
