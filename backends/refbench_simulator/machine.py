"""A machine that the simulator is to be like: its knobs, and the one that is running now."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from refbench.errors import BackendError
from refbench_simulator import measure
from refbench_simulator.knobs import AGENT_VMAS
from refbench_simulator.settings import KNOBS, Given, parse

THIS_MACHINE = "this machine"
_CAP_SYS_PTRACE = 19
"""include/uapi/linux/capability.h"""
_ARCHES = {"aarch64": "arm64", "AMD64": "x86_64"}
_THP = Path("/sys/kernel/mm/transparent_hugepage")
_KSM = Path("/sys/kernel/mm/ksm/run")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's knobs, checked. What could not be told is not among them."""

    name: str
    knobs: Given
    unmodelled: tuple[str, ...] = ()
    """What it does and the model does not: a sentence each."""

    @property
    def assumed(self) -> tuple[str, ...]:
        """The knobs that are taken to be a stock machine's, because nothing tells them."""
        told = {*self.knobs, "memory"}
        return tuple(knob.name for knob in KNOBS if knob.name not in told)


def this_machine(without: Collection[str] = ()) -> Machine:
    """The machine that this runs on; any user may ask. ``without`` names knobs that somebody
    else sets, so that nothing is made of what the machine has there.

    Its memory is not read: a simulation is not bound by the machine that it runs on, and a
    limit that nobody asked for would reclaim pages that the real one keeps.

    :raises BackendError: where it is not Linux.
    :raises UsageError: when it is a machine that the model does not know.
    """
    if sys.platform != "linux":
        raise BackendError(
            f"like=host reads the settings of a running Linux, and this is {sys.platform}.",
            remedy="Leave like= out, or save a Linux machine there with "
            "`refbench machine --save FILE` and give from=FILE here.",
        )
    texts = {name: text for name, text in _texts() if name not in without and text}
    return Machine(
        THIS_MACHINE, parse(texts, name=THIS_MACHINE, what="machine"), tuple(_unmodelled())
    )


def _texts() -> Iterator[tuple[str, str]]:
    """Knobs and their texts; an empty text for what cannot be told."""
    page = os.sysconf("SC_PAGE_SIZE")
    machine = platform.machine()
    maps = _read("/proc/self/maps").splitlines()
    around, reclaims = measure.fault_around(page), measure.reclaims_tables(page)
    yield "kernel", platform.release()
    yield "arch", _ARCHES.get(machine, machine)
    yield "page", str(page)
    yield "around", str(around or "")
    yield "thp", _chosen(_THP / "enabled") or "never"
    yield "max-map-count", _read("/proc/sys/vm/max_map_count")
    yield "swap", _swap()
    yield "ksm", _switch(_ksm())
    yield "privileged", _switch(_privileged())
    yield "unprivileged-userfaultfd", _switch(_anybody_has_userfaultfd())
    yield "pt-reclaim", "" if reclaims is None else _switch(reclaims)
    if maps:
        special = [line.split()[-1] for line in maps if line.endswith("]") and "[v" in line]
        yield "vsyscall", _switch("[vsyscall]" in special)
        yield "own-vmas", str(AGENT_VMAS + len(special))


def _unmodelled() -> Iterator[str]:
    whole = _chosen(_THP / "enabled")
    sizes = sorted(path.parent.name for path in _THP.glob("hugepages-*/enabled") if _on(path))
    if sizes and whole != "never":
        names = ", ".join(name.removeprefix("hugepages-") for name in sizes)
        yield f"Anonymous memory may come in folios of {names}; the model has pages and PMDs only."
    if _chosen(_THP / "shmem_enabled") in ("always", "within_size", "force"):
        yield "Files in memory come in huge pages; the model fills memfds page by page."
    if _read("/proc/sys/kernel/numa_balancing") not in ("", "0"):
        yield "NUMA balancing adds hinting faults; refbench cannot switch them off."
    if _read("/proc/sys/vm/overcommit_memory") == "2":
        yield "Overcommit is strict; the model never refuses a mapping for it."


def _on(path: Path) -> bool:
    """Whether folios of a size other than a PMD's are in use, for anybody who does not ask."""
    pmd = int(_read(_THP / "hpage_pmd_size") or 0) >> 10
    return path.parent.name != f"hugepages-{pmd}kB" and _chosen(path) != "never"


def _swap() -> str:
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "SwapTotal":
            return str(int(rest.split()[0]) << 10)
    return ""


def _ksm() -> bool:
    """Whether it runs, or the host backend may switch it on for cells of ksm."""
    return _read(_KSM) == "1" or os.access(_KSM, os.W_OK)


def _privileged() -> bool:
    """CAP_SYS_PTRACE as ``capable()`` wants it: in the first user namespace."""
    effective = 0
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    first = _read("/proc/self/uid_map").split() in ([], ["0", "0", "4294967295"])
    return first and bool(effective >> _CAP_SYS_PTRACE & 1)


def _anybody_has_userfaultfd() -> bool:
    """The sysctl or, from 6.1 on, the mode of the device."""
    if _read("/proc/sys/vm/unprivileged_userfaultfd") == "1":
        return True
    return not _privileged() and os.access("/dev/userfaultfd", os.R_OK | os.W_OK)


def _switch(on: bool) -> str:
    return "yes" if on else "no"


def _chosen(path: Path) -> str:
    """The word in brackets of ``always [madvise] never``."""
    _, _, rest = _read(path).partition("[")
    return rest.partition("]")[0]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
