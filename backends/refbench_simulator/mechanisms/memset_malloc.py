"""The model of ``native/mechanisms/memset_malloc.c``."""

from __future__ import annotations

from refbench_simulator.mechanisms.anon import Anon


class MemsetMalloc(Anon):
    """Clean anonymous memory, which an allocator fills when it hands it out."""

    applies_pattern = True
    fills_at_malloc = True
