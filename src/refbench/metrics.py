"""The metrics: what is read from a sample, in which unit, and what each one does not see.

A metric is asked for by name: ``time``, ``faults``, ``lost``. Metrics of phases take the name
of a phase behind a dot (``time.touch``), memory metrics the label of a ``measure`` stop
(``rss.child``). Without one, a phase metric is the sum over all phases but ``setup``, and a
memory metric is the largest over all labels but ``start``. ``setup`` stays out of sums because
it is paid once a process, not once a mapping; ``time.setup`` shows it.

Memory metrics are *growth*: the value at a label less the value at ``start``. The two levels
that a mechanism holds apart from the mapping, ``held`` and ``vmas``, are no growth where noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal

from refbench import readings
from refbench.errors import UsageError
from refbench.grammar import suggest
from refbench.readings import START, Reading, Source
from refbench.samples import Sample

Unit = Literal["seconds", "bytes", "count"]
Kind = Literal["time", "count", "memory"]

CHARGE_BATCH = 64
"""Pages that each CPU may hold charged to a memory cgroup without having handed them out, or
the other way round: ``MEMCG_CHARGE_BATCH`` of Linux's ``include/linux/memcontrol.h``."""
RSS_BATCH = 64
"""Pages by which RSS may lag. Before Linux 6.2 for each thread: ``TASK_RSS_EVENTS_THRESH`` of its
``mm/memory.c``; then for each CPU, and half as many where CPUs are few:
``percpu_counter_batch`` of ``lib/percpu_counter.c``."""

Reader = Callable[[Sample, str], Reading | None]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    ``part`` is the phase or label that it is narrowed to, empty for all of them.
    ``deterministic`` counters must be equal in all samples of a cell.
    ``batch`` is the counter's granularity in pages: smaller differences mean nothing.
    """

    name: str
    title: str
    unit: Unit
    kind: Kind
    about: str
    blind: str
    """What it does not see."""
    reader: Reader
    deterministic: bool = False
    batch: int = 0
    part: str = ""

    def read(self, sample: Sample) -> Reading | None:
        """The value in ``sample`` (seconds, bytes or a count) with its source.

        ``None`` where it cannot be read: no such phase or label, or a counter that this
        target does not have.
        """
        return self.reader(sample, self.part)

    def value(self, sample: Sample) -> float | None:
        """The value alone."""
        reading = self.read(sample)
        return None if reading is None else reading.value

    def of(self, part: str) -> Metric:
        """This metric, narrowed to one phase or label."""
        return Metric(
            f"{self.name}.{part}",
            f"{self.title} ({part})",
            self.unit,
            self.kind,
            self.about,
            self.blind,
            self.reader,
            self.deterministic,
            self.batch,
            part,
        )

    def resolution(self, page_size: int) -> float:
        """By how much one growth may be off, in the metric's unit: less than that is nothing."""
        return float(self.batch * page_size)

    def apart(self, page_size: int) -> float:
        """The least difference between two growths that means something: both may be off, one
        up and one down, and do so alike in every sample, so that no median takes it away."""
        return 2 * self.resolution(page_size)


def find(name: str) -> Metric:
    """The metric of that name, with or without a part.

    :raises UsageError: when there is none.
    """
    base, _, part = name.partition(".")
    if base not in METRICS:
        raise UsageError(f"There is no metric {name!r}.", remedy=suggest(base, METRICS))
    return METRICS[base].of(part) if part else METRICS[base]


