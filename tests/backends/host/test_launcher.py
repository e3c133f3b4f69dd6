"""The launcher: whatever is killed, and whenever, no process stays behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refbench.agent import Binary, build_launcher, compiler_probe
from refbench.errors import BackendError
from refbench.processes import Identity, stat_fields
from refbench_host.channel import HostChannel

ROOT = Path(__file__).parents[3]
LONG = f"600.{os.getpid()}"
"""Seconds that no other test's sleep has: its processes are known by it."""
TREE = (
    f"sleep {LONG} & (sleep {LONG} & setsid sleep {LONG} & wait) & setsid sh -c 'sleep {LONG}' & "
)
PATIENCE = 30.0

if not compiler_probe().ok:
    pytest.skip("no C compiler here", allow_module_level=True)


@pytest.fixture(scope="module")
def launcher() -> Binary:
    return build_launcher()


@pytest.fixture
def channel(launcher: Binary) -> Iterator[HostChannel]:
    opened = HostChannel(launcher.path)
    yield opened
    opened.close()


def sh(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


def until(done: Callable[[], bool]) -> bool:
    """Whether ``done`` comes true within :data:`PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            return False
        os.sched_yield()
    return True


def marked(mark: str) -> list[int]:
    """The running processes that have ``mark`` in their arguments."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and place.name != str(os.getpid()):
            try:
                text = (place / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in text:
                found.append(int(place.name))
    return found


def parents() -> dict[int, int]:
    """The parent of every running process."""
    return {
        int(place.name): int(fields[1])
        for place in Path("/proc").iterdir()
        if place.name.isdecimal() and (fields := stat_fields(int(place.name))) and fields[0] != "Z"
    }


def below(pid: int) -> set[int]:
    """The running descendants of a process."""
    tree = parents()
    found: set[int] = set()
    front = {pid}
    while front:
        front = {child for child, parent in tree.items() if parent in front} - found
        found |= front
    return found


def test_output_errors_and_status_come_back(channel: HostChannel) -> None:
    answer = channel.run(sh("echo one; echo two; echo three >&2; exit 7"), 30)
    assert answer.stdout == ("one", "two")
    assert answer.stderr == ("three",)
    assert (answer.returncode, answer.signal, answer.deadline_passed) == (7, 0, False)


def test_a_signal_comes_back(channel: HostChannel) -> None:
    answer = channel.run(sh("kill -SEGV $$"), 30)
    assert (answer.signal, answer.deadline_passed) == (signal.SIGSEGV, False)


def test_one_launcher_serves_many_runs(channel: HostChannel) -> None:
    parents = {channel.run(sh("echo $PPID"), 30).stdout for _ in range(5)}
    assert parents == {(str(channel.launcher_pid),)}


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_001])
def test_output_larger_than_a_pipe_comes_whole(channel: HostChannel, size: int) -> None:
    text = f"head -c {size} /dev/zero | tr '\\0' x; head -c {size} /dev/zero | tr '\\0' y >&2"
    answer = channel.run(sh(text), 60)
    assert "".join(answer.stdout) == "x" * size
    assert "".join(answer.stderr) == "y" * size


def test_a_program_that_cannot_be_executed_is_reported(channel: HostChannel) -> None:
    answer = channel.run(["/nonexistent/agent"], 30)
    assert answer.returncode == 127
    assert "execve: No such file" in answer.facts["not-started"]
    assert channel.run(sh("echo well"), 30).stdout == ("well",)


def test_arguments_arrive_as_they_are(channel: HostChannel) -> None:
    odd = ["a b", "", "*", "\\", "ä", "x" * 5000]
    answer = channel.run(["/usr/bin/env", "printf", "<%s>\\n", *odd], 30)
    assert list(answer.stdout) == [f"<{text}>" for text in odd]


def test_what_an_agent_inherits_is_settled(launcher: Binary) -> None:
    cpu = max(os.sched_getaffinity(0))
    channel = HostChannel(launcher.path, cpus=(cpu,))
    try:
        text = "grep Cpus_allowed_list /proc/self/status; cat /proc/self/personality; env; ls -l"
        answer = channel.run(sh(f"{text} /proc/self/fd; cat /proc/self/oom_score_adj"), 30)
        maps = {channel.run(["/bin/cat", "/proc/self/maps"], 30).stdout for _ in range(3)}
    finally:
        channel.close()
    assert answer.stdout[0].split()[1] == str(cpu)
    if "aslr" not in channel.refused:
        assert int(answer.stdout[1], 16) & 0x0040000  # ADDR_NO_RANDOMIZE, personality(2)
        assert len({tuple(line.split()[0] for line in m if "stack" in line) for m in maps}) == 1
    assert not [line for line in answer.stdout if "socket:" in line]
    assert answer.stdout[-1] == "1000"
    assert not [line for line in answer.stdout if line.startswith(("HOME=", "PATH=/root"))]


def test_a_deadline_ends_the_whole_tree(channel: HostChannel) -> None:
    answer = channel.run(sh(f"echo begun; {TREE} sleep {LONG}"), 0.3)
    assert answer.deadline_passed
    assert answer.signal == signal.SIGKILL
    assert below(channel.launcher_pid) == set()
    assert channel.run(sh("echo next"), 30).stdout == ("next",)


