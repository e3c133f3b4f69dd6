"""Sessions in guests: counts that agree, limits, kernel faults, and what the journal gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from refbench.plan import Request, make_plan
from refbench.plugins import registry
from refbench.samples import Run
from refbench.vm.kernels import Kernel
from refbench.words import Cell, Clock
from refbench_qemu.channel import QemuChannel
from refbench_qemu.port import GuestPort
from refbench_qemu.session import CGROUP, QemuSession

MakeCell = Callable[..., Cell]
Open = Callable[..., QemuSession]


def channel_of(session: QemuSession) -> QemuChannel:
    channel = session.channel
    assert isinstance(channel, QemuChannel)
    return channel


def counts(run: Run) -> list[dict[str, int]]:
    assert run.failure is None, run.failure
    return [{name: phase.ns for name, phase in sample.phases.items()} for sample in run.samples]


def total(run: Run) -> int:
    return sum(sum(sample.values()) for sample in counts(run)[1:])


def test_capabilities_tell_what_the_guest_is(counted: QemuSession, patched: Kernel) -> None:
    found = counted.capabilities()
    assert counted.clock is Clock.INSTRUCTIONS
    assert found.kernel == patched.version
    assert 300 << 20 < found.memory < 512 << 20
    assert {name for name, item in found.mechanisms.items() if item.ok} >= {
        "anon", "memset", "memfd", "ksm", "uffd", "segv", "refpage", "refpage-mmap", "refpage-dev",
    }  # fmt: skip
    assert [name for name, item in found.metrics.items() if not item.ok] == ["swap"]
    facts = found.environment
    assert facts["kernel-digest"] == patched.digest[:16]
    assert facts["kernel-patches"].count("@") == len(patched.patches)
    assert facts["cpu-model"] == "max,-erms,-fsrm"
    assert facts["accel"] == "tcg"
    assert facts["faults-at-boot"] == "none"
    assert facts["thp"] == "madvise"
    assert "init_on_alloc=0" in facts["command-line"]


def test_one_cell_counts_the_same_whatever_ran_before(
    counted: QemuSession, open_qemu: Open, cell: MakeCell
) -> None:
    first = counts(counted.run(cell("anon"), 2, 120))
    for other in ("memfd:block=16", "ksm", "segv"):
        assert counted.run(cell(other), 1, 120).failure is None
    assert counts(counted.run(cell("anon"), 2, 120)) == first
    with open_qemu() as another:
        assert another.run(cell("memset"), 1, 120).failure is None
        assert counts(another.run(cell("anon"), 2, 120)) == first


def test_a_slow_host_changes_counts_by_one_batch_at_most(
    counted: QemuSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What segv unmaps comes back in a batch that lies at the edge of a tick: docs/qemu.md says how
    far the sides are apart. A guest that starts programs by the host's pace differs by 2 %."""
    request = Request(mechanisms=("segv",), workloads=("fork-child-write",))
    known = counted.capabilities()
    plan = make_plan(registry(), known.page_size, request, known.mechanisms, clock=counted.clock)
    at_once = total(counted.run(plan.cells[0], 2, 120))
    send = GuestPort._send

    def send_late(port: GuestPort, data: bytes) -> None:
        sleep(1.7)
        send(port, data)

    monkeypatch.setattr(GuestPort, "_send", send_late)
    late = total(counted.run(plan.cells[0], 2, 120))
    assert abs(late - at_once) < 0.002 * at_once


def test_every_mechanism_of_the_patched_kernel_measures(
    counted: QemuSession, cell: MakeCell
) -> None:
    pages = 4 << 20 >> 12
    for mechanism in ("refpage", "refpage-mmap", "refpage-dev"):
        run = counted.run(cell(mechanism), 1, 120)
        assert run.failure is None, run.failure
        assert run.kept[0].phases["touch"].faults == 64, mechanism
        assert run.kept[0].memory["touch"].rss < pages << 12


def test_a_cell_that_cannot_fit_is_refused_beforehand(counted: QemuSession, cell: MakeCell) -> None:
    boots = channel_of(counted).boots
    run = counted.run(cell("memset", size=1 << 30), 1, 120)
    assert run.failure is not None
    assert run.failure.kind == "limit-hit"
    assert run.failure.wanted == 1 << 30
    assert 300 << 20 < run.failure.limit < 512 << 20
    assert "qemu:memory=SIZE" in run.failure.remedy
    assert channel_of(counted).boots == boots


def test_an_agent_killed_by_its_cgroups_limit_has_hit_a_limit(
    used: QemuSession, cell: MakeCell
) -> None:
    assert used.run(cell("anon"), 1, 120).failure is None
    channel = channel_of(used)
    guest, boots = channel.guest(), channel.boots
    guest.port.write(f"{CGROUP}/memory.max", str(16 << 20))
    try:
        run = used.run(cell("memset", size=64 << 20), 1, 120)
    finally:
        guest.port.write(f"{CGROUP}/memory.max", "max")
    assert run.failure is not None
    assert run.failure.kind == "limit-hit", run.failure
    assert used.run(cell("anon"), 1, 120).failure is None
    assert channel.boots == boots


def test_a_guest_out_of_memory_is_a_kernel_fault_and_the_plan_goes_on(
    used: QemuSession, cell: MakeCell
) -> None:
    assert used.run(cell("anon"), 1, 120).failure is None
    channel = channel_of(used)
    boot = channel.boots
    # Locked away behind the session's back: what it knows to be free is not there any more.
    hole = channel.guest().port.read("/proc/meminfo").split("MemFree:")[1].split()[0]
    size = (int(hole) << 10) - (24 << 20)
    channel.guest().port.write("/proc/sys/vm/nr_hugepages", str(size >> 21))
    run = used.run(cell("memset", size=128 << 20), 1, 120)
    assert run.failure is not None
    assert run.failure.kind == "kernel-fault", run.failure
    assert any("Out of memory" in line or "oom-killer" in line for line in run.failure.log)
    assert run.boot == boot
    after = used.run(cell("anon"), 1, 120)
    assert after.failure is None
    assert after.boot == boot + 1


def test_a_session_that_is_closed_leaves_no_qemu(open_qemu: Open) -> None:
    session = open_qemu(fresh="boot")
    pid = channel_of(session).guest().machine.pid
    assert Path(f"/proc/{pid}").exists()
    session.close()
    session.close()
    assert not Path(f"/proc/{pid}").exists()
