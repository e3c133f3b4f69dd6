"""What may differ, and by how much. docs/simulator-exactness.md has the reasons; the tests of
test_exactness.py show each on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from refbench.program import Program, Step
from refbench.program import steps as s

KIB = 1024
PAGE = os.sysconf("SC_PAGESIZE")
RSS_BATCH = 32
"""Pages by which one CPU's part of an RSS counter may lag: ``percpu_counter_batch`` is
max(32, 2 * CPUs), see lib/percpu_counter.c."""
RSS_KINDS = 3
"""File, anonymous and shmem pages are counters of their own."""
CHARGE_BATCH = 64
"""MEMCG_CHARGE_BATCH of include/linux/memcontrol.h, in pages, for each CPU."""
MESSAGE_CALLS = 2
"""poll(2) and read(2): the calls that a handler thread makes once for several messages."""
BUFFER = 64 * PAGE
"""The most that a kernel access of a random program takes for its own buffer."""


@cache
def cpus() -> int:
    return os.cpu_count() or 1


@cache
def shmem_batch() -> int:
    """Bytes by which Shmem of /proc/meminfo may lag on all CPUs: ``stat_threshold``."""
    text = Path("/proc/zoneinfo").read_text("ascii")
    found = [int(number) for number in re.findall(r"vm stats threshold: (\d+)", text)]
    return (max(found, default=0) + 1) * cpus() * PAGE


@cache
def has_swap() -> bool:
    """Whether pages may go out of memory here: what comes back then depends on the swap cache."""
    text = Path("/proc/meminfo").read_text("ascii")
    return re.search(r"^SwapTotal: +0 kB$", text, re.MULTILINE) is None


def pss(host: int, simulator: int) -> bool:
    """Printed in whole KiB, rounded down, the agent's own share included: the fractions of both
    may add up to one KiB. What is a whole number of KiB is exact."""
    return abs(host - simulator) < KIB


def syscalls(host: int, simulator: int, messages: int) -> bool:
    """With threads, one poll(2) and one read(2) may bring several messages."""
    return simulator - MESSAGE_CALLS * messages <= host <= simulator


def peak(host: int, simulator: int, *, buffered: bool, count: int | None = None) -> bool:
    """VmHWM is taken from counters that lag; the agent's buffers are in it. ``count``: of CPUs,
    this machine's when it is left out."""
    count = count or cpus()
    lag = max(RSS_BATCH, 2 * count) * RSS_KINDS * count * PAGE
    return simulator - lag <= host <= simulator + lag + (2 * BUFFER if buffered else 0)


def system_shmem(host: int, simulator: int) -> bool:
    """Growth since the start; both ends of it lag."""
    return abs(host - simulator) <= 2 * shmem_batch()


def charged(host: int, simulator: int, *, count: int | None = None) -> bool:
    """memory.stat adds up what the CPUs have when enough of it has come together."""
    return abs(host - simulator) <= 2 * CHARGE_BATCH * (count or cpus()) * PAGE


def has_threads(program: Program) -> bool:
    return _any(program.steps, (s.Parallel,))


def has_buffers(program: Program) -> bool:
    return _any(program.steps, (s.KernelReads, s.KernelWrites))


def _any(steps: Sequence[Step], kinds: tuple[type[Step], ...]) -> bool:
    return any(isinstance(step, kinds) or _any(_inside(step), kinds) for step in steps)


def _inside(step: Step) -> tuple[Step, ...]:
    match step:
        case s.Fork(child, parent, _):
            return (*child, *parent)
        case s.Repeat(_, body):
            return body
        case s.Parallel(groups):
            return tuple(each for group in groups for each in group.body)
    return ()