def phases(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The names of all phases, in the order in which they are first met."""
    return tuple(dict.fromkeys(name for sample in samples for name in sample.phases))


def labels(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The labels of all ``measure`` stops but ``start``, in the order of first meeting."""
    met = dict.fromkeys(label for sample in samples for label in sample.memory)
    return tuple(label for label in met if label != START)


_BATCHED = (
    "Page counters of a memory cgroup are batched: each CPU that ran the cell makes a value "
    f"uncertain by up to {CHARGE_BATCH} pages (256 KiB with 4 KiB pages)."
)
_OTHERS = "Counts the whole system: whatever else runs meanwhile is in it."


def _time(name: str, title: str, field: str, about: str, blind: str) -> Metric:
    return Metric(name, title, "seconds", "time", about, blind, partial(readings.seconds, field))


def _counter(name: str, title: str, field: str, about: str, blind: str) -> Metric:
    return Metric(name, title, "count", "count", about, blind, partial(readings.count, field), True)


def _memory(
    name: str, title: str, fields: Mapping[str, Source], about: str, blind: str, *, batch: int = 0
) -> Metric:
    reader = partial(readings.growth, MappingProxyType(dict(fields)))
    return Metric(name, title, "bytes", "memory", about, blind, reader, batch=batch)


def _all() -> tuple[Metric, ...]:
    return (
        _time(
            "time",
            "time",
            "ns",
            "Time on the session's clock, in the phases of the workload.",
            "The set-up of the mechanism (time.setup), checks, and the exit of the agent. On the "
            "instruction clock caches and memory bandwidth; on the modelled clock all that the "
            "model leaves out.",
        ),
        Metric(
            "cpu",
            "CPU",
            "seconds",
            "time",
            "CPU time, user and system, all threads of the process that is in the phase. On a "
            "busy machine it varies several times less than time: waiting for a CPU is not in it.",
            "Waiting of any kind, also that for a handler thread to be woken. Work of other "
            "processes and of kernel threads (ksmd). Read in whole microseconds.",
            readings.cpu,
        ),
        _time(
            "user",
            "user CPU",
            "user_ns",
            "CPU time in user mode, all threads of the process that is in the phase.",
            "Work of other processes and of kernel threads (ksmd).",
        ),
        _time(
            "system",
            "system CPU",
            "system_ns",
            "CPU time in the kernel, all threads of the process that is in the phase.",
            "Work of other processes and of kernel threads (ksmd, kswapd).",
        ),
        _counter(
            "faults",
            "faults",
            "faults",
            "Page faults that the kernel counted, minor and major.",
            "SIGBUS and SIGSEGV rounds: see traps. Pages that fault-around mapped along.",
        ),
        _counter(
            "minor",
            "minor faults",
            "minor_faults",
            "Page faults that needed no waiting.",
            "As faults.",
        ),
        _counter(
            "major",
            "major faults",
            "major_faults",
            "Page faults that waited: for a disk; on some kernels, not on 6.18, for a "
            "userfaultfd handler thread too.",
            "As faults.",
        ),
        _counter(
            "traps",
            "traps",
            "traps",
            "Faults plus the SIGBUS and SIGSEGV rounds, which the kernel does not count as "
            "faults. A userfault that a thread handled is a fault already. perf stat -e "
            "page-faults counts the same.",
            "System calls: they enter the kernel too.",
        ),
        _counter(
            "sigbus",
            "SIGBUS",
            "sigbus",
            "SIGBUS signals that the mechanism handled.",
            "Rounds that another process handled.",
        ),
        _counter(
            "sigsegv",
            "SIGSEGV",
            "sigsegv",
            "SIGSEGV signals that the mechanism handled.",
            "Rounds that another process handled.",
        ),
        _counter(
            "uffd-messages",
            "uffd messages",
            "uffd_messages",
            "Messages that a userfaultfd handler thread read.",
            "Userfaults that end as SIGBUS: they send no message.",
        ),
        _counter(
            "syscalls",
            "system calls",
            "syscalls",
            "System calls that the mechanism and the workload made themselves.",
            "Those of the C library and of the agent around them.",
        ),
        Metric(
            "lost",
            "memory lost",
            "bytes",
            "memory",
            "Memory that the system loses: growth of the run's memory cgroup (anonymous, shared "
            "and kernel memory; on version 1 usage_in_bytes, with kernel memory) since start, "
            "plus what the mechanism already held then. Without a cgroup, marked as source "
            "process: growth of anonymous RSS without merged pages, held files, page tables.",
            _BATCHED + " With source process: slab (a VMA is about 200 bytes), kernel stacks, "
            "page tables and pages of forked children other than the one that stopped.",
            readings.lost,
            batch=CHARGE_BATCH,
        ),
        _memory(
            "rss",
            "RSS",
            {"rss": "process"},
            "Resident set size: mapped pages, each as often as it is mapped.",
            "What is shared: one page mapped a million times counts a million times. Special "
            "PTEs (the zero page, a reference page), page tables, slab, files that are not "
            f"mapped. May lag by {RSS_BATCH} pages a CPU (before Linux 6.2: a thread).",
            batch=RSS_BATCH,
        ),
        _memory(
            "pss",
            "PSS",
            {"pss": "process"},
            "Proportional set size: each page divided by the number of times that it is mapped.",
            "Filled pages of a memfd that nobody maps: they are in Shmem. Page tables, slab.",
        ),
        _memory(
            "uss",
            "USS",
            {"uss": "process"},
            "Unique set size: pages that only this process maps.",
            "Anything shared, also with itself: a page that one process maps twice.",
        ),
        _memory(
            "hwm",
            "peak RSS",
            {"hwm": "process"},
            "VmHWM, reset at the start of the sample: the highest RSS on the way.",
            f"As RSS. The mark is taken at some events only and may lag by {RSS_BATCH} pages a "
            "CPU. It is never ru_maxrss, which survives exec and reports a parent's.",
            batch=RSS_BATCH,
        ),
        _memory(
            "swap",
            "swapped",
            {"swap": "process"},
            "Pages of the process in swap.",
            "Shared memory in swap.",
        ),
        _memory(
            "ksm",
            "merged by KSM",
            {"ksm": "process"},
            "Bytes of the process that KSM has merged.",
            "KSM's own data structures: they are slab.",
        ),
        Metric(
            "held",
            "held",
            "bytes",
            "memory",
            "Bytes of files that the mechanism keeps (memfd blocks), from st_blocks; no growth.",
            "Memory that is no file.",
            partial(readings.level, "held"),
            True,
        ),
        Metric(
            "vmas",
            "VMAs",
            "count",
            "memory",
            "Mappings of the process beyond those at start.",
            "Mappings of forked children other than the one that stopped.",
            partial(readings.growth, MappingProxyType({"vmas": "process"})),
            True,
        ),
        Metric(
            "pte",
            "VmPTE",
            "bytes",
            "memory",
            "VmPTE: page tables of the process.",
            "Page tables of other processes, upper levels that were there before.",
            partial(readings.growth, MappingProxyType({"pte": "process"})),
            True,
        ),
        _memory(
            "shmem",
            "Shmem",
            {"cgroup_shmem": "cgroup", "sys_shmem": "system"},
            "Shared memory and tmpfs, memfds included: of the cgroup, else of the system.",
            _BATCHED + f" {_OTHERS}",
            batch=CHARGE_BATCH,
        ),
        Metric(
            "slab",
            "slab",
            "bytes",
            "memory",
            "Slab memory, VMAs included: of the cgroup, where it counts slab apart; else its "
            "kernel memory without the process's page tables; else SUnreclaim of the system.",
            _BATCHED + " SUnreclaim does not see objects that are handed out from pages that were "
            f"there before. {_OTHERS}",
            readings.slab,
            batch=CHARGE_BATCH,
        ),
        _memory(
            "cgroup-current",
            "cgroup current",
            {"cgroup_current": "cgroup"},
            "Growth of the run's memory cgroup, all kinds.",
            _BATCHED,
            batch=CHARGE_BATCH,
        ),
        Metric(
            "cgroup-peak",
            "cgroup peak",
            "bytes",
            "memory",
            "The cgroup's highest charge, above its charge at start.",
            _BATCHED + " Absent on version 2 before Linux 6.12, which cannot reset the mark.",
            readings.peak,
            batch=CHARGE_BATCH,
        ),
        _memory(
            "cgroup-anon",
            "cgroup anonymous",
            {"cgroup_anon": "cgroup"},
            "Growth of anonymous memory in the cgroup.",
            "Statistics by kind are flushed lazily, by the kernel within two seconds.",
            batch=CHARGE_BATCH,
        ),
        _memory(
            "cgroup-shmem",
            "cgroup Shmem",
            {"cgroup_shmem": "cgroup"},
            "Growth of shared memory in the cgroup.",
            "Statistics by kind are flushed lazily, by the kernel within two seconds.",
            batch=CHARGE_BATCH,
        ),
        _memory(
            "cgroup-kernel",
            "cgroup kernel",
            {"cgroup_kernel": "cgroup"},
            "Growth of kernel memory in the cgroup: page tables, slab, stacks.",
            _BATCHED,
            batch=CHARGE_BATCH,
        ),
    )


METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _all()})
"""All metrics by name, without parts."""
