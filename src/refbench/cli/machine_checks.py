"""The machine: what makes times noisy, and how much memory there is."""

from __future__ import annotations

import os
from collections.abc import Iterator

from refbench.cli.findings import Finding, ok, read, warning
from refbench.grammar import format_size

BUSY = 0.5
"""Runnable processes a CPU from which on others certainly disturb."""
SMALL_MEMORY = 512 << 20
"""Bytes. The largest mapping of the built-in cases is 64 MiB, twice when it is copied."""


def findings() -> Iterator[Finding]:
    """Everything about the processors and the memory."""
    yield _cpus()
    yield _load()
    yield _governor()
    yield from _memory()


def _cpus() -> Finding:
    online = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else online
    isolated = read("/sys/devices/system/cpu/isolated")
    detail = f"{online} CPUs, {allowed} for this process"
    if isolated:
        return ok("CPUs", f"{detail}, isolated: {isolated}")
    if allowed < 2:
        return warning(
            "CPUs",
            f"{detail}: the agent shares it with everything else",
            "Allow another CPU (taskset, the container's settings), or expect noisy times.",
        )
    return ok("CPUs", detail)


def _load() -> Finding:
    load = os.getloadavg()[0]
    cpus = os.cpu_count() or 1
    detail = f"{load:.2f} over the last minute on {cpus} CPUs"
    if load > BUSY * cpus:
        return warning("load", detail, "Wait until the machine is idle, or expect noisy times.")
    return ok("load", detail)


def _governor() -> Finding:
    governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not governor:
        return ok("governor", "no frequency control is visible (a virtual machine?)")
    if governor != "performance":
        return warning(
            "governor",
            f"{governor}: the frequency follows the load",
            "cpupower frequency-set -g performance",
        )
    return ok("governor", governor)


def _memory() -> Iterator[Finding]:
    table = {
        name: int(rest.split()[0]) << 10
        for name, _, rest in (line.partition(":") for line in read("/proc/meminfo").splitlines())
        if rest.endswith("kB")
    }
    available = table.get("MemAvailable")
    if available is None:
        yield warning("memory", "/proc/meminfo does not say how much is available")
        return
    detail = f"{format_size(available)} available of {format_size(table['MemTotal'])}"
    if available < SMALL_MEMORY:
        yield warning("memory", detail, "End other programs, or measure smaller sizes.")
    else:
        yield ok("memory", detail)
    swap = table.get("SwapTotal", 0)
    used = swap - table.get("SwapFree", 0)
    if used > swap // 10:
        yield warning(
            "swap",
            f"{format_size(used)} of {format_size(swap)} are in use: pages may be swapped in "
            "while it is measured",
            "Free some memory, then: swapoff -a && swapon -a",
        )
    elif swap:
        yield ok("swap", f"{format_size(swap)}, {format_size(used)} in use")
    else:
        yield ok("swap", "none: what survives it cannot be examined")
