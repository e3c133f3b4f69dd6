"""The agent's protocol, its arguments, and what it counts."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from refbench.protocol import Report

Build = Callable[..., Path]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Ask = Callable[..., Report]

MIB = 1 << 20
SPARSE = """
phase map
map 0 67108864
phase -
measure map
phase touch
touch 0 0 67108864 write 65536
phase -
measure touch
phase empty
phase -
expect 0 0 67108864 0x55 stride=65536
phase unmap
unmap 0 0 0
phase -
measure end
"""
FOREVER = "map 0 4096\nrepeat 1000000000\ntouch 0 0 4096 write 4096\nend\n"


# -- the protocol ------------------------------------------------------------------------------


def test_the_end_line_hashes_everything_before_it(run_agent: Run) -> None:
    done = run_agent(SPARSE)
    body, _, end = done.stdout.rpartition("end ")
    assert end == f"rc=0 sha256={hashlib.sha256(body.encode()).hexdigest()}\n"
    kinds = [json.loads(line)["type"] for line in body.splitlines()]
    assert kinds == ["agent", "sample", "sample", "spent"]


def test_a_long_answer_is_hashed_too(run_agent: Run) -> None:
    """More than a buffer full, with every length of the hash's last block along the way."""
    steps = "".join(f"measure label-{i}\n" for i in range(60))
    for iterations in (1, 2, 3, 5):
        body, _, end = run_agent(steps, iterations=iterations).stdout.rpartition("end ")
        assert end == f"rc=0 sha256={hashlib.sha256(body.encode()).hexdigest()}\n"


def test_the_agent_says_where_it_runs(ask_agent: Ask, page: int) -> None:
    report = ask_agent("")
    assert report.agent.kernel == os.uname().release
    assert report.agent.page_size == page
    assert report.agent.cpu in range(os.cpu_count() or 1)
    assert report.spent_ns > 0


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_one_warm_up_and_the_iterations(ask_agent: Ask, iterations: int) -> None:
    report = ask_agent("map 0 65536\n", iterations=iterations)
    assert [sample.index for sample in report.samples] == list(range(iterations + 1))


# -- counters ----------------------------------------------------------------------------------


def test_a_sparse_touch_counts_exactly_its_faults(ask_agent: Ask) -> None:
    for sample in ask_agent(SPARSE, iterations=3).samples:
        touch, empty = sample.phases["touch"], sample.phases["empty"]
        assert (touch.minor_faults, touch.major_faults, touch.syscalls) == (1024, 0, 0)
        assert (empty.minor_faults, empty.major_faults, empty.entries) == (0, 0, 1)
        assert sample.phases["map"].minor_faults == 0
        assert sample.phases["map"].syscalls == sample.phases["unmap"].syscalls == 1
        assert sample.phases["setup"].entries == 1
        assert touch.ns > empty.ns


def test_snapshots_show_what_was_touched(ask_agent: Ask) -> None:
    for sample in ask_agent(SPARSE, iterations=1).samples:
        memory = sample.memory
        assert set(memory) == {"start", "map", "touch", "end"}
        start, mapped, touched, end = (memory[k] for k in ("start", "map", "touch", "end"))
        # Kernels before 6.16 batch the RSS counters: up to 64 pages a CPU are not seen yet.
        slack = 64 * 4096 * (os.cpu_count() or 1)
        assert abs(mapped.rss - start.rss) <= slack
        assert abs(touched.rss_anon - start.rss_anon - 4 * MIB) <= slack
        assert abs(end.rss - start.rss) <= slack
        assert abs(touched.hwm - touched.rss) <= slack
        assert end.hwm >= touched.rss - slack
        assert start.hwm < touched.hwm, "the high-water mark was not reset"
        assert touched.pte > start.pte
        assert mapped.vmas == start.vmas + 1
        assert end.vmas == start.vmas
        assert touched.sys_available
        assert touched.uss is not None
        assert start.uss is not None
        assert touched.uss - start.uss == 4 * MIB


def test_a_phase_entered_again_adds_up(ask_agent: Ask) -> None:
    program = """
map 0 1048576
repeat 4
phase a
touch 0 0 65536 write 4096
phase b
advise 0 0 65536 dontneed
end
"""
    sample = ask_agent(program).samples[-1]
    a, b = sample.phases["a"], sample.phases["b"]
    assert (a.entries, a.minor_faults) == (4, 64)
    assert (b.entries, b.syscalls, b.minor_faults) == (4, 4, 0)


def test_memfd_blocks_are_held_and_cost_a_call_each(ask_agent: Ask) -> None:
    program = "phase map\nmap 0 1048576\nphase -\nmeasure map\n"
    sample = ask_agent(program, mechanism="memfd:block=16").samples[-1]
    assert sample.memory["map"].held == 65536
    assert sample.memory["start"].held == 0
    assert sample.phases["map"].syscalls >= 16
    assert sample.memory["map"].vmas == sample.memory["start"].vmas + 16


