"""What ``host`` offers and how it is opened."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from refbench.agent import build_agent, build_launcher, compiler_probe
from refbench.errors import BackendError, UsageError
from refbench.grammar import Option, Values
from refbench.housekeeping import SessionState
from refbench.words import Availability
from refbench_host import cgroup
from refbench_host.channel import HostChannel
from refbench_host.facts import read
from refbench_host.session import HostSession


class HostBackend:
    """This machine, on the kernel that is running."""

    name = "host"
    summary = "this machine, on the kernel that is running"
    options: Sequence[Option] = (
        Option(
            "cpu",
            "text",
            "auto",
            "where agents run: auto (one CPU), any, a number, or a range as 0-3",
        ),
        Option(
            "ksm",
            "choice",
            "auto",
            "auto: as root, switch KSM on while cells of ksm run; leave: never touch it",
            choices=("auto", "leave"),
        ),
    )

    def probe(self) -> Availability:
        """Whether agents can be built and run here."""
        if sys.platform != "linux":
            return Availability(
                False,
                f"The mechanisms are Linux's, and this is {sys.platform}.",
                "Use the simulator or a remote target here.",
            )
        return compiler_probe()

    def open(self, options: Values) -> HostSession:
        """Build what is needed and start the launcher.

        :raises BackendError: with the remedy.
        """
        available = self.probe()
        if not available.ok:
            raise BackendError(available.reason, remedy=available.remedy)
        cpus = choose_cpus(options.text("cpu"))
        agent, launcher = build_agent(), build_launcher()
        state = SessionState.create()
        group: cgroup.MemoryCgroup | None = None
        hierarchy: cgroup.Hierarchy | None = None
        why_not: cgroup.NoCgroupError | None = None
        try:
            try:
                hierarchy = cgroup.find()
                group = cgroup.make(f"refbench-{state.name}", hierarchy, state.remember_cgroup)
            except cgroup.NoCgroupError as error:
                why_not = error
            channel = HostChannel(
                launcher.path,
                cpus=cpus,
                cgroup=group.directory if group else None,
                mark=state.mark,
            )
        except BaseException:
            if group is not None:
                group.remove()
            state.close()
            raise
        return HostSession(
            channel,
            agent,
            state,
            cpus=cpus,
            group=group,
            hierarchy=hierarchy,
            why_no_group=why_not,
            switch_ksm=options.text("ksm") == "auto",
        )


def choose_cpus(text: str) -> tuple[int, ...]:
    """The CPUs that the option ``cpu`` means; none at all stands for all.

    ``auto`` takes an isolated CPU where there is one, else the last one that is allowed: CPU 0
    has most of the interrupts.

    :raises UsageError: for nonsense and for CPUs that are not there for this process.
    """
    allowed = os.sched_getaffinity(0)
    if text == "any":
        return ()
    if text == "auto":
        isolated = _parse_range(read(Path("/sys/devices/system/cpu/isolated"))) & allowed
        return (max(isolated or allowed),)
    try:
        chosen = _parse_range(text)
    except ValueError:
        raise UsageError(
            f"The option 'cpu' of the target 'host' cannot be {text!r}.",
            remedy="Write auto, any, a number, or a range as 0-3.",
        ) from None
    if not chosen or not chosen <= allowed:
        names = ",".join(map(str, sorted(allowed)))
        raise UsageError(
            f"The option 'cpu' of the target 'host' is {text}, which is not here.",
            remedy=f"This process may use the CPUs {names}.",
        )
    return tuple(sorted(chosen))


def _parse_range(text: str) -> set[int]:
    """The numbers in the kernel's list format, ``0-2,5``."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return numbers
