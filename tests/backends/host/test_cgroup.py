"""The memory cgroup of a session: both versions, and what is said where there is none.

A machine has one version, therefore the other one is a tree of plain files here, which is what
a cgroup file system looks like to everything except the kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from refbench.processes import Identity
from refbench_host import cgroup
from refbench_host.cgroup import Hierarchy, NoCgroupError

made: list[Path] = []
CUT_OFF = Path("/no/mount/above")
"""The mount of a cgroup whose parent may not be written: to root every plain file is writable."""


def tree(place: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


def proc(place: Path, membership: str, mount: str) -> Path:
    return tree(place / "proc", {"cgroup": membership, "mountinfo": mount})


def test_version_2_is_found_below_its_mount(tmp_path: Path) -> None:
    root = tree(tmp_path / "cg", {"a/b/cgroup.controllers": "cpu memory pids"})
    line = f"30 24 0:26 / {root} rw,nosuid - cgroup2 cgroup2 rw\n"
    found = cgroup.find(proc(tmp_path, "0::/a/b\n", line))
    assert found == Hierarchy("v2", root, root / "a" / "b")


def test_version_1_is_preferred_where_it_has_the_memory_controller(tmp_path: Path) -> None:
    root = tree(tmp_path / "memory", {"x/tasks": ""})
    lines = (
        f"29 24 0:25 / {tmp_path}/unified rw - cgroup2 cgroup2 rw\n"
        f"31 24 0:27 / {root} rw - cgroup cgroup rw,memory\n"
        f"32 24 0:28 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    found = cgroup.find(proc(tmp_path, "4:memory:/x\n2:cpu,cpuacct:/\n0::/\n", lines))
    assert found == Hierarchy("v1", root, root / "x")


def test_a_mount_of_a_part_of_the_tree_is_followed(tmp_path: Path) -> None:
    """As a container sees it: the mount's root is not the hierarchy's."""
    root = tree(tmp_path / "cg", {"sub/cgroup.controllers": "memory"})
    line = f"30 24 0:26 /docker/abc {root} rw - cgroup2 cgroup2 rw\n"
    found = cgroup.find(proc(tmp_path, "0::/docker/abc/sub\n", line))
    assert found.directory == root / "sub"


def test_no_memory_controller_is_a_reason_with_a_remedy(tmp_path: Path) -> None:
    root = tree(tmp_path / "cg", {"a/cgroup.controllers": "cpu pids"})
    line = f"30 24 0:26 / {root} rw - cgroup2 cgroup2 rw\n"
    with pytest.raises(NoCgroupError, match="not enabled") as caught:
        cgroup.find(proc(tmp_path, "0::/a\n", line))
    assert caught.value.remedy


def test_a_sibling_is_made_where_the_parent_allows_it(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "user/cgroup.subtree_control": "cpu memory",
            "user/scope/cgroup.subtree_control": "",
            "user/scope/cgroup.procs": f"{os.getpid()}\n",
        },
    )
    parent, leaf = cgroup._parent_v2(Hierarchy("v2", root, root / "user" / "scope"), "n")
    assert (parent, leaf) == (root / "user", None)


def test_accounting_is_switched_on_in_the_parent_where_it_is_off(tmp_path: Path) -> None:
    root = tree(tmp_path, {"user/cgroup.subtree_control": "cpu", "user/scope/cgroup.procs": "1\n"})
    cgroup._parent_v2(Hierarchy("v2", root, root / "user" / "scope"), "n")
    assert (root / "user" / "cgroup.subtree_control").read_text() == "+memory"


def test_a_delegated_cgroup_gets_a_leaf_for_our_own_processes(tmp_path: Path) -> None:
    """A cgroup with processes cannot hand controllers on: they move beside the new one."""
    root = tree(
        tmp_path,
        {
            "slice/scope/cgroup.subtree_control": "",
            "slice/scope/cgroup.procs": f"{os.getpid()}\n",
        },
    )
    scope = root / "slice" / "scope"
    parent, leaf = cgroup._parent_v2(Hierarchy("v2", CUT_OFF, scope), "name")
    assert (parent, leaf) == (scope, scope / "name-main")
    assert (scope / "name-main" / "cgroup.procs").read_text() == str(os.getpid())
    assert (scope / "cgroup.subtree_control").read_text() == "+memory"


def test_processes_of_others_are_not_moved(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    root = tree(
        tmp_path,
        {
            "slice/scope/cgroup.subtree_control": "",
            "slice/scope/cgroup.procs": f"{os.getpid()}\n{other.pid}\n",
        },
    )
    try:
        with pytest.raises(NoCgroupError, match="did not start") as caught:
            cgroup._parent_v2(Hierarchy("v2", CUT_OFF, root / "slice" / "scope"), "n")
    finally:
        other.communicate(b"\n", timeout=30)
    assert "systemd-run" in caught.value.remedy


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"a/memory.max": "max", "a/memory.current": "5"}, None),
        ({"a/memory.max": "100", "a/memory.current": "40"}, 60),
        (
            {
                "memory.max": "50",
                "memory.current": "45",
                "a/memory.max": "100",
                "a/memory.current": "40",
            },
            5,
        ),
        ({"a/memory.max": "100", "a/memory.current": "140"}, 0),
    ],
)
def test_the_tightest_limit_on_the_way_up_counts(
    tmp_path: Path, limits: dict[str, str], left: int | None
) -> None:
    root = tree(tmp_path, limits)
    assert cgroup.limit_left(Hierarchy("v2", root, root / "a")) == left


def test_version_1_without_a_limit_says_so_with_a_huge_number(tmp_path: Path) -> None:
    files = {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "1"}
    root = tree(tmp_path, files)
    assert cgroup.limit_left(Hierarchy("v1", root, root)) is None


def test_the_kernels_own_cgroup_is_made_and_removed(as_root: None) -> None:
    try:
        hierarchy = cgroup.find()
        group = cgroup.make(f"refbench-test-{os.getpid()}", hierarchy, made.append)
    except NoCgroupError as error:
        pytest.skip(error.reason)
    try:
        assert group.directory in made
        assert (group.directory / "cgroup.procs").read_text() == ""
        assert group.oom_kills == 0
        sleeper = subprocess.Popen(["/bin/sleep", "600"])
        (group.directory / "cgroup.procs").write_text(str(sleeper.pid))
    finally:
        group.remove()
    assert not group.directory.exists()
    assert sleeper.wait(30) == -9


def test_the_next_session_tidies_up_after_dead_ones_only(as_root: None) -> None:
    """A session that was killed, and whose cache is gone with its record, left its cgroup."""
    try:
        hierarchy = cgroup.find()
        group = cgroup.make(f"refbench-{Identity.current()}-90", hierarchy, made.append)
    except NoCgroupError as error:
        pytest.skip(error.reason)
    done = subprocess.Popen(["/bin/true"])
    dead = Identity.of(done.pid)
    done.wait(30)
    left = group.directory.with_name(f"refbench-{dead}-0")
    try:
        left.mkdir()
        later = cgroup.make(f"refbench-{Identity.current()}-91", hierarchy, made.append)
        later.remove()
        assert not left.exists()
        assert group.directory.exists()
    finally:
        group.remove()