def test_cgroup_numbers_come_from_the_directory(ask_agent: Ask, tmp_path: Path) -> None:
    """Files of both versions as the kernel writes them; the real ones need root."""
    v1 = {
        "memory.usage_in_bytes": "4096000\n",
        "memory.max_usage_in_bytes": "8192000\n",
        "memory.kmem.usage_in_bytes": "12288\n",
        "memory.stat": "cache 300\nrss 200\nrss_huge 0\nshmem 100\ntotal_rss 9\n",
    }
    v2 = {
        "memory.current": "4096000\n",
        "memory.stat": "anon 1\nfile 2\nkernel 3\nkernel_stack 9\npagetables 4\nshmem 5\nslab 6\n",
    }
    for name, files in (("v1", v1), ("v2", v2)):
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
    one = ask_agent("", "--cgroup", "v1", "--cgroup-dir", str(tmp_path / "v1")).samples[0]
    two = ask_agent("", "--cgroup", "v2", "--cgroup-dir", str(tmp_path / "v2")).samples[0]
    first, second = one.memory["start"], two.memory["start"]
    assert (first.cgroup_current, first.cgroup_kernel) == (4096000, 12288)
    assert (first.cgroup_anon, first.cgroup_file, first.cgroup_shmem) == (200, 300, 100)
    assert (first.cgroup_pagetables, first.cgroup_slab) == (None, None)
    # "0" was written over the peak: what a file cannot know, the kernel fills in again.
    assert (tmp_path / "v1" / "memory.max_usage_in_bytes").read_text()[0] == "0"
    assert (second.cgroup_current, second.cgroup_peak) == (4096000, None)
    assert (second.cgroup_anon, second.cgroup_file, second.cgroup_kernel) == (1, 2, 3)
    assert (second.cgroup_pagetables, second.cgroup_shmem, second.cgroup_slab) == (4, 5, 6)


def test_without_a_cgroup_its_fields_are_none(ask_agent: Ask) -> None:
    start = ask_agent("").samples[0].memory["start"]
    assert start.cgroup_current is None
    assert start.cgroup_peak is None


# -- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--iterations", "many"], "many"),
        (["--thp", "maybe"], "--thp"),
        (["--cgroup", "v1"], "--cgroup-dir"),
        (["--pattern", "noise"], "noise"),
        (["--pattern", "byte:256"], "byte:256"),
        (["--pattern", "file:x"], "--pattern-file"),
        (["--pattern", "file:x", "--pattern-file", "/nowhere/x"], "/nowhere/x"),
        (["--program", "/nowhere/program"], "/nowhere/program"),
        (["--mechanism", "magic"], "magic"),
        (["--what"], "--what"),
    ],
)
def test_arguments_that_make_no_sense(ask_agent: Ask, arguments: list[str], said: str) -> None:
    report = ask_agent("", *arguments)
    assert report.failure is not None
    assert report.failure.kind == "usage"
    assert said in report.failure.message
    assert report.failure.remedy
    assert not report.samples


def test_rc_is_2_for_usage_and_3_for_a_failure(run_agent: Run) -> None:
    assert run_agent("", "--what").returncode == 2
    assert run_agent("", "--pattern", "tag:5").returncode == 3


def test_tags_are_unsupported(ask_agent: Ask) -> None:
    for pattern in ("tag:5", "byte:0xAA+tag:5"):
        failure = ask_agent("", "--pattern", pattern).failure
        assert failure is not None
        assert failure.kind == "unsupported"


