"""Settings of the kernel that a mechanism or a property of the semantics suite depends on."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator

from refbench.cli.findings import Finding, chosen, number, ok, read, warning
from refbench.grammar import format_size

DEFAULT_MAX_MAP_COUNT = 65530
"""DEFAULT_MAX_MAP_COUNT of include/linux/mm.h."""


def findings() -> Iterator[Finding]:
    """Everything about the running kernel."""
    if sys.platform != "linux":
        yield warning("kernel", f"this is {sys.platform}, not Linux", "Measure a remote target.")
        return
    yield ok("kernel", f"Linux {os.uname().release}, pages of {format_size(mmap.PAGESIZE)}")
    yield _userfaultfd()
    yield _ksm()
    yield _thp()
    yield _map_count()
    yield _overcommit()
    yield _core_pattern()


def _userfaultfd() -> Finding:
    mode = number("/proc/sys/vm/unprivileged_userfaultfd")
    if mode is None:
        return warning(
            "userfaultfd",
            "this kernel has none (vm.unprivileged_userfaultfd is missing): no uffd, uffd-sigbus",
            "Use a kernel with CONFIG_USERFAULTFD.",
        )
    if os.geteuid() == 0:
        return ok("userfaultfd", "for root: faults of user code and of the kernel")
    if mode == 1 or os.access("/dev/userfaultfd", os.R_OK | os.W_OK):
        return ok("userfaultfd", "for everybody: faults of user code and of the kernel")
    return warning(
        "userfaultfd",
        "user-mode faults only (vm.unprivileged_userfaultfd is 0): system calls into a mapping "
        "of uffd fail",
        "Run as root, or: sysctl vm.unprivileged_userfaultfd=1",
    )


def _ksm() -> Finding:
    run = number("/sys/kernel/mm/ksm/run")
    if run is None:
        return warning("KSM", "this kernel has none: no ksm", "Use a kernel with CONFIG_KSM.")
    if run == 1:
        return ok("KSM", "on")
    if os.access("/sys/kernel/mm/ksm/run", os.W_OK):
        return ok("KSM", "off; switched on while cells of ksm are measured, and off again")
    return warning("KSM", "off: no ksm", "Run as root, or: echo 1 > /sys/kernel/mm/ksm/run")


def _thp() -> Finding:
    enabled = chosen(read("/sys/kernel/mm/transparent_hugepage/enabled"))
    if not enabled:
        return warning("THP", "this kernel has none: --thp changes nothing")
    if enabled == "never":
        return warning(
            "THP",
            "never: --thp changes nothing, and properties of huge pages cannot be examined",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    return ok("THP", f"{enabled}; off for the agent without --thp")


def _map_count() -> Finding:
    count = number("/proc/sys/vm/max_map_count")
    if count is None:
        return warning("max_map_count", "vm.max_map_count cannot be read")
    most = format_size(count * mmap.PAGESIZE)
    detail = f"{count}: memfd:block=1 reaches at most about {most}"
    if count < DEFAULT_MAX_MAP_COUNT:
        return warning("max_map_count", detail, f"sysctl vm.max_map_count={DEFAULT_MAX_MAP_COUNT}")
    return ok("max_map_count", detail)


def _overcommit() -> Finding:
    mode = number("/proc/sys/vm/overcommit_memory")
    if mode == 2:
        return warning(
            "overcommit",
            "strict (vm.overcommit_memory is 2): large sparse mappings are refused",
            "sysctl vm.overcommit_memory=0",
        )
    return ok(
        "overcommit", {0: "heuristic", 1: "always"}.get(mode if mode is not None else -1, "unknown")
    )


def _core_pattern() -> Finding:
    pattern = read("/proc/sys/kernel/core_pattern")
    if pattern.startswith("|"):
        return warning(
            "core_pattern",
            f"core dumps go to a program ({pattern.split()[0][1:]}): clean pages in a core dump "
            "cannot be examined",
            "sysctl kernel.core_pattern=core",
        )
    return ok("core_pattern", pattern or "empty")
