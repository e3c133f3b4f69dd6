"""What dead sessions leave is removed by the next command; what live ones have is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refbench.errors import BackendError, StorageError
from refbench.housekeeping import SessionState, sweep
from refbench.knobs import MACHINE
from refbench.processes import Identity

ROOT = Path(__file__).parents[1]


def run_and_die(root: Path, body: str) -> None:
    """A process that opens a session, does ``body``, and is killed before it can close it."""
    code = (
        "import os, signal, subprocess, sys\n"
        "from pathlib import Path\n"
        "from refbench.housekeeping import SessionState\n"
        "root = Path(sys.argv[1])\n"
        "state = SessionState.create(root / 'cache')\n"
        "(state.files / 'left').write_text('left')\n"
        f"{body}\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    argv = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(argv, env=environment, timeout=60, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


def sessions(root: Path) -> list[Path]:
    return [path for path in (root / "cache" / "sessions").iterdir() if path.is_dir()]


def test_a_closed_session_leaves_nothing(tmp_path: Path) -> None:
    state = SessionState.create(tmp_path / "cache")
    (state.files / "x").write_text("x")
    assert len(sessions(tmp_path)) == 1
    assert state.close() == ()
    assert state.close() == ()
    assert sessions(tmp_path) == []


def test_files_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    living = SessionState.create(tmp_path / "cache")
    run_and_die(tmp_path, "")
    assert len(sessions(tmp_path)) == 2
    swept = sweep(tmp_path / "cache")
    assert len(swept.done) == 1
    assert swept.problems == ()
    assert [path.name for path in sessions(tmp_path)] == [living.name]
    assert living.files.exists()


def test_sweeping_nothing_says_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "never-made").done == ()
    assert not (tmp_path / "never-made").exists()


def share_a_knob(root: Path, *caches: str) -> None:
    """Two sessions want a setting; it goes back when the second one ends."""
    knob = root / "knob"
    knob.write_text("0\n")
    first, second = (SessionState.create(root / cache) for cache in caches)
    first.set_knob(knob, "1")
    second.set_knob(knob, "1")
    first.close()
    assert knob.read_text() == "1"
    second.close()
    assert knob.read_text() == "0"


def test_a_knob_is_set_back_on_close(tmp_path: Path) -> None:
    knob = tmp_path / "knob"
    knob.write_text("0\n")
    state = SessionState.create(tmp_path / "cache")
    state.set_knob(knob, "1")
    assert knob.read_text() == "1"
    state.close()
    assert knob.read_text() == "0"


def test_a_knob_of_the_dead_is_set_back_by_the_next_command(tmp_path: Path) -> None:
    knob = tmp_path / "knob"
    knob.write_text("0\n")
    run_and_die(tmp_path, "state.set_knob(root / 'knob', '1')")
    assert knob.read_text() == "1"
    swept = sweep(tmp_path / "cache")
    assert knob.read_text() == "0"
    assert any("set" in line and str(knob) in line for line in swept.done)


def test_a_knob_that_somebody_else_changed_since_is_left_alone(tmp_path: Path) -> None:
    knob = tmp_path / "knob"
    knob.write_text("0\n")
    run_and_die(tmp_path, "state.set_knob(root / 'knob', '1')")
    knob.write_text("2\n")
    sweep(tmp_path / "cache")
    assert knob.read_text() == "2\n"


def test_a_knob_goes_back_when_the_last_session_that_wants_it_ends(tmp_path: Path) -> None:
    share_a_knob(tmp_path, "cache", "cache")


def test_a_knob_that_was_right_already_is_not_ours(tmp_path: Path) -> None:
    knob = tmp_path / "knob"
    knob.write_text("1\n")
    state = SessionState.create(tmp_path / "cache")
    state.set_knob(knob, "1")
    state.close()
    assert knob.read_text() == "1\n"


def test_a_knob_that_cannot_be_written_is_a_backend_error(tmp_path: Path) -> None:
    state = SessionState.create(tmp_path / "cache")
    with pytest.raises(BackendError, match="cannot be changed") as caught:
        state.set_knob(tmp_path / "no" / "knob", "1")
    assert caught.value.remedy
    state.close()


def test_knobs_of_an_earlier_boot_are_not_touched(tmp_path: Path) -> None:
    knob = tmp_path / "knob"
    knob.write_text("0\n")
    run_and_die(tmp_path, "state.set_knob(root / 'knob', '1')")
    (directory,) = sessions(tmp_path)
    place = MACHINE if os.geteuid() == 0 else tmp_path / "cache" / "knobs"
    claim = place / f"{directory.name}.json"
    record = json.loads(claim.read_text())
    claim.write_text(json.dumps(record | {"boot": "another"}))
    sweep(tmp_path / "cache")
    assert knob.read_text() == "1"
    assert not claim.exists()
    assert sessions(tmp_path) == []


def test_sessions_of_root_with_other_caches_know_of_each_other(
    tmp_path: Path, as_root: None
) -> None:
    share_a_knob(tmp_path, "one", "other")


def test_a_knob_of_the_dead_is_set_back_whatever_cache_it_had(
    tmp_path: Path, as_root: None
) -> None:
    knob = tmp_path / "knob"
    knob.write_text("0\n")
    run_and_die(tmp_path, "state.set_knob(root / 'knob', '1')")
    shutil.rmtree(tmp_path / "cache")
    sweep(tmp_path / "other")
    assert knob.read_text() == "0"


def test_a_cgroup_of_the_dead_is_removed(tmp_path: Path) -> None:
    """An empty directory is what a cgroup without processes looks like to rmdir(2)."""
    run_and_die(
        tmp_path,
        "state.remember_cgroup(root / 'group')\n(root / 'group').mkdir()",
    )
    sweep(tmp_path / "cache")
    assert not (tmp_path / "group").exists()


@pytest.mark.parametrize("text", ["", "{", '{"boot": 3}', '{"colour": "red"}'])
def test_a_broken_record_stops_nothing(tmp_path: Path, text: str) -> None:
    run_and_die(tmp_path, "")
    (directory,) = sessions(tmp_path)
    (directory / "state.json").write_text(text)
    sweep(tmp_path / "cache")
    assert sessions(tmp_path) == []


def test_agents_that_outlived_their_command_are_killed(tmp_path: Path) -> None:
    """Whatever process group, session or parent they have; and nobody else's."""
    run_and_die(
        tmp_path,
        "for mark in (state.mark, 'another'):\n"
        "    p = subprocess.Popen(['/bin/sleep', '600'], start_new_session=True,\n"
        "        env={'REFBENCH_MARK': mark}, stdin=subprocess.DEVNULL,\n"
        "        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "    with open(root / 'pids', 'a') as file: print(p.pid, file=file)",
    )
    ours, other = map(int, (tmp_path / "pids").read_text().split())
    try:
        assert Identity.of(ours).alive
        sweep(tmp_path / "cache")
        assert not Identity.of(ours).alive
        assert Identity.of(other).alive
    finally:
        os.kill(other, 9)


def test_identities_tell_processes_apart() -> None:
    me = Identity.current()
    assert me.alive
    assert Identity.parse(f"{me}-kernel") == me
    assert Identity.parse("kernel") is None
    assert not Identity(me.pid, me.start + 1).alive
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = Identity.of(child.pid)
    assert identity.alive
    child.communicate(b"\n", timeout=30)
    assert not identity.alive


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made") as caught:
        SessionState.create(tmp_path / "cache")
    assert "REFBENCH_CACHE" in caught.value.remedy