def test_a_pattern_file_fills_the_page_and_its_tail_is_cut(
    ask_agent: Ask, tmp_path: Path, page: int
) -> None:
    (tmp_path / "image").write_bytes(bytes([1, 2, 3]))
    arguments = ["--pattern", "file:image", "--pattern-file", str(tmp_path / "image")]
    program = "observe all\nmap 0 65536\nexpect 0 0 65536 pattern\nexpect 0 0 65536 1 stride=3\n"
    whole, thirds = ask_agent(program, *arguments, mechanism="memset").samples[0].observations
    assert whole.ok
    # The second page starts with 1 again, although a page is no multiple of 3.
    assert (thirds.ok, thirds.offset) == (False, -(-page // 3) * 3)


def test_a_pattern_file_larger_than_a_page(ask_agent: Ask, tmp_path: Path, page: int) -> None:
    (tmp_path / "image").write_bytes(b"x" * (page + 1))
    failure = ask_agent(
        "", "--pattern", "file:image", "--pattern-file", str(tmp_path / "image")
    ).failure
    assert failure is not None
    assert failure.kind == "usage"


def test_probe_tries_every_mechanism(ask_agent: Ask) -> None:
    report = ask_agent(None, "--probe", mechanism=None)
    found = {m.name: m for m in report.mechanisms}
    assert {"anon", "memset", "memfd", "memfd-full", "segv", "uffd", "uffd-sigbus"} <= set(found)
    assert found["anon"].ok
    assert found["memset"].ok
    assert found["memfd"].ok
    assert all(m.ok or m.reason for m in report.mechanisms)


def test_probe_of_one_with_options(ask_agent: Ask) -> None:
    (good,) = ask_agent(None, "--probe", mechanism="memfd:block=4").mechanisms
    (bad,) = ask_agent(None, "--probe", mechanism="memfd:block=many").mechanisms
    assert (good.name, good.ok) == ("memfd:block=4", True)
    assert not bad.ok
    assert "many" in bad.reason


def test_api_lists_every_mechanism(ask_agent: Ask) -> None:
    report = ask_agent(None, "--api", mechanism=None)
    assert all(m.ok for m in report.mechanisms)
    assert len(report.mechanisms) >= 8


def test_a_mechanism_of_another_api_version(build_agent: Build, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source = tmp_path / "old.c"
    source.write_text(
        '#include "mechanism.h"\n'
        'static const struct rb_mechanism old = { .api_version = 99, .name = "old" };\n'
        "RB_REGISTER(old);\n"
    )
    agent = build_agent(compiler, str(source))
    program = tmp_path / "program"
    program.write_text("refbench-program 1\n")
    argv = [str(agent), "--program", str(program), "--mechanism", "old"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    failure = json.loads(done.stdout.splitlines()[1])
    assert (done.returncode, failure["kind"]) == (3, "unsupported")
    assert "99" in failure["message"]


# -- ends that nobody asked for ----------------------------------------------------------------


def _descendant(agent: psutil.Process, depth: int) -> psutil.Process:
    """The only child's only child and so on, once it is there."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found: psutil.Process | None = agent
        for _ in range(depth):
            found = next(iter(found.children()), None) if found else None
        if found:
            return found
    raise AssertionError("the agent made no child")


def _start(agent: Path, program: Path, text: str) -> subprocess.Popen[str]:
    program.write_text("refbench-program 1\n" + text)
    argv = [str(agent), "--program", str(program), "--mechanism", "anon", "--iterations", "0"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("order", ["", " parent-first"])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_child_is_noticed(
    agent_path: Path, tmp_path: Path, order: str, end: signal.Signals
) -> None:
    text = f"observe all\nmap 1 4096\nfork{order}\n{FOREVER}parent\nend\nexpect 1 0 4096 zero\n"
    with _start(agent_path, tmp_path / "program", text) as agent:
        _descendant(psutil.Process(agent.pid), 1).send_signal(end)
        out, _ = agent.communicate(timeout=20)
    assert agent.returncode == 0
    died, after = json.loads(out.splitlines()[1])["observations"]
    assert (died["line"], died["step"], died["ok"]) == (4, "fork", False)
    assert f"signal {end.value}" in died["detail"]
    assert after["ok"], "the run did not go on"


def test_a_killed_child_ends_a_run_that_does_not_observe(agent_path: Path, tmp_path: Path) -> None:
    text = f"fork\n{FOREVER}parent\nend\n"
    with _start(agent_path, tmp_path / "program", text) as agent:
        _descendant(psutil.Process(agent.pid), 1).kill()
        out, _ = agent.communicate(timeout=20)
    assert agent.returncode == 3
    failure = json.loads(out.splitlines()[1])
    assert failure["type"] == "failure"
    assert "fork" in failure["message"]


def test_no_child_outlives_a_killed_agent(agent_path: Path, tmp_path: Path) -> None:
    text = f"fork\nfork\n{FOREVER}parent\nend\nparent\nend\n"
    with _start(agent_path, tmp_path / "program", text) as agent:
        parent = psutil.Process(agent.pid)
        grandchild = _descendant(parent, 2)
        child = parent.children()[0]
        agent.kill()
        out, _ = agent.communicate(timeout=20)
        gone, alive = psutil.wait_procs([child, grandchild], timeout=20)
    assert len(gone) == 2
    assert not alive
    assert "end rc" not in out


# -- other machines ----------------------------------------------------------------------------


def test_the_sources_compile_for_arm64(build_agent: Build, tmp_path: Path, page: int) -> None:
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("no aarch64-linux-gnu-gcc")
    agent = build_agent(compiler)
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        return
    program = tmp_path / "program"
    program.write_text("refbench-program 1\nmap 0 65536\nexpect 0 0 65536 pattern\n")
    argv = [emulator, str(agent), "--program", str(program), "--mechanism", "memset"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    first = json.loads(done.stdout.splitlines()[0])
    assert (done.returncode, first["arch"], first["page_size"]) == (0, "arm64", page)
