"""The backend host, for real: this kernel, this machine, root or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from refbench.errors import BackendError, UsageError
from refbench.grammar import Spec, resolve
from refbench.housekeeping import sweep
from refbench.program import Expect, Map, Measure, Phase, Program, Touch, Unmap
from refbench.words import Cell, Pattern
from refbench_host.backend import HostBackend, choose_cpus
from refbench_host.session import HostSession

ROOT = Path(__file__).parents[3]
SIZE = 4 << 20
backend = HostBackend()

if not backend.probe().ok:
    pytest.skip(backend.probe().reason, allow_module_level=True)


def open_host(target: str = "host") -> HostSession:
    return backend.open(resolve(Spec.parse(target), backend.options, what="target"))


@pytest.fixture(scope="module")
def session() -> Iterator[HostSession]:
    with open_host() as opened:
        yield opened


def cell(mechanism: str, size: int = SIZE, stride: int = 65536) -> Cell:
    steps = (
        Phase("map"),
        Map(0, size),
        Phase("touch"),
        Touch(0, 0, size, "write", stride),
        Phase(),
        Measure("touch"),
        Expect(0, 1, size - 1, stride=4096, once=True),
        Phase("unmap"),
        Unmap(0),
    )
    name = f"host-test-{size}-{stride}"
    return Cell(f"program:{name}", Spec.parse(mechanism), Pattern(), Program(name, steps))


def test_capabilities_name_every_mechanism_with_a_reason(session: HostSession) -> None:
    found = session.capabilities()
    assert found.kernel == os.uname().release
    assert found.page_size == os.sysconf("SC_PAGE_SIZE")
    assert 0 < found.memory < 1 << 50
    assert {"anon", "memset", "memfd", "memfd-full", "segv"} <= set(found.mechanisms)
    for name in ("anon", "memset", "memfd", "memfd-full", "segv"):
        assert found.mechanisms[name].ok, found.mechanisms[name]
    for answer in (*found.mechanisms.values(), *found.metrics.values()):
        assert answer.ok or answer.reason
    assert set(found.metrics) == {"cgroup", "slab", "kernel-log", "swap", "ksm"}


def test_the_environment_holds_what_the_numbers_depend_on(session: HostSession) -> None:
    facts = session.capabilities().environment
    assert set(facts) >= {
        "agent", "compiler", "cgroup", "cpu-model", "cpus", "fault-around-bytes", "governor",
        "hypervisor", "kernel.numa_balancing", "ksm", "mitigations", "refused-settings", "thp",
        "user", "vm.max_map_count", "vm.overcommit_memory", "vm.swappiness",
        "vm.unprivileged_userfaultfd",
    }  # fmt: skip
    assert all(isinstance(value, str) and value for value in facts.values())
    assert facts["user"] == ("root" if os.geteuid() == 0 else "ordinary")
    assert facts["vm.max_map_count"] == Path("/proc/sys/vm/max_map_count").read_text().strip()
    assert int(facts["cpus"]) in os.sched_getaffinity(0)


@pytest.mark.parametrize(
    "mechanism",
    ["anon", "memset", "memfd:block=16", "memfd-full", "uffd", "uffd-sigbus", "segv", "ksm"],
)
def test_every_mechanism_that_works_here_measures(session: HostSession, mechanism: str) -> None:
    available = session.capabilities().mechanisms[mechanism.partition(":")[0]]
    run = session.run(cell(mechanism), 2, 60)
    if not available.ok:
        assert run.failure is not None
        assert run.failure.kind == "unsupported"
        return
    assert run.failure is None, run.failure
    assert len(run.samples) == 3
    assert 0 < run.agent_ns < run.wall_ns
    filled = mechanism in ("memset", "ksm")
    rss = run.kept[0].memory["touch"].rss_anon - run.kept[0].memory["start"].rss_anon
    assert (rss >= SIZE * 0.9) == filled


def test_the_agent_runs_where_it_was_pinned_and_in_its_cgroup(session: HostSession) -> None:
    run = session.run(cell("memset"), 1, 60)
    assert run.failure is None
    assert run.facts["cpu"] == session.capabilities().environment["cpus"]
    peak = run.kept[0].memory["touch"].cgroup_peak
    if session.capabilities().metrics["cgroup"].ok:
        assert peak is not None
        assert peak >= SIZE
    else:
        assert peak is None


def test_a_cell_larger_than_memory_is_refused_with_both_numbers(session: HostSession) -> None:
    wanted = 1 << 50
    run = session.run(cell("memset", wanted), 1, 60)
    assert run.failure is not None
    assert run.failure.kind == "limit-hit"
    assert run.failure.wanted == wanted
    assert 0 < run.failure.limit < wanted
    assert "populates 1024TiB" in run.failure.message
    assert run.failure.remedy


def test_a_sparse_cell_is_not_refused_for_its_size(session: HostSession) -> None:
    """1 GiB of which 1 MiB is touched; only what is populated counts."""
    run = session.run(cell("anon", 1 << 30, 1 << 22), 1, 60)
    assert run.failure is None


def test_more_mappings_than_the_kernel_allows_is_limit_hit(session: HostSession) -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    if most > 100_000:
        pytest.skip("vm.max_map_count is raised here")
    run = session.run(cell("memfd:block=1", 512 << 20, 1 << 20), 1, 60)
    assert run.failure is not None
    assert run.failure.kind == "limit-hit"
    assert run.failure.wanted == 131072
    assert run.failure.limit == most
    assert "block" in run.failure.remedy


def test_a_deadline_ends_a_cell(session: HostSession) -> None:
    run = session.run(cell("anon", 256 << 20, 4096), 1_000_000, 0.3)
    assert run.failure is not None
    assert run.failure.kind == "no-answer"
    assert "deadline" in run.failure.message
    assert session.run(cell("anon"), 1, 60).failure is None


def test_nothing_is_left_when_it_closes(cache: Path) -> None:
    before = sorted((cache / "sessions").iterdir())
    opened = open_host()
    facts = opened.capabilities().environment
    opened.run(cell("anon"), 1, 60)
    (directory,) = {d for d in (cache / "sessions").iterdir() if d.is_dir()} - set(before)
    record = json.loads((directory / "state.json").read_text())
    assert record["cgroups"] or facts["cgroup"] == "none"
    opened.close()
    opened.close()
    assert not directory.exists()
    assert not any(Path(path).exists() for path in record["cgroups"])
    with pytest.raises(BackendError, match="closed"):
        opened.run(cell("anon"), 1, 60)


KILLED = """
import sys
sys.path[:0] = sys.argv[1:3]
from refbench.grammar import Spec, resolve
from refbench_host.backend import HostBackend
backend = HostBackend()
session = backend.open(resolve(Spec.parse("host"), backend.options, what="target"))
print(session.capabilities().environment["cgroup"], flush=True)
sys.stdin.read()
"""


def test_what_a_killed_command_leaves_the_next_one_removes(cache: Path) -> None:
    before = set((cache / "sessions").iterdir())
    argv = [sys.executable, "-c", KILLED, str(ROOT / "src"), str(ROOT / "backends")]
    command = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    assert command.stdin is not None
    kind = command.stdout.readline().strip()
    assert kind in {"v1", "v2", "none"}
    (directory,) = {d for d in (cache / "sessions").iterdir() if d.is_dir()} - before
    groups = [Path(path) for path in json.loads((directory / "state.json").read_text())["cgroups"]]
    command.kill()
    command.wait(30)
    command.stdin.close()
    command.stdout.close()
    assert directory.exists()
    assert kind == "none" or all(group.exists() for group in groups)
    swept = sweep()
    assert swept.problems == ()
    assert not directory.exists()
    assert not any(group.exists() for group in groups)


def test_where_agents_run_is_an_option() -> None:
    allowed = os.sched_getaffinity(0)
    assert choose_cpus("any") == ()
    assert choose_cpus("auto")[0] in allowed
    first = min(allowed)
    assert choose_cpus(str(first)) == (first,)
    assert choose_cpus(f"{first}-{first}") == (first,)
    for nonsense in ("fast", "", "-", "1-x"):
        with pytest.raises(UsageError):
            choose_cpus(nonsense)
    with pytest.raises(UsageError, match="not here"):
        choose_cpus("100000")


def test_an_agent_without_a_pin_may_use_every_cpu() -> None:
    with open_host("host:cpu=any") as opened:
        assert opened.capabilities().environment["cpus"] == "any"
        assert opened.run(cell("anon"), 1, 60).failure is None


def test_a_pattern_file_is_shown(session: HostSession, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_bytes(b"page of a file.\n")
    wanted = replace(cell("memset"), pattern=Pattern.parse(f"file:{page}"))
    run = session.run(wanted, 1, 60)
    assert run.failure is None, run.failure


AS_USER = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from refbench.grammar import Spec, resolve
from refbench_host.backend import HostBackend
backend = HostBackend()
with backend.open(resolve(Spec.parse("host"), backend.options, what="target")) as session:
    found = session.capabilities()
    print(json.dumps({
        "user": found.environment["user"],
        "cgroup": [found.metrics["cgroup"].ok, found.metrics["cgroup"].reason,
                   found.metrics["cgroup"].remedy],
        "mechanisms": {n: [a.ok, a.reason, a.remedy] for n, a in found.mechanisms.items()},
    }))
"""


