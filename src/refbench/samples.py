"""What a run gives back: counters of each phase, memory at each stop, what was observed.

These are the records of the agent's protocol and of the journal. They are decoded strictly:
an unknown or missing field is an error, so that a half-written record never counts.
All times are in nanoseconds of the session's clock, all memory in bytes, the rest are counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CLOCK_NOTE = "clock-note"
"""The fact of an environment that every report shows with its times: a phrase without a full
stop, such as where modelled times were calibrated and how wrong they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCounters:
    """Totals over every part of a sample that ran under one phase name."""

    ns: int
    user_ns: int = 0
    system_ns: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    syscalls: int = 0
    """System calls that the mechanism and the workload made themselves."""
    sigbus: int = 0
    sigsegv: int = 0
    uffd_messages: int = 0
    entries: int = 1
    """How often the phase was entered."""

    @property
    def faults(self) -> int:
        """Page faults that the kernel counted."""
        return self.minor_faults + self.major_faults

    @property
    def traps(self) -> int:
        """Faults plus the rounds that the kernel does not count as faults.

        A userfault that a thread handled is counted by the kernel as one fault already (as a
        major one when the fault was retried under the mmap lock, see ``mm_account_fault()`` in
        Linux's mm/memory.c), therefore its message is not added again; a SIGBUS or SIGSEGV
        round is not counted at all.
        """
        return self.faults + self.sigbus + self.sigsegv


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySnapshot:
    """Memory at one ``measure`` stop. ``None`` is *not readable here*, never zero.

    ``sys_*`` are of the whole system (/proc/meminfo), ``cgroup_*`` of the memory cgroup
    that the session made for its agents, the rest of the process that stopped.
    """

    rss: int
    rss_anon: int
    rss_file: int
    rss_shmem: int
    hwm: int
    """VmHWM, reset at the sample's start through clear_refs."""
    pte: int
    """VmPTE: page tables of the process."""
    vmas: int
    pss: int | None = None
    uss: int | None = None
    swap: int | None = None
    ksm: int | None = None
    """Bytes of the process that KSM has merged."""
    held: int = 0
    """Bytes of files that the mechanism keeps (memfd blocks), from ``st_blocks``."""
    sys_shmem: int | None = None
    sys_slab: int | None = None
    """SUnreclaim."""
    sys_pagetables: int | None = None
    sys_available: int | None = None
    cgroup_current: int | None = None
    cgroup_peak: int | None = None
    cgroup_anon: int | None = None
    cgroup_file: int | None = None
    cgroup_shmem: int | None = None
    cgroup_kernel: int | None = None
    cgroup_pagetables: int | None = None
    cgroup_slab: int | None = None
    executed: bool = False
    """Of a program that was executed, at its end: what is the process's is then all its own, and
    its growth is counted from nothing, not from the agent's ``start``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The outcome of one step that checks something or that the kernel may refuse."""

    line: int
    """Line of the program file, from 1."""
    step: str
    """The step's verb."""
    ok: bool
    errno: int = 0
    errors: int = 0
    """Bytes that differ from what was expected."""
    offset: int = 0
    """Offset of the first wrong byte in the region."""
    got: int = 0
    wanted: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One repetition of the program inside a run; index 0 is the warm-up."""

    index: int
    phases: Mapping[str, PhaseCounters]
    memory: Mapping[str, MemorySnapshot]
    """By label of the ``measure`` step; ``start`` is taken before the first step."""
    observations: tuple[Observation, ...] = ()
    """Of steps that failed, and of all steps when the program asks for ``observe all``."""
    values: Mapping[str, int] = field(default_factory=dict)
    """What executed programs reported by themselves, as lines ``NAME NUMBER`` on descriptor 3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run has no result, in the words of :mod:`refbench.errors`."""

    kind: str
    message: str
    remedy: str = ""
    wanted: int = 0
    limit: int = 0
    log: tuple[str, ...] = ()
    """Lines of the agent's standard error or of the kernel log that belong to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The samples of one cell from one fresh process, or the failure that there is instead."""

    samples: tuple[Sample, ...] = ()
    failure: Failure | None = None
    wall_ns: int = 0
    """From asking the session to having its answer, on this machine's monotonic clock."""
    agent_ns: int = 0
    """What the agent itself spent, from its first instruction to its last line."""
    started: str = ""
    """UTC, ISO 8601."""
    boot: int = 0
    """Counts the boots or connections of a session: the outermost level of the statistics."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the agent reports of this run alone: CPU it ran on, userfaultfd mode."""

    @property
    def kept(self) -> tuple[Sample, ...]:
        """The samples after the warm-up; the warm-up itself when it is the only one."""
        return self.samples[1:] or self.samples


@dataclass(frozen=True, slots=True, kw_only=True)
class CellId:
    """A cell as the journal names it: texts only, equal exactly when ``key`` is equal."""

    key: str
    workload: str
    mechanism: str
    pattern: str
    case: str = ""
    thp: bool = False

    @property
    def label(self) -> str:
        """What people read: the case where there is one, else the workload."""
        return self.case or self.workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where and under what measurements were taken; one a session, in every journal."""

    target: str
    clock: str
    """A value of :class:`refbench.words.Clock`."""
    kernel: str
    arch: str
    page_size: int
    facts: Mapping[str, str] = field(default_factory=dict)
    """``Capabilities.environment`` and refbench's own version."""

    @property
    def clock_note(self) -> str:
        """How far the clock's times can be trusted, shown with all of them; empty: as measured."""
        return self.facts.get(CLOCK_NOTE, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All runs of a cell, raw, with the environment that they were taken in."""

    cell: CellId
    environment: Environment
    runs: tuple[Run, ...]

    @property
    def good(self) -> tuple[Run, ...]:
        """The runs that have samples."""
        return tuple(run for run in self.runs if run.failure is None)

    @property
    def failure(self) -> Failure | None:
        """The failure of a cell that has no good run at all."""
        failures = [run.failure for run in self.runs if run.failure is not None]
        return failures[-1] if failures and not self.good else None
