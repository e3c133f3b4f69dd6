"""The guest's first process does what it is asked, and says what the kernel refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from refbench.agent import NATIVE, build
from refbench.cache import Cache
from refbench_qemu.boot import Guest
from refbench_qemu.channel import QemuChannel
from refbench_qemu.port import RefusedError
from refbench_qemu.session import CGROUP, QemuSession


@pytest.fixture
def guest(used: QemuSession) -> Guest:
    channel = used.channel
    assert isinstance(channel, QemuChannel)
    return channel.guest()


def test_files_arrive_whole_and_are_read_back(guest: Guest) -> None:
    content = bytes(range(33, 127)) * 500
    guest.port.put("/tmp/of-a-test", 0o640, content)
    assert guest.port.read("/tmp/of-a-test") == content.decode()


def test_a_refused_request_names_the_call_and_the_reason(guest: Guest) -> None:
    with pytest.raises(RefusedError, match=r"put /nowhere/at-all: .*No such file"):
        guest.port.put("/nowhere/at-all", 0o644, b"x" * 100_000)
    with pytest.raises(RefusedError, match="Invalid argument"):
        guest.port.write("/proc/sys/vm/overcommit_memory", "many")
    with pytest.raises(RefusedError, match="No such file"):
        guest.port.module("/tmp/nothing.ko", "")
    with pytest.raises(RefusedError, match="swap /dev/null"):
        guest.port.swap("/dev/null")
    assert guest.port.read("/tmp/nothing") == ""
    assert guest.port.read("/proc/sys/vm/overcommit_memory") == "0"


def test_what_agents_need_is_mounted(guest: Guest) -> None:
    mounts = {
        line.split()[1]: line.split()[2] for line in guest.port.read("/proc/mounts").split("\n")
    }
    wanted = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/tmp": "tmpfs"}
    wanted |= {"/sys/fs/cgroup": "cgroup2", "/sys/kernel/debug": "debugfs"}
    assert {place: mounts.get(place) for place in wanted} == wanted
    assert "memory" in guest.port.read("/sys/fs/cgroup/cgroup.subtree_control").split()
    assert guest.port.read("/proc/sys/kernel/core_pattern") == "core"


def test_agents_run_in_their_cgroup_with_settings_of_the_launcher(
    guest: Guest, cache: Path
) -> None:
    witness = build("witness", (NATIVE / "witness.c",), "x86_64", Cache(cache)).path
    guest.bring("/tmp/witness", witness)
    # They are the same that a host's launcher makes; here it is their effect on a program.
    for path in ("/proc/self/cgroup", "/proc/self/personality", "/proc/self/oom_score_adj"):
        answer = guest.port.run(["/tmp/witness", "digest", path], 60)
        assert answer.returncode == 0, answer
    pid = guest.port.read(f"{CGROUP}/cgroup.procs")
    assert guest.port.read(f"/proc/{pid}/comm") == "launcher"
    assert int(guest.port.read(f"{CGROUP}/memory.peak")) > 0


def test_programs_start_at_full_ten_seconds(guest: Guest) -> None:
    before = float(guest.port.read("/proc/uptime").split()[0])
    guest.port.run(["/launcher"], 60)
    after = float(guest.port.read("/proc/uptime").split()[0])
    assert 0 <= after % 10 < 1
    assert after // 10 == before // 10 + 1


def test_the_kernel_says_its_name(guest: Guest) -> None:
    kernel = guest.recipe.kernel
    assert guest.port.read("/proc/sys/kernel/osrelease") == kernel.version
    assert kernel.version.endswith(f"-{kernel.name}")
