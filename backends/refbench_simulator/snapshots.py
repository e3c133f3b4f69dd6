"""Memory snapshots: what the agent would read in /proc and in the memory cgroup."""

from __future__ import annotations

from refbench.samples import MemorySnapshot
from refbench_simulator.model import accounting
from refbench_simulator.model.machine import Machine
from refbench_simulator.process import Process


def take(machine: Machine, process: Process) -> MemorySnapshot:
    """Of one process, as refbench's own metrics need it: growth over the start is the program's.

    The process's own pages are left out; its own VMAs are counted, because they count towards
    the limit.
    """
    space, size = process.space, machine.kernel.page_size
    shares = accounting.shares(space)
    shmem = accounting.file_pages(machine) * size
    tables = accounting.table_pages(machine) * size
    slab = accounting.slab(machine)
    kept = accounting.kept_pages(machine) * size
    anon = accounting.anonymous(machine) * size
    current = accounting.current(machine)
    accounting.note_peak(machine)
    return MemorySnapshot(
        rss=space.rss * size,
        rss_anon=space.anon * size,
        rss_file=space.filed * size,
        rss_shmem=space.shmem * size,
        hwm=max(space.most, space.rss) * size,
        pte=space.tables.count * size,
        vmas=space.vmas + machine.kernel.own_vmas,
        pss=shares.pss,
        uss=shares.uss,
        swap=space.swapped * size,
        ksm=shares.merged,
        held=process.model.held(space),
        sys_shmem=shmem,
        sys_slab=slab,
        sys_pagetables=tables,
        cgroup_current=current,
        cgroup_peak=machine.peak,
        cgroup_anon=anon,
        cgroup_file=shmem,
        cgroup_shmem=shmem,
        cgroup_kernel=tables + slab + kept + accounting.processes(machine),
        cgroup_pagetables=tables,
        cgroup_slab=slab,
    )