@pytest.mark.parametrize("ending", ["exit 0", "kill -KILL $$", "kill -TERM $$"])
def test_what_an_agent_leaves_is_reaped(channel: HostChannel, ending: str) -> None:
    answer = channel.run(sh(f"{TREE} {ending}"), 60)
    assert not answer.deadline_passed
    assert below(channel.launcher_pid) == set()


def test_a_killed_agent_is_told_from_a_late_one(channel: HostChannel) -> None:
    """The agent is killed at seeded moments, from before its exec on."""
    dice = random.Random(1)
    stop = threading.Event()
    killed = 0

    def killer() -> None:
        nonlocal killed
        while not stop.is_set():
            for pid in [c for c, p in parents().items() if p == channel.launcher_pid]:
                for _ in range(dice.randrange(2000)):
                    pass
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                except ProcessLookupError:
                    continue

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        answers = [channel.run(sh(f"{TREE} sleep {LONG}"), 60) for _ in range(10)]
    finally:
        stop.set()
        thread.join()
    assert killed >= 10
    for answer in answers:
        assert answer.signal == signal.SIGKILL
        assert not answer.deadline_passed
    assert below(channel.launcher_pid) == set()


def test_a_child_that_dies_before_its_exec_is_reported(launcher: Binary) -> None:
    """It is known by the name that it has until then."""
    channel = HostChannel(launcher.path)
    stop = threading.Event()

    def killer() -> None:
        while not stop.is_set():
            for pid in below(channel.launcher_pid):
                try:
                    if Path(f"/proc/{pid}/comm").read_text() == "rb-unborn\n":
                        os.kill(pid, signal.SIGKILL)
                except (OSError, ValueError):
                    continue

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        answers = []
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            answers.append(channel.run(["/bin/true"], 30))
            if "unborn" in answers[-1].facts:
                break
    finally:
        stop.set()
        thread.join()
        channel.close()
    if "unborn" not in answers[-1].facts:
        pytest.skip("the moment between fork and exec was never hit")
    assert answers[-1].signal == signal.SIGKILL
    assert any("between fork and exec" in line for line in answers[-1].stderr)
    assert all(answer.returncode == 0 for answer in answers)


def test_a_killed_launcher_takes_everything_along_and_is_replaced(
    channel: HostChannel, moments: int
) -> None:
    dice = random.Random(2)
    for _ in range(moments):
        victim = channel.launcher_pid
        pause = dice.random() * 0.05
        timer = threading.Timer(pause, os.kill, (victim, signal.SIGKILL))
        timer.start()
        with pytest.raises(ConnectionError):
            channel.run(sh(f"{TREE} sleep {LONG}"), 60)
        timer.join()
        assert marked(LONG) == []
        assert channel.run(sh("echo again"), 30).stdout == ("again",)
        assert channel.launcher_pid != victim


COMMAND = """
import sys
from pathlib import Path
from refbench_host.channel import HostChannel
channel = HostChannel(Path(sys.argv[1]))
print(channel.launcher_pid, flush=True)
while True:
    channel.run(["/bin/sh", "-c", sys.argv[2]], 600)
"""


def test_a_killed_command_leaves_no_process(launcher: Binary, moments: int) -> None:
    dice = random.Random(3)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'backends'}"}
    for _ in range(moments):
        script = f"{TREE} sleep 0.01; exit 0"
        command = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(launcher.path), script],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert command.stdout is not None
        pid = int(command.stdout.readline())
        threading.Event().wait(dice.random() * 0.2)
        command.kill()
        command.wait(PATIENCE)
        command.stdout.close()
        assert until(lambda pid=pid: not Identity.of(pid).alive)  # type: ignore[misc]
        assert until(lambda: not marked(LONG))


def test_an_interrupt_ends_the_agent(channel: HostChannel) -> None:
    """Ctrl-C reaches the command alone: the launcher has a session of its own."""
    victim = channel.launcher_pid

    def interrupt() -> None:
        until(lambda: bool(below(victim)))
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        channel.run(sh(f"{TREE} sleep {LONG}"), 60)
    thread.join()
    assert marked(LONG) == []
    assert channel.run(sh("echo again"), 30).stdout == ("again",)


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_closing_twice_and_nothing_is_left(launcher: Binary) -> None:
    before = open_files()
    channel = HostChannel(launcher.path)
    pid = channel.launcher_pid
    channel.run(sh("echo one"), 30)
    channel.close()
    channel.close()
    assert not Identity.of(pid).alive
    assert open_files() == before


def test_a_launcher_that_does_not_start_is_a_backend_error(tmp_path: Path) -> None:
    program = tmp_path / "launcher"
    with pytest.raises(BackendError, match="cannot be started"):
        HostChannel(program)
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(BackendError, match="did not start: it ended with status 3"):
        HostChannel(program)
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(BackendError, match="did not start: SIGKILL ended it") as killed:
        HostChannel(program)
    assert "Try again" in killed.value.remedy


def test_settings_that_are_refused_are_named(launcher: Binary, tmp_path: Path) -> None:
    channel = HostChannel(launcher.path, cpus=(1000,), cgroup=tmp_path / "none")
    try:
        assert set(channel.refused) >= {"affinity", "cgroup"}
        assert channel.run(sh("echo still"), 30).stdout == ("still",)
    finally:
        channel.close()
