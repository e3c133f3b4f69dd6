"""Hardware virtualisation is used where a test boot proves it, and never otherwise.

What this machine's own would do is not asked for: a wrapper around QEMU plays accelerators that
hang, die, are slow or are quick, with the translator behind them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.vm.conftest import Boot

from refbench.agent import host_arch
from refbench.errors import UsageError
from refbench.vm import accel
from refbench.vm.accel import choose
from refbench.vm.machine import find_qemu
from refbench.vm.spec import MachineSpec

WRAPPER = """#!/bin/sh
wanted=tcg
count=$#
while [ $count -gt 0 ]; do
    word=$1
    shift
    if [ "$word" = kvm ]; then
        word=tcg
        wanted=kvm
    fi
    set -- "$@" "$word"
    count=$((count - 1))
done
echo $wanted >> "{asked}"
if [ $wanted = kvm ]; then
    {kvm}
else
    {tcg}
fi
exec {qemu} "$@"
"""
Play = Callable[..., Path]


@pytest.fixture
def play(spec: MachineSpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """``play(kvm=..., tcg=...)``: what the wrapper does before QEMU; the file in which it
    notes which accelerator it was asked for."""
    monkeypatch.delenv(accel.VARIABLE, raising=False)
    qemu = find_qemu(spec.arch)

    def write(kvm: str = ":", tcg: str = ":") -> Path:
        asked = folder / "asked"
        wrapper = folder / "wrapper"
        wrapper.write_text(WRAPPER.format(asked=asked, kvm=kvm, tcg=tcg, qemu=qemu))
        wrapper.chmod(0o755)
        monkeypatch.setenv("REFBENCH_QEMU", str(wrapper))
        return asked

    return write


@pytest.fixture
def device(folder: Path) -> Path:
    """A file in the place of /dev/kvm."""
    path = folder / "device"
    path.touch()
    return path


def test_one_that_works_and_is_quicker_is_used(
    play: Play, spec: MachineSpec, folder: Path, device: Path
) -> None:
    asked = play(tcg="sleep 30")
    chosen = choose(spec, folder, device=device)
    assert chosen.name == "kvm", chosen.reason
    assert asked.read_text().split() == ["kvm", "tcg"]


def test_one_that_is_slower_is_not(
    play: Play, spec: MachineSpec, folder: Path, device: Path
) -> None:
    # Well above what the two boots differ by on a busy machine.
    play(kvm="sleep 6")
    chosen = choose(spec, folder, device=device)
    assert chosen.name == "tcg"
    assert "with kvm and" in chosen.reason


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("exec sleep 600", "did not start"),
        ('set -- "$@" -S', "did not show"),
        ("echo no virtualisation here >&2; exit 1", "no virtualisation here"),
        ("kill -SEGV $$", "SIGSEGV"),
    ],
    ids=["hangs", "hangs-in-the-guest", "refuses", "crashes"],
)
def test_one_that_fails_is_not_used_and_the_reason_is_told(
    play: Play,
    spec: MachineSpec,
    folder: Path,
    device: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    words: str,
) -> None:
    monkeypatch.setattr(accel, "HARDWARE_SECONDS", 1.5)
    play(kvm=fault)
    chosen = choose(spec, folder, device=device)
    assert chosen.name == "tcg"
    assert words in chosen.reason


def test_a_guest_that_was_killed_in_a_test_boot_leaves_nothing(
    play: Play, spec: MachineSpec, folder: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "HARDWARE_SECONDS", 1.0)
    play(kvm='set -- "$@" -S')
    before = set(folder.iterdir())
    choose(spec, folder, device=device)
    assert {path.name for path in set(folder.iterdir()) - before} <= {"asked"}


@pytest.mark.parametrize("value", ["tcg", "kvm"])
def test_the_variable_forces_either_and_nothing_is_tried(
    play: Play,
    spec: MachineSpec,
    folder: Path,
    device: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
) -> None:
    asked = play()
    monkeypatch.setenv(accel.VARIABLE, value)
    chosen = choose(spec, folder, device=device)
    assert (chosen.name, chosen.reason) == (value, "REFBENCH_ACCEL says so")
    assert not asked.exists()


def test_another_value_of_the_variable_is_a_mistake(
    spec: MachineSpec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(accel.VARIABLE, "fast")
    with pytest.raises(UsageError, match="'fast'"):
        choose(spec, folder)


def test_where_it_is_out_of_the_question_nothing_is_tried(
    play: Play, spec: MachineSpec, folder: Path, device: Path
) -> None:
    asked = play()
    other = "arm64" if host_arch() == "x86_64" else "x86_64"
    assert "counts instructions" in choose(replace(spec, icount=True), folder, device=device).reason
    assert other in choose(replace(spec, arch=other), folder, device=device).reason
    assert "there is no" in choose(spec, folder, device=folder / "none").reason
    assert not asked.exists()


@pytest.mark.usefixtures("as_user")
def test_a_device_that_is_closed_to_the_user_is_left_alone(
    play: Play, spec: MachineSpec, folder: Path, device: Path
) -> None:
    asked = play()
    device.chmod(0)
    assert "not open" in choose(spec, folder, device=device).reason
    assert not asked.exists()


def test_the_translator_opens_no_device_of_the_machine(boot: Boot) -> None:
    pid = boot().machine.pid
    links = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert str(accel.DEVICE) not in links
    assert os.devnull in links
