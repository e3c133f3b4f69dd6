"""What this machine is like: the facts that the numbers depend on, read from /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

_PLAIN = {
    "thp": "/sys/kernel/mm/transparent_hugepage/enabled",
    "thp-shmem": "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "fault-around-bytes": "/sys/kernel/debug/fault_around_bytes",
    "vm.max_map_count": "/proc/sys/vm/max_map_count",
    "vm.overcommit_memory": "/proc/sys/vm/overcommit_memory",
    "vm.swappiness": "/proc/sys/vm/swappiness",
    "vm.unprivileged_userfaultfd": "/proc/sys/vm/unprivileged_userfaultfd",
    "kernel.numa_balancing": "/proc/sys/kernel/numa_balancing",
    "kernel.randomize_va_space": "/proc/sys/kernel/randomize_va_space",
    "ksm": "/sys/kernel/mm/ksm/run",
    "hypervisor": "/sys/hypervisor/type",
    "clocksource": "/sys/devices/system/clocksource/clocksource0/current_clocksource",
}
NOT_READABLE = "not readable"


def read(path: str | Path) -> str:
    """The text of a small file, without its line end; empty when it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def environment(cpus: Sequence[int]) -> Mapping[str, str]:
    """The facts, by name. What cannot be read says so, because it is then not known to be
    equal in two measurements."""
    facts = {name: _choice(read(path)) or NOT_READABLE for name, path in _PLAIN.items()}
    if facts["hypervisor"] == NOT_READABLE:
        facts["hypervisor"] = "yes" if "hypervisor" in _cpu_field("flags").split() else "none seen"
    first = cpus[0] if cpus else 0
    frequency = f"/sys/devices/system/cpu/cpu{first}/cpufreq"
    return facts | {
        "cpu-model": _cpu_field("model name") or read("/proc/device-tree/model") or NOT_READABLE,
        "cpus": ",".join(map(str, cpus)) or "any",
        "cpus-online": str(os.cpu_count()),
        "governor": read(f"{frequency}/scaling_governor") or NOT_READABLE,
        "turbo": _turbo(),
        "mitigations": _mitigations(),
        "memory": str(meminfo().get("MemTotal", 0)),
        "swap": str(meminfo().get("SwapTotal", 0)),
        "user": "root" if os.geteuid() == 0 else "ordinary",
    }


def meminfo() -> Mapping[str, int]:
    """/proc/meminfo in bytes."""
    table = {}
    for line in read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        table[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return table


def _choice(text: str) -> str:
    """The chosen word of ``always [madvise] never``, else the text."""
    start, end = text.find("["), text.find("]")
    return text[start + 1 : end] if 0 <= start < end else text


def _cpu_field(name: str) -> str:
    for line in read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _turbo() -> str:
    if no_turbo := read("/sys/devices/system/cpu/intel_pstate/no_turbo"):
        return "off" if no_turbo == "1" else "on"
    if boost := read("/sys/devices/system/cpu/cpufreq/boost"):
        return "on" if boost == "1" else "off"
    return NOT_READABLE


def _mitigations() -> str:
    """``name: what the kernel does`` of every CPU weakness that this machine has."""
    place = Path("/sys/devices/system/cpu/vulnerabilities")
    try:
        found = {path.name: read(path) for path in sorted(place.iterdir())}
    except OSError:
        return NOT_READABLE
    affected = {name: text for name, text in found.items() if text != "Not affected"}
    return "; ".join(f"{name}: {text}" for name, text in affected.items()) or "not affected"
