"""``kill -9`` at seeded moments: what was finished is kept, the rest is measured, nothing stays.

``make test`` takes 5 moments, ``make chaos`` 50 (``--moments``). The victim is the command
itself, its launcher or its agent; the moment is a number of finished runs and a bit more.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import psutil
import pytest

from refbench import journal
from refbench.agent import compiler_probe

pytestmark = pytest.mark.chaos

Refbench = Callable[..., "CompletedProcess[str]"]
SEED = 20260731
RUNS = 6
MECHANISMS = ("anon", "memset", "memfd:block=16")
TOTAL = RUNS * len(MECHANISMS)
REQUEST = (
    *("run", "--quiet", "-m", ",".join(MECHANISMS), "-w", "dense-touch:size=4MiB"),
    *("--runs", str(RUNS), "--iterations", "2"),
)
PROGRAM = (sys.executable, "-m", "refbench.cli")
BOUND = 60.0
"""Seconds that anything here may take."""
VICTIMS = ("command", "launcher", "agent")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a moment; its number is its seed."""
    if "moment" in metafunc.fixturenames:
        metafunc.parametrize("moment", range(metafunc.config.getoption("--moments")))


@pytest.fixture(scope="module")
def nest(
    refbench: Refbench, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A cache of this module's own, with the agent built: nobody else's sessions are in it."""
    if not compiler_probe().ok:
        pytest.skip("no C compiler")
    own = tmp_path_factory.mktemp("nest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFBENCH_CACHE", str(own))
        ready = refbench("backends", "--open", "host", "--json")
        assert ready.returncode == 0, ready.stderr
        yield own


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, but not for ever."""
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, f"waited {BOUND:.0f} s for: {what}"
        os.sched_yield()


def whole_lines(path: Path) -> bytes:
    """The journal up to its last newline."""
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def finished_runs(path: Path) -> int:
    """Run lines that are whole."""
    return whole_lines(path).count(b'{"type":"run"')


def ours(nest: Path) -> list[psutil.Process]:
    """Running processes whose program was built in this cache: launchers and agents."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.exe().startswith(f"{nest}/") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def victim_of(command: subprocess.Popen[str], which: str) -> psutil.Process | None:
    """The process to kill, ``None`` when it is not there (any more)."""
    try:
        parent = psutil.Process(command.pid)
        if which == "command":
            return parent if command.poll() is None else None
        names = {process.name(): process for process in parent.children(recursive=True)}
    except psutil.Error:
        return None
    return names.get(which)


def strike(command: subprocess.Popen[str], which: str) -> bool:
    """Kill it as soon as it is there; false when the command ended before."""
    end = time.monotonic() + BOUND
    while command.poll() is None:
        assert time.monotonic() < end, f"no {which} in {BOUND:.0f} s"
        victim = victim_of(command, which)
        if victim is not None:
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                continue
            return True
        os.sched_yield()
    return False


def cgroups(nest: Path) -> list[Path]:
    """The cgroups that sessions of this cache have written down."""
    states = (json.loads(path.read_text()) for path in nest.glob("sessions/*/state.json"))
    return [Path(name) for state in states for name in state["cgroups"]]


def leftovers(nest: Path) -> list[Path]:
    """Temporary files of sessions and builds."""
    sessions = [path for path in (nest / "sessions").glob("*") if path.is_dir()]
    return [*sessions, *(nest / "building").glob("*")]


def check_complete(path: Path, before: bytes) -> None:
    """What was there before is there still, and every run of every cell is there once."""
    assert path.read_bytes().startswith(before)
    content = journal.read(path)
    assert content.complete
    good = [(run.cell.key, run.round) for run in content.runs if run.run.failure is None]
    assert len(good) == len(set(good)) == TOTAL


def test_kill_9(refbench: Refbench, nest: Path, tmp_path: Path, moment: int) -> None:
    dice = random.Random(f"{SEED}/{moment}")
    which = VICTIMS[moment % len(VICTIMS)]
    runs = dice.randrange(-1, TOTAL)
    extra = dice.uniform(0, 0.02)
    print(f"moment {moment}: the {which} after {runs} runs and {extra * 1e3:.1f} ms")  # noqa: T201
    path = tmp_path / "run" / "journal.jsonl"
    command = subprocess.Popen(
        [*PROGRAM, *REQUEST, "-o", str(path.parent)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: finished_runs(path) >= runs or command.poll() is not None, "runs")
        moment_end = time.monotonic() + extra
        until(lambda: time.monotonic() >= moment_end, "the moment")
        struck = strike(command, which)
        _, error = command.communicate(timeout=BOUND)
    finally:
        command.kill()
        command.communicate()
    assert "Traceback" not in error
    before = whole_lines(path)
    groups = cgroups(nest)
    if struck and which == "command":
        assert command.returncode == -9
    elif struck and command.returncode == 3:
        # Killed before it had said that it is ready: the target could not be opened.
        assert error.startswith("refbench: ")
        assert not before, "an opened target is opened again"
    else:
        assert command.returncode == 0, error
        check_complete(path, before)

    kept = finished_runs(path)
    done = refbench(*("run", "--quiet", "--resume", path.parent, "--json"), timeout=BOUND)
    assert "Traceback" not in done.stderr
    if done.returncode == 0:
        found = json.loads(done.stdout)
        assert (found["kept"], found["measured"]) == (kept, TOTAL - kept)
        check_complete(path, before)
    elif before.count(b'{"type":"end"'):
        assert done.returncode == 2
        assert "complete" in done.stderr
        check_complete(path, before)
    else:
        assert not before, "only a run without even a header cannot be resumed"
        assert done.returncode in {2, 4}
    assert not ours(nest), "a process stayed behind"
    assert not leftovers(nest), "a temporary file stayed behind"
    assert not [group for group in groups if group.exists()], "a cgroup stayed behind"
    names = {file.name for file in path.parent.iterdir()} if path.parent.exists() else set()
    assert names <= {"journal.jsonl", "report.html", "report.md", "pyperf.json"} or not before


def test_kill_9_while_the_agent_is_built(refbench: Refbench, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {**os.environ, "REFBENCH_CACHE": str(cache)}
    command = subprocess.Popen(
        [*PROGRAM, *REQUEST, "-o", str(tmp_path / "run")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        until(
            lambda: bool(list((cache / "building").glob("*"))) or command.poll() is not None,
            "the build to begin",
        )
        assert command.poll() is None, "it ended before it built anything"
    finally:
        command.kill()
        command.wait(BOUND)
    # Its compilers end by themselves; what they would still write has nowhere to go.
    until(lambda: not in_session(command.pid), "the compilers to end")
    done = refbench("workloads", env={"REFBENCH_CACHE": str(cache)})
    assert done.returncode == 0, done.stderr
    assert not leftovers(cache)


def in_session(session: int) -> list[int]:
    """Running processes of a process session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (OSError, psutil.Error):
            continue
    return found
