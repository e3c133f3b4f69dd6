"""What the options of the target mean, and the errors for those that do not go together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from refbench.errors import BackendError, UsageError
from refbench.grammar import Spec, Values, resolve
from refbench.vm.kernels import Kernel
from refbench.words import Clock
from refbench_qemu.backend import QemuBackend, agent_arch, cpu_model, words
from refbench_qemu.channel import QemuChannel
from refbench_qemu.session import QemuSession

Open = Callable[..., QemuSession]


def values(text: str) -> Values:
    return resolve(Spec.parse(text), QemuBackend.options, what="target")


@pytest.mark.parametrize(
    ("target", "error", "says"),
    [
        ("qemu:cpus=2", UsageError, "clock=real"),
        ("qemu:module=nothing", UsageError, "no module 'nothing'"),
        ("qemu:memory=1MiB", UsageError, "at least 128MiB"),
        ("qemu:kernel=/nowhere", UsageError, "/nowhere"),
        ("qemu:kernel=mine", BackendError, "refbench kernel list"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(
    qemu: QemuBackend, patched: Kernel, target: str, error: type[Exception], says: str
) -> None:
    named = Spec.parse(target)
    given = named if named.get("kernel") else named.with_options({"kernel": str(patched.image)})
    with pytest.raises(error, match=says):
        qemu.open(values(str(given)))


def test_the_command_line_follows_from_the_options(patched: Kernel) -> None:
    plain = words(patched, values("qemu"))
    assert "init_on_alloc=0" in plain
    assert "REFBENCH_ALIGN=20" in plain
    assert "REFBENCH_ALIGN=10" in words(patched, values("qemu:fresh=boot"))
    assert f"REFBENCH_NR_REFPAGE_CREATE={patched.syscalls['refpage_create']}" in plain
    other = words(patched, values("qemu:clock=real,init-on-alloc=1,append=a=1 b"))
    assert "init_on_alloc=1" in other
    assert not any(word.startswith("REFBENCH_ALIGN") for word in other)
    assert other[-2:] == ("a=1", "b")


@pytest.mark.parametrize(
    ("options", "accelerator", "model"),
    [
        ("qemu", "tcg", "max,-erms,-fsrm"),
        ("qemu:erms=yes", "tcg", "max,+erms,+fsrm"),
        ("qemu:cpu=qemu64", "tcg", "qemu64,-erms,-fsrm"),
        ("qemu:clock=real", "tcg", "max"),
        ("qemu:clock=real", "kvm", "host"),
        ("qemu:clock=real,erms=no", "kvm", "host,-erms,-fsrm"),
        ("qemu:cpu=max\\,-avx,erms=no", "tcg", "max,-avx,-erms,-fsrm"),
    ],
)
def test_the_cpu_model(options: str, accelerator: str, model: str) -> None:
    assert cpu_model("x86_64", accelerator, values(options)) == model


def test_string_instructions_are_nothing_to_choose_on_arm64() -> None:
    assert cpu_model("arm64", "tcg", values("qemu")) == "max"
    with pytest.raises(UsageError, match="erms"):
        cpu_model("arm64", "tcg", values("qemu:erms=no"))


def test_there_are_32_bit_agents_for_x86_64_alone() -> None:
    assert agent_arch("x86_64", values("qemu")) == "x86_64"
    assert agent_arch("x86_64", values("qemu:bits=32")) == "i386"
    assert agent_arch("arm64", values("qemu")) == "arm64"
    with pytest.raises(UsageError, match="bits"):
        agent_arch("arm64", values("qemu:bits=32"))


def test_the_real_clock_with_two_cpus_and_swap(open_qemu: Open) -> None:
    with open_qemu(clock="real", cpus=2, swap="64MiB", thp="always") as session:
        found = session.capabilities()
        assert session.clock is Clock.REAL
        assert found.metrics["swap"].ok
        assert found.environment["thp"] == "always"
        assert found.environment["fresh"] == "boot"
        channel = session.channel
        assert isinstance(channel, QemuChannel)
        assert channel.read("/sys/devices/system/cpu/online") == "0-1"


def test_a_kernel_that_does_not_come_up_says_what_its_console_said(open_qemu: Open) -> None:
    with pytest.raises(BackendError, match=r"did not come up.*Kernel panic"):
        open_qemu(append="rdinit=/nothing", fresh="boot")


def test_two_kernels_in_one_run(
    refbench: Callable[..., object], patched: Kernel, tmp_path: Path
) -> None:
    first, second = f"qemu:kernel={patched.image}", f"qemu:kernel={patched.image},init-on-alloc=yes"
    done = refbench(
        *("run", "-b", first, "-b", second, "-m", "anon,refpage", "-w", "sparse-touch:size=1MiB"),
        *("--runs", "2", "-o", str(tmp_path / "out"), "--json"),
    )
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    report = json.loads(done.stdout)  # type: ignore[attr-defined]
    assert report["measured"] == 8
    assert report["failures"] == {}
    assert len(report["rounds"]) == 2
