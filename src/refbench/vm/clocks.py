"""What a guest cannot measure of its own clocks where its CPU is translated."""

from __future__ import annotations

import functools
import subprocess

from refbench.agent import NATIVE, build, host_arch
from refbench.cache import Cache
from refbench.errors import BackendError, StorageError

_SECONDS = 30.0


@functools.cache
def tsc_khz() -> int:
    """The rate of this machine's time stamp counter in kHz, measured over 50 ms.

    0 where there is none, or it cannot be measured: a guest then has to find out by itself.
    """
    try:
        if host_arch() != "x86_64":
            return 0
        sources = sorted((NATIVE / "tsc").glob("*.c"))
        program = build("tsc", sources, "x86_64", Cache.default()).path
        done = subprocess.run(
            [program], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (BackendError, StorageError, OSError, subprocess.TimeoutExpired):
        return 0
    said = done.stdout.strip()
    return int(said) if said.isdecimal() else 0
