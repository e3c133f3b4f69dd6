"""A QEMU process: boot, console, port, snapshots, and every way in which it may end."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.vm.conftest import Boot

from refbench.errors import BackendError, UsageError
from refbench.housekeeping import sweep
from refbench.processes import Identity, kill_marked, marked
from refbench.vm.machine import Machine, find_qemu, qemu_version
from refbench.vm.spec import MachineSpec

LONG = 60.0


def test_a_guest_boots_answers_and_its_console_is_read(boot: Boot) -> None:
    guest = boot()
    assert guest.ask("t") > 0
    line = guest.machine.wait_console("guest up at", LONG)
    assert line.endswith("port open")
    assert guest.machine.qmp.status() == "running"


def test_two_boots_on_the_instruction_clock_are_the_same(boot: Boot) -> None:
    first, second = (boot(icount=True).machine.wait_console("guest up at", LONG) for _ in range(2))
    assert first == second


def test_the_real_clock_has_fine_steps(boot: Boot) -> None:
    guest = boot()
    times = [guest.ask("t") for _ in range(5)]
    assert times == sorted(set(times))
    # Not those of the tick, which a guest falls back to when it does not know its counter's rate.
    assert any(t % 10_000_000 for t in times)


def test_a_stopped_guest_does_not_answer_until_it_goes_on(boot: Boot) -> None:
    guest = boot()
    guest.machine.stop()
    assert guest.machine.qmp.status() == "paused"
    guest.send("t")
    guest.machine.port.settimeout(0.3)
    with pytest.raises(TimeoutError):
        guest.machine.port.recv(1)
    guest.machine.cont()
    guest.machine.port.settimeout(LONG)
    assert guest.machine.port.recv(1) == b"t"


def test_each_load_starts_from_the_same_moment_of_the_guests_clock(boot: Boot) -> None:
    guest = boot(icount=True, snapshots=True)
    guest.send("c")
    guest.machine.wait_console("step", LONG)
    guest.machine.stop()
    guest.machine.save("counting")
    rounds = []
    for _ in range(3):
        start = guest.machine.console.read()
        guest.machine.load("counting")
        guest.machine.port.settimeout(LONG)
        assert guest.machine.port.recv(1) == b"c"
        # The snapshot may lie within a line.
        said = guest.machine.console.lines(start)[1:]
        rounds.append([line for line in said if line.startswith("step")])
        guest.machine.port.recv(100)
    assert len(rounds[0]) > 1
    assert rounds[0] == rounds[1] == rounds[2]


def test_a_snapshot_brings_the_guest_back_many_times(boot: Boot) -> None:
    guest = boot(snapshots=True)
    guest.machine.save("here")
    for _ in range(10):
        guest.ask("t")
        guest.machine.load("here")
    assert guest.ask("t") > 0


def test_a_snapshot_that_is_not_there_is_refused_and_named(boot: Boot) -> None:
    guest = boot(snapshots=True)
    with pytest.raises(BackendError, match="snapshot-load"):
        guest.machine.load("nowhere")


def test_without_a_place_for_snapshots_it_says_so(boot: Boot) -> None:
    with pytest.raises(BackendError, match="place for snapshots"):
        boot().machine.save("here")


def test_a_guest_that_ends_itself_says_so(boot: Boot) -> None:
    guest = boot()
    guest.send("q")
    guest.machine.port.settimeout(LONG)
    assert guest.machine.port.recv(1) == b""
    with pytest.raises(ConnectionError, match="the guest ended"):
        guest.machine.wait_console("never", LONG)


def test_a_killed_qemu_is_told_from_one_that_ended(boot: Boot) -> None:
    guest = boot()
    os.kill(guest.machine.pid, signal.SIGKILL)
    assert guest.machine.port.recv(1) == b""
    with pytest.raises(ConnectionError, match="SIGKILL"):
        guest.machine.wait_console("never", LONG)
    with pytest.raises(ConnectionError):
        guest.machine.stop()


def test_a_line_that_does_not_come_is_waited_for_in_vain_and_not_for_ever(boot: Boot) -> None:
    guest = boot()
    with pytest.raises(ConnectionError, match="did not show"):
        guest.machine.wait_console("never", 0.2)


def test_quit_and_kill_may_come_twice(boot: Boot) -> None:
    machine = boot().machine
    machine.quit()
    assert not machine.running
    machine.quit()
    machine.kill()
    with pytest.raises(ConnectionError, match="no port"):
        _ = machine.port


def test_arguments_that_qemu_does_not_know_are_reported_with_its_words(
    spec: MachineSpec, folder: Path
) -> None:
    machine = Machine(replace(spec, extra=("-device", "no-such-device")), folder)
    with pytest.raises(BackendError, match="no-such-device"):
        machine.start()
    assert not machine.running


def test_a_missing_qemu_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BackendError, match=r"apt-get install qemu-system-x86"):
        find_qemu("x86_64")
    with pytest.raises(BackendError, match=r"apt-get install qemu-system-arm"):
        find_qemu("arm64")


def test_the_version_of_qemu(folder: Path, spec: MachineSpec) -> None:
    assert int(qemu_version(find_qemu(spec.arch)).split(".")[0]) >= 5
    other = folder / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(BackendError, match="does not tell"):
        qemu_version(str(other))


def test_a_qemu_that_says_nothing_is_given_up(
    spec: MachineSpec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = folder / "qemu"
    wrapper.write_text("#!/bin/sh\nexec sleep 600\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("REFBENCH_QEMU", str(wrapper))
    machine = Machine(spec, folder)
    begin = time.monotonic()
    with pytest.raises(BackendError, match="did not start"):
        machine.start(0.5)
    assert time.monotonic() - begin < 30
    assert not machine.running


OWNER = """
import sys, pickle
from pathlib import Path
from refbench.vm.machine import Machine
machine = Machine(pickle.loads(bytes.fromhex(sys.argv[1])), Path(sys.argv[2]), mark=sys.argv[3])
machine.start()
print(machine.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_qemu_dies_with_refbench(spec: MachineSpec, folder: Path, ending: signal.Signals) -> None:
    mark = f"test{os.getpid()}-{ending}"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, pickle.dumps(spec).hex(), str(folder), mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout is not None
        qemu = Identity.of(int(owner.stdout.readline()))
        assert qemu.alive
        assert list(marked(mark)) == [qemu.pid]
        owner.send_signal(ending)
        owner.wait(LONG)
        end = time.monotonic() + LONG
        while qemu.alive and time.monotonic() < end:
            os.sched_yield()
        assert not qemu.alive
    finally:
        owner.kill()
        owner.communicate()
        kill_marked(mark, LONG)


def test_a_program_that_forgets_a_machine_ends_quietly_and_qemu_with_it(
    spec: MachineSpec, folder: Path
) -> None:
    mark = f"test{os.getpid()}-forgets"
    done = subprocess.run(
        [sys.executable, "-c", OWNER, pickle.dumps(spec).hex(), str(folder), mark],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert kill_marked(mark, LONG)
    assert not Identity.of(int(done.stdout)).alive


LEAVING = """
import pickle, sys
from pathlib import Path
from refbench.housekeeping import SessionState
from refbench.vm.machine import Machine
state = SessionState.create(Path(sys.argv[2]))
machine = Machine(pickle.loads(bytes.fromhex(sys.argv[1])), state.files, mark=state.mark)
machine.start()
print(machine.pid, flush=True)
sys.stdin.read()
"""


def test_a_qemu_that_outlives_refbench_is_swept_by_the_next_command(
    spec: MachineSpec, folder: Path
) -> None:
    # Without setpriv (util-linux) on the PATH, nothing makes QEMU die with refbench.
    environment = {**os.environ, "PATH": "/nonexistent", "REFBENCH_QEMU": find_qemu(spec.arch)}
    root = folder / "cache"
    owner = subprocess.Popen(
        [sys.executable, "-c", LEAVING, pickle.dumps(spec).hex(), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert owner.stdout is not None
        qemu = Identity.of(int(owner.stdout.readline()))
        owner.kill()
        owner.wait(LONG)
        assert qemu.alive
    finally:
        owner.kill()
        owner.communicate()
        swept = sweep(root)
    assert not Identity(qemu.pid, qemu.start).alive
    assert swept.problems == ()
    assert list((root / "sessions").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "riscv"}, "architecture 'riscv'"),
        ({"icount": True, "cpus": 2}, "one CPU"),
        ({"icount": True, "accel": "kvm"}, "translator"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MachineSpec(Path("/kernel"), **changes)  # type: ignore[arg-type]
