"""A session in guests: the agent's session, the guard's findings, and what a guest is like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from refbench import limits
from refbench.agent import Binary
from refbench.agent_session import AgentSession
from refbench.backend import Answer
from refbench.errors import BackendError, KernelFault, LimitHit, Unsupported
from refbench.grammar import format_size
from refbench.housekeeping import SessionState
from refbench.merging import KSM, KSM_FAST, merges
from refbench.plugins import registry
from refbench.program import KernelReads, Program
from refbench.protocol import AgentInfo, MechanismInfo
from refbench.vm import disks
from refbench.vm.guard import CGROUP_OOM
from refbench.words import AVAILABLE, Availability, Capabilities, Cell, Clock
from refbench_qemu.boot import SCRATCH, Recipe
from refbench_qemu.channel import QemuChannel

CGROUP = "/sys/fs/cgroup/agents"
"""The cgroup of agents, which native/guest/ makes."""
_SETTINGS = {
    "thp": "/sys/kernel/mm/transparent_hugepage/enabled",
    "thp-shmem": "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "fault-around-bytes": "/sys/kernel/debug/fault_around_bytes",
    "vm.max_map_count": "/proc/sys/vm/max_map_count",
    "vm.overcommit_memory": "/proc/sys/vm/overcommit_memory",
    "vm.swappiness": "/proc/sys/vm/swappiness",
    "clocksource": "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "command-line": "/proc/cmdline",
}
_KSM_ON = {f"{KSM}/{name}": value for name, value in KSM_FAST.items()}
_KSM_OFF = {f"{KSM}/run": "0"}
_RESERVE = 16 << 20
"""Bytes of MemAvailable that the kernel itself and the agent want to go on."""


class QemuSession(AgentSession):
    """Measures cells in guests of ``recipe``. Made by :meth:`QemuBackend.open`.

    ``facts`` are what the backend knows of the machine beforehand.

    :raises BackendError: when the guest does not come up.
    """

    def __init__(
        self,
        recipe: Recipe,
        agent: Binary,
        state: SessionState,
        *,
        facts: Mapping[str, str],
    ) -> None:
        channel = QemuChannel(recipe, state.files, mark=state.mark, ahead=(agent.path,))
        self._qemu = channel
        self._facts = facts
        self._memory_of = (0, 0)
        self._has_cgroup = bool(channel.read(f"{CGROUP}/memory.stat"))
        self._has_ksm = bool(channel.read(f"{KSM}/run"))
        arguments: tuple[str, ...] = ("--scratch", SCRATCH)
        if self._has_cgroup:
            arguments += ("--cgroup", "v2", "--cgroup-dir", CGROUP)
        clock = Clock.INSTRUCTIONS if recipe.spec.icount else Clock.REAL
        super().__init__(channel, agent=agent, clock=clock, arguments=arguments, state=state)

    def capabilities(self) -> Capabilities:
        """See :class:`~refbench.agent_session.AgentSession`.

        :raises BackendError: when the agent does not run there, or the kernel fails under it.
        """
        try:
            return super().capabilities()
        except BackendError as error:
            if not self._qemu.faults:
                raise
            raise BackendError(
                "The guest's kernel failed while the agent found out what works there: "
                f"{self._qemu.faults[0].headline}",
                remedy="Take another kernel, or leave its module out.",
            ) from error

    def environment(self, info: AgentInfo) -> Mapping[str, str]:
        """What the guest was made of, and what it says of itself."""
        probe = "; ".join(finding.headline for finding in self._qemu.faults)
        guest = self._qemu.guest()
        said = {name: _choice(self._qemu.read(path)) for name, path in _SETTINGS.items()}
        refused = "; ".join(f"{what}: {why}" for what, why in guest.refused.items())
        boot = "; ".join(finding.headline for finding in guest.boot_faults)
        return {
            **self._facts,
            **{name: text or "not readable" for name, text in said.items()},
            "cgroup": "v2" if self._has_cgroup else "none",
            "ksm": "on for cells of ksm",
            "refused-settings": refused or "none",
            "faults-at-boot": boot or "none",
            "faults-at-probe": probe or "none",
        }

    def memory(self, info: AgentInfo) -> int:
        """MemAvailable and free swap of a guest in which nothing runs."""
        return self._memory_left()

    def metrics(self, info: AgentInfo) -> Mapping[str, Availability]:
        """The groups of metrics, each with the reason when it is missing."""
        table = self._meminfo()
        kernel = self._qemu.recipe.kernel.name
        return {
            "cgroup": AVAILABLE
            if self._has_cgroup
            else _missing(f"The kernel {kernel} has no memory controller of cgroups (MEMCG)."),
            "slab": AVAILABLE
            if "SUnreclaim" in table
            else _missing("/proc/meminfo does not show SUnreclaim."),
            "kernel-log": AVAILABLE,
            "swap": AVAILABLE
            if table.get("SwapTotal")
            else Availability(False, "This guest has no swap.", "Give it some: qemu:swap=256MiB."),
            "ksm": AVAILABLE if self._has_ksm else _missing(f"The kernel {kernel} has no KSM."),
        }

    def explain(self, mechanism: MechanismInfo) -> Availability:
        """The probe's answer; KSM is switched on when a cell needs it."""
        if mechanism.name == "ksm" and self._has_ksm:
            return AVAILABLE
        return super().explain(mechanism)

    def prepare(self, cell: Cell) -> None:
        """Have a guest that is well; refuse what cannot fit in it; switch KSM on.

        :raises LimitHit: with the bytes that are wanted and those that there are.
        :raises Unsupported: without the tool that makes a disk, when the cell wants one.
        """
        self._qemu.guest()
        self._boot = self._qemu.boots
        populates = registry().mechanism(cell.mechanism).populates
        page_size = self.capabilities().page_size
        wanted = limits.populated(cell.program, populates, page_size)
        left = self._memory_left()
        if wanted > left:
            raise LimitHit(
                f"{cell.label} under {cell.mechanism} populates {format_size(wanted)}, and the"
                f" guest has {format_size(left)} (MemAvailable and free swap).",
                wanted=wanted,
                limit=left,
                remedy="Give the guest more (qemu:memory=SIZE), or take a smaller size.",
            )
        if self._has_ksm:
            self._qemu.settings = _KSM_ON if merges(cell) else _KSM_OFF
        self._qemu.disk = _disk() if _wants_disk(cell.program) else None

    def judge(self, answer: Answer) -> None:
        """A fault of the guest's kernel fails the run that it happened in.

        :raises KernelFault: with the lines of the kernel's log.
        :raises LimitHit: when the kernel killed the agent because of a cgroup's limit.
        """
        faults = [fault for fault in self._qemu.faults if fault.rule != CGROUP_OOM]
        if faults:
            first = faults[0].fault()
            more = f" And {len(faults) - 1} more." if len(faults) > 1 else ""
            lines = tuple(line for fault in faults for line in fault.lines)
            raise KernelFault(first.message + more, log=lines, remedy=first.remedy)
        if self._qemu.faults and answer.signal:
            limit = self._qemu.read(f"{CGROUP}/memory.max")
            raise LimitHit(
                "The guest's kernel killed the agent because its cgroup's limit"
                f" (memory.max: {limit}) was reached.",
                wanted=0,
                limit=int(limit) if limit.isdecimal() else 0,
                remedy="Take a smaller size, or a higher limit.",
            )

    def _memory_left(self) -> int:
        """Bytes; read once a boot, because a guest whose agent has ended is as it was."""
        boot, left = self._memory_of
        if boot != self._qemu.boots:
            table = self._meminfo()
            left = max(table.get("MemAvailable", 0) + table.get("SwapFree", 0) - _RESERVE, 0)
            self._memory_of = (self._qemu.boots, left)
        return left

    def _meminfo(self) -> Mapping[str, int]:
        """The guest's /proc/meminfo in bytes; its counts without a unit are left out."""
        words = (line.split() for line in self._qemu.read("/proc/meminfo").splitlines())
        return {line[0].rstrip(":"): int(line[1]) << 10 for line in words if line[2:] == ["kB"]}


def _choice(text: str) -> str:
    """The chosen word of ``always [madvise] never``, else the text."""
    start, end = text.find("["), text.find("]")
    return text[start + 1 : end] if 0 <= start < end else text


def _wants_disk(program: Program) -> bool:
    """Whether it writes past the page cache, which takes a disk."""
    return any(isinstance(step, KernelReads) and step.via == "direct" for step in program.steps)


def _disk() -> Path:
    try:
        return disks.build()
    except BackendError as error:
        raise Unsupported(error.message, remedy=error.remedy) from error


def _missing(reason: str) -> Availability:
    return Availability(False, reason, "Take a kernel that `refbench kernel build` makes.")