def test_an_ordinary_user_is_told_what_is_missing(
    user_prefix: Sequence[str], user_folder: Path, cache: Path
) -> None:
    try:
        probe = [*user_prefix, sys.executable, "-c", "import refbench"]
        done = subprocess.run(probe, capture_output=True, text=True, timeout=100)
    except PermissionError:
        done = None
    if done is None or done.returncode:
        pytest.skip("an ordinary user cannot run this interpreter with this source tree")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(user_folder),
        "REFBENCH_CACHE": str(user_folder / "cache"),
    }
    argv = [*user_prefix, sys.executable, "-c", AS_USER, str(ROOT / "src"), str(ROOT / "backends")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["user"] == "ordinary"
    ok, reason, remedy = said["cgroup"]
    assert ok or (reason and remedy)
    for name in ("anon", "memset", "memfd", "segv"):
        assert said["mechanisms"][name][0]
    for ok, reason, remedy in said["mechanisms"].values():
        assert ok or (reason and remedy)


def test_an_agent_killed_for_memory_has_hit_a_limit(as_root: None) -> None:
    with open_host() as opened:
        group = opened._group
        if group is None:
            pytest.skip("no memory cgroup here")
        name = "memory.max" if group.version == "v2" else "memory.limit_in_bytes"
        (group.directory / name).write_text(str(16 << 20))
        run = opened.run(cell("memset", 64 << 20), 1, 60)
        assert run.failure is not None
        assert run.failure.kind == "limit-hit"
        assert "memory ran out" in run.failure.message
        assert opened.run(cell("memset", 1 << 20), 1, 60).failure is None
