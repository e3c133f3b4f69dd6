"""A session on this machine: the agent's session, and what only this machine's side knows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from refbench import limits
from refbench.agent import Binary
from refbench.agent_session import AgentSession
from refbench.backend import Answer
from refbench.errors import LimitHit
from refbench.grammar import format_size
from refbench.housekeeping import SessionState
from refbench.merging import KSM, KSM_FAST, merges
from refbench.plugins import registry
from refbench.protocol import AgentInfo, MechanismInfo
from refbench.words import AVAILABLE, Availability, Cell
from refbench_host import facts
from refbench_host.cgroup import Hierarchy, MemoryCgroup, NoCgroupError, limit_left
from refbench_host.channel import HostChannel

_FRESH_SECONDS = 1.0
"""How long the free memory that was read last stands in for reading it again, for a cell that
wants no more than half of it: reading costs a third of a millisecond."""
_UFFD = Path("/proc/sys/vm/unprivileged_userfaultfd")


class HostSession(AgentSession):
    """Measures cells on this machine. Made by :meth:`HostBackend.open`."""

    def __init__(
        self,
        channel: HostChannel,
        agent: Binary,
        state: SessionState,
        *,
        cpus: tuple[int, ...],
        group: MemoryCgroup | None,
        hierarchy: Hierarchy | None,
        why_no_group: NoCgroupError | None,
        switch_ksm: bool,
    ) -> None:
        arguments = ["--scratch", str(state.files)]
        if group is not None:
            arguments += ["--cgroup", group.version, "--cgroup-dir", str(group.directory)]
        super().__init__(channel, agent=agent, arguments=tuple(arguments), state=state)
        self._host = channel
        self._cpus = cpus
        self._group = group
        self._hierarchy = hierarchy
        self._why_no_group = why_no_group
        self._switch_ksm = switch_ksm
        self._ksm_is_on = False
        self._oom_kills = 0
        self._wanted: dict[int, tuple[Cell, int]] = {}
        self._strict = facts.read("/proc/sys/vm/overcommit_memory") == "2"
        self._seen = (0, "")
        self._seen_at = -_FRESH_SECONDS

    def environment(self, info: AgentInfo) -> Mapping[str, str]:
        """The machine's facts; what the launcher could not set is named."""
        switched = {"ksm": "on for cells of ksm"} if self._can_switch_ksm() else {}
        refused = "; ".join(f"{what}: {why}" for what, why in self._host.refused.items())
        return {
            **facts.environment(self._cpus),
            **switched,
            "cgroup": self._group.version if self._group else "none",
            "refused-settings": refused or "none",
        }

    def memory(self, info: AgentInfo) -> int:
        """MemAvailable and free swap, or what a cgroup limit leaves."""
        return self._memory_left()[0]

    def metrics(self, info: AgentInfo) -> Mapping[str, Availability]:
        """The groups of metrics, each with the reason when it is missing."""
        no_group = self._why_no_group
        return {
            "cgroup": AVAILABLE
            if no_group is None
            else Availability(False, no_group.reason, no_group.remedy),
            "slab": _present("SUnreclaim"),
            "kernel-log": _readable(Path("/dev/kmsg"), "The kernel log"),
            "swap": AVAILABLE
            if facts.meminfo().get("SwapTotal", 0)
            else Availability(False, "This machine has no swap.", "Switch some on with swapon."),
            "ksm": _readable(KSM / "pages_shared", "KSM"),
        }

    def explain(self, mechanism: MechanismInfo) -> Availability:
        """The probe's answer with this machine's reasons and remedies."""
        if mechanism.ok:
            return AVAILABLE
        reason, remedy = mechanism.reason, mechanism.remedy
        if mechanism.name.startswith("uffd") and facts.read(_UFFD) == "0" and os.geteuid() != 0:
            reason = reason or "userfaultfd is for root here (vm.unprivileged_userfaultfd is 0)."
            remedy = remedy or "Run as root, or: sysctl vm.unprivileged_userfaultfd=1"
        if mechanism.name == "ksm" and (KSM / "run").exists():
            if self._can_switch_ksm():
                return AVAILABLE
            reason = reason or "KSM is switched off."
            remedy = remedy or "Run as root, or: echo 1 > /sys/kernel/mm/ksm/run"
        return Availability(False, reason, remedy)

    def prepare(self, cell: Cell) -> None:
        """Refuse what cannot fit, rather than have the kernel kill for it; switch KSM on.

        :raises LimitHit: with the bytes that are wanted and those that there are.
        """
        wanted = self._populated(cell)
        self._check_memory(cell, wanted)
        self._check_commit(cell)
        if merges(cell) and not self._ksm_is_on and self._can_switch_ksm():
            for name, value in KSM_FAST.items():
                if (KSM / name).exists():
                    self._state.set_knob(KSM / name, value)
            self._ksm_is_on = True

    def judge(self, answer: Answer) -> None:
        """An agent that the kernel killed for want of memory has hit a limit.

        :raises LimitHit: for such an agent.
        """
        if not answer.signal or answer.deadline_passed or self._group is None:
            return
        before, self._oom_kills = self._oom_kills, self._group.oom_kills
        if self._oom_kills > before:
            left, what = self._memory_left()
            raise LimitHit(
                f"The kernel killed the agent because memory ran out; {what} is now"
                f" {format_size(left)}.",
                wanted=0,
                limit=left,
                remedy="Take a smaller size.",
            )

    def close(self) -> None:
        """End the agents, remove the cgroup, set back what was changed."""
        try:
            self._channel.close()
            if self._group is not None:
                self._group.remove()
        finally:
            super().close()

    def _can_switch_ksm(self) -> bool:
        return self._switch_ksm and os.access(KSM / "run", os.W_OK)

    def _populated(self, cell: Cell) -> int:
        key = id(cell)
        if key not in self._wanted:
            page_size = os.sysconf("SC_PAGE_SIZE")
            populates = registry().mechanism(cell.mechanism).populates
            wanted = limits.populated(cell.program, populates, page_size)
            # The cell is kept too, so that its id stays its own.
            self._wanted[key] = (cell, wanted)
        return self._wanted[key][1]

    def _memory_left(self) -> tuple[int, str]:
        """Bytes, and what bounds them."""
        table = facts.meminfo()
        left = table.get("MemAvailable", 0) + table.get("SwapFree", 0)
        within = limit_left(self._hierarchy) if self._hierarchy else None
        if within is not None and within < left:
            return within, "what the limit of the memory cgroup leaves"
        return left, "MemAvailable and free swap"

    def _check_memory(self, cell: Cell, wanted: int) -> None:
        left, what = self._seen
        if time.monotonic() > self._seen_at + _FRESH_SECONDS or wanted > left / 2:
            left, what = self._seen = self._memory_left()
            self._seen_at = time.monotonic()
        if wanted > left:
            raise LimitHit(
                f"{cell.label} under {cell.mechanism} populates {format_size(wanted)}, and there"
                f" are {format_size(left)} ({what}).",
                wanted=wanted,
                limit=left,
                remedy="Take a size that fits, or a mechanism that fills less.",
            )

    def _check_commit(self, cell: Cell) -> None:
        """With strict overcommit, private writable mappings need their whole size promised."""
        if not self._strict:
            return
        table = facts.meminfo()
        left = max(table.get("CommitLimit", 0) - table.get("Committed_AS", 0), 0)
        wanted = limits.mapped(cell.program)
        if wanted > left:
            raise LimitHit(
                f"{cell.label} maps {format_size(wanted)}, and vm.overcommit_memory=2 leaves"
                f" {format_size(left)} (CommitLimit less Committed_AS).",
                wanted=wanted,
                limit=left,
                remedy="Take a smaller size, or: sysctl vm.overcommit_memory=0",
            )


def _present(field: str) -> Availability:
    if field in facts.meminfo():
        return AVAILABLE
    return Availability(False, f"/proc/meminfo does not show {field}.", "Use a newer kernel.")


def _readable(path: Path, what: str) -> Availability:
    try:
        with path.open("rb"):
            return AVAILABLE
    except FileNotFoundError:
        return Availability(False, f"{what} is not in this kernel ({path} is missing).")
    except OSError as error:
        return Availability(
            False, f"{what} cannot be read: {error.strerror}.", "Run refbench as root."
        )
