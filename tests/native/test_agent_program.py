"""The agent as an interpreter of docs/program-format.md: every step, and every refusal."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refbench.protocol import Report
from refbench.samples import Observation

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Ask = Callable[..., Report]

MASK = (1 << 64) - 1


def observed(report: Report) -> tuple[Observation, ...]:
    """What the last sample saw; the run must have one."""
    assert report.failure is None, report.failure
    return report.samples[-1].observations


# -- touching ----------------------------------------------------------------------------------


def splitmix64(z: int) -> int:
    """The mixer of docs/program-format.md."""
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


def order(n: int, seed: int) -> Iterator[int]:
    """P(0), P(1), ... as docs/program-format.md has it."""
    b = 0
    while 1 << 2 * b < n:
        b += 1
    for k in range(n):
        x = k
        while True:
            left, right = x >> b, x & ((1 << b) - 1)
            for r in range(4):
                mixed = splitmix64(((seed << 32) + (r << 56) + right) & MASK) % (1 << b)
                left, right = right, left ^ mixed
            x = left << b | right
            if x < n:
                break
        yield x


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 100])
@pytest.mark.parametrize("seed", [0, 7, 1 << 40])
def test_random_order_is_the_documented_permutation(ask_agent: Ask, n: int, seed: int) -> None:
    """After COUNT places, exactly the first COUNT of the reference order are written."""
    wanted = list(order(n, seed))
    assert sorted(wanted) == list(range(n))
    cuts = sorted({1, n // 2 or 1, n})
    lines, places = ["observe all"], []
    for region, count in enumerate(cuts):
        lines.append(f"map {region} 65536")
        lines.append(f"touch {region} 5 {n * 3} write 3 order=random seed={seed} count={count}")
        for i in range(n):
            written = i in wanted[:count]
            lines.append(f"expect {region} {5 + 3 * i} 1 {0x55 if written else 0}")
            places.append(i)
    seen = observed(ask_agent("\n".join(lines)))
    assert len(seen) == len(places)
    assert all(o.ok for o in seen)


def test_a_large_random_order_visits_every_place_once(ask_agent: Ask, page: int) -> None:
    pages = 12345
    program = f"map 0 {pages * page}\nphase touch\n"
    program += f"touch 0 0 {pages * page} write {page} order=random seed=3\nphase -\n"
    program += f"expect 0 0 {pages * page} 0x55 stride={page}\n"
    assert ask_agent(program).samples[-1].phases["touch"].minor_faults == pages


def test_backward_count_starts_at_the_end(ask_agent: Ask) -> None:
    program = """observe all
map 0 65536
touch 0 0 10000 write 1000 order=backward count=3
expect 0 0 7000 zero
expect 0 7000 3000 0x55 stride=1000
"""
    assert all(o.ok for o in observed(ask_agent(program)))


def test_size_and_value_and_a_range_that_ends_in_a_place(ask_agent: Ask) -> None:
    program = """observe all
map 0 65536
touch 0 100 1002 write 500 size=4 value=0xAB
expect 0 0 100 zero
expect 0 100 4 0xAB
expect 0 104 496 zero
expect 0 600 4 0xAB
expect 0 1100 2 0xAB
expect 0 1102 1000 zero
"""
    seen = observed(ask_agent(program))
    assert [o.ok for o in seen] == [True] * 6


@pytest.mark.parametrize(
    ("access", "faults", "left"), [("read", 16, 0), ("write", 16, 0x55), ("readwrite", 32, 0x55)]
)
def test_accesses(ask_agent: Ask, page: int, access: str, faults: int, left: int) -> None:
    """A read maps the zero page, a write after it copies: two faults a page."""
    size = 16 * page
    program = f"map 0 {size}\nphase touch\ntouch 0 0 {size} {access} {page}\nphase -\n"
    program += f"expect 0 0 {size} {left} stride={page}\n"
    assert ask_agent(program).samples[-1].phases["touch"].minor_faults == faults


# -- checks ------------------------------------------------------------------------------------


def test_a_wrong_byte_ends_the_run(ask_agent: Ask) -> None:
    program = "map 0 65536\ntouch 0 777 1 write 1\nexpect 0 0 65536 zero\n"
    failure = ask_agent(program).failure
    assert failure is not None
    assert failure.kind == "wrong-content"
    assert "Line 4" in failure.message
    assert "777" in failure.message


def test_a_wrong_byte_is_observed(ask_agent: Ask) -> None:
    program = """observe all
map 0 65536
touch 0 777 300 write 100 value=9
expect 0 0 65536 pattern
expect 0 778 99 pattern
"""
    bad, good = observed(ask_agent(program, mechanism="memset"))
    assert (bad.line, bad.step, bad.ok, bad.errors) == (5, "expect", False, 3)
    assert (bad.offset, bad.got, bad.wanted) == (777, 9, 0xAA)
    assert good.ok


def test_once_is_for_the_warm_up(ask_agent: Ask) -> None:
    program = "observe all\nmap 0 4096\nexpect 0 0 4096 zero once\n"
    first, second = ask_agent(program).samples
    assert (len(first.observations), len(second.observations)) == (1, 0)


def test_checks_are_outside_the_clock(ask_agent: Ask, page: int) -> None:
    size = 64 * page
    program = f"map 0 {size}\nphase a\nexpect 0 0 {size} zero\nmeasure x\nphase -\n"
    assert ask_agent(program).samples[-1].phases["a"].minor_faults == 0


@pytest.mark.parametrize("observe", [True, False])
@pytest.mark.parametrize("step", ["touch 0 8192 8192 write 4096", "expect 0 8192 8192 zero"])
def test_a_fault_that_nobody_resolves(ask_agent: Ask, observe: bool, step: str) -> None:
    head = "observe all\n" if observe else ""
    program = f"{head}map 0 65536\nprotect 0 12288 4096 none\n{step}\nexpect 0 0 4096 zero\n"
    report = ask_agent(program)
    if not observe:
        assert report.failure is not None
        assert report.failure.kind == "wrong-content"
        assert "12288" in report.failure.message
        return
    _, seen, after = observed(report)
    assert (seen.ok, seen.offset) == (False, 12288)
    assert "SIGSEGV" in seen.detail
    assert after.ok


def test_a_fault_in_a_thread(ask_agent: Ask) -> None:
    program = """observe all
map 0 65536
protect 0 0 4096 none
parallel
threads 3
touch 0 0 4096 read 4096
end
end
"""
    seen = [o for o in observed(ask_agent(program)) if o.step == "touch"]
    assert len(seen) == 3
    assert all("SIGSEGV" in o.detail for o in seen)


@pytest.mark.parametrize("via", ["write", "direct", "vmreadv", "procmem", "core"])
def test_the_kernel_reads(ask_agent: Ask, via: str) -> None:
    program = f"""observe all
map 0 65536
touch 0 4096 1 write 1 value=1
kernel-reads 0 0 65536 {via} pattern
kernel-reads 0 8192 8192 {via} pattern
protect 0 8192 4096 none
kernel-reads 0 8192 4096 write pattern
"""
    wrong, right, _, refused = observed(ask_agent(program, mechanism="memset"))
    if wrong.detail.startswith("unavailable:"):
        pytest.skip(wrong.detail)
    assert (wrong.ok, wrong.errors, wrong.offset) == (False, 1, 4096)
    assert (wrong.got, wrong.wanted) == (1, 0xAA)
    assert right.ok
    assert (refused.ok, refused.errno) == (False, 14)


def test_a_core_file_without_the_bytes(ask_agent: Ask, tmp_path: Path) -> None:
    """Untouched anonymous memory is in no core file; nothing stays behind in the scratch."""
    program = "observe all\nmap 0 65536\nadvise 0 0 65536 dontneed\n"
    program += "kernel-reads 0 0 65536 core zero\n"
    seen = observed(ask_agent(program, mechanism="memfd"))[-1]
    if seen.detail.startswith("unavailable:"):
        pytest.skip(seen.detail)
    assert seen.errors == 65536
    assert "not in the core file" in seen.detail
    assert not list(tmp_path.glob("refbench-core*"))


def test_direct_io_into_memory_is_unavailable(ask_agent: Ask) -> None:
    shm = Path("/dev/shm")  # it is tmpfs that the test needs
    if not os.access(shm, os.W_OK):
        pytest.skip("no /dev/shm to write to")
    program = "observe all\nmap 0 4096\nkernel-reads 0 0 4096 direct zero\n"
    (seen,) = observed(ask_agent(program, "--scratch", str(shm)))
    assert (seen.ok, seen.errno) == (False, 22)
    assert seen.detail.startswith("unavailable:")


@pytest.mark.parametrize("via", ["read", "vmwritev", "procmem"])
def test_the_kernel_writes(ask_agent: Ask, via: str) -> None:
    program = f"""observe all
map 0 65536
kernel-writes 0 4096 5000 {via} 0x77
expect 0 0 4096 pattern
expect 0 4096 5000 0x77
expect 0 9096 1000 pattern
unmap 0 16384 4096
kernel-writes 0 16384 4096 {via} 0x77
"""
    seen = observed(ask_agent(program, mechanism="memset"))
    assert [o.ok for o in seen] == [True, True, True, True, False]
    assert seen[-1].errno in (5, 14)


# -- regions -----------------------------------------------------------------------------------


def test_regions_lie_in_slots_and_anonymous_memory_follows(ask_agent: Ask) -> None:
    """The addresses show in what a fault reports."""
    program = """observe all
map 3 4096
map 7 8192
map-anonymous 9 4096 7
protect 3 0 0 read
protect 3 0 4096 none
protect 7 0 8192 none
protect 9 0 4096 none
touch 3 0 1 read 1
touch 7 0 1 read 1
touch 9 0 1 read 1
"""
    seen = [o for o in observed(ask_agent(program)) if o.step == "touch"]
    at = [int(o.detail.split()[2].rstrip(","), 16) for o in seen]
    first = 0x1000000000
    assert at == [first, first + (2 << 30), first + (2 << 30) + 8192]


def test_remap_moves_and_grows(ask_agent: Ask) -> None:
    program = """observe all
map 0 65536
touch 0 0 65536 write 1
remap 0 0 65536 1 131072
expect 1 0 65536 0x55
expect 1 65536 65536 zero
touch 0 0 1 read 1
"""
    *good, gone = observed(ask_agent(program))
    assert [o.ok for o in good] == [True, True, True]
    assert "SIGSEGV" in gone.detail


def test_every_sample_maps_anew(ask_agent: Ask, page: int) -> None:
    program = f"phase t\nmap 0 {4 * page}\ntouch 0 0 {4 * page} write {page}\nunmap 0 0 {page}\n"
    for sample in ask_agent(program, iterations=3).samples:
        assert sample.phases["t"].minor_faults == 4


def test_lock_advise_protect(ask_agent: Ask, page: int) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and soft < 4 * page:
        pytest.skip("no memory may be locked")
    advice = ["cold", "free", "dontneed", "willneed", "populate-read", "populate-write"]
    lines = ["observe all", f"map 0 {8 * page}", f"lock 0 0 {4 * page}", f"unlock 0 0 {4 * page}"]
    lines += [f"advise 0 0 {8 * page} {a}" for a in advice]
    lines += [f"protect 0 0 {page} {p}" for p in ("none", "read", "readwrite")]
    lines += [f"advise 0 1 {page} dontneed"]
    seen = observed(ask_agent("\n".join(lines)))
    assert len(seen) == 12
    assert [o for o in seen if not o.ok and o.errno != 22] == []
    assert (seen[-1].ok, seen[-1].errno) == (False, 22)
    assert [o.ok for o in seen[:2]] == [True, True]


@pytest.mark.parametrize("word", ["collapse", "hugepage", "mergeable", "nohugepage", "pageout",
                                  "unmergeable"])  # fmt: skip
def test_advice_that_a_kernel_may_refuse(ask_agent: Ask, word: str) -> None:
    program = f"observe all\nmap 0 4194304\nadvise 0 0 4194304 {word}\n"
    (seen,) = observed(ask_agent(program))
    assert seen.ok == (seen.errno == 0)


def test_populate(ask_agent: Ask, page: int) -> None:
    program = f"map 0 {64 * page} populate\nphase t\ntouch 0 0 {64 * page} write {page}\n"
    assert ask_agent(program).samples[-1].phases["t"].minor_faults == 0


def test_reference_settle_and_the_kernel_log(ask_agent: Ask) -> None:
    program = "observe all\nsettle\nreference write\nkernel-log mark\nkernel-log clean\n"
    reference, mark, clean = observed(ask_agent(program))
    assert (reference.ok, reference.errno) == (False, 95)
    assert mark.ok or mark.detail.startswith("unavailable:")
    assert clean.ok or clean.detail


def test_a_kernel_log_that_was_not_marked(ask_agent: Ask) -> None:
    (seen,) = observed(ask_agent("observe all\nkernel-log clean\n", iterations=0))
    assert not seen.ok
    assert "not marked" in seen.detail


# -- fork and threads --------------------------------------------------------------------------

FORK = """observe all
map 0 {size}
touch 0 0 {size} write {page}
phase fork
fork{first}
  phase child
  touch 0 0 {half} write {page} value=1
  phase -
  measure child
  expect 0 0 {half} 1 stride={page}
  unmap 0 0 {page}
parent
  phase parent
  touch 0 0 {size} write {page} value=2
  phase idle
  phase -
  expect 0 0 {size} 2 stride={page}
end
"""


@pytest.mark.parametrize("first", ["", " parent-first"])
def test_a_fork_counts_exactly_its_copies(ask_agent: Ask, page: int, first: str) -> None:
    text = FORK.format(size=64 * page, half=32 * page, page=page, first=first)
    for sample in ask_agent(text, iterations=3).samples:
        assert sample.phases["child"].minor_faults == 32
        assert sample.phases["parent"].minor_faults == 64
        assert sample.phases["idle"].minor_faults == 0
        assert sample.phases["fork"].syscalls == 1
        # The stack that the parent returns on, and the agent's own data beside it.
        assert sample.phases["fork"].minor_faults <= 4
        assert "child" in sample.memory
        assert all(o.ok for o in sample.observations)
        assert len(sample.observations) == 2


def test_forks_nest_to_the_limit(ask_agent: Ask, page: int) -> None:
    lines = ["observe all", f"map 0 {page}", f"touch 0 0 {page} write {page} value=99"]
    for depth in range(16):
        lines += ["fork", f"phase d{depth}", f"touch 0 0 {page} write {page} value={depth}"]
        lines += ["phase -", f"expect 0 0 1 {depth}"]
    for depth in reversed(range(16)):
        lines += ["parent", f"expect 0 0 1 {depth - 1 if depth else 99}", "end"]
    sample = ask_agent("\n".join(lines)).samples[-1]
    assert [sample.phases[f"d{d}"].minor_faults for d in range(16)] == [1] * 16
    assert len(sample.observations) == 32
    assert all(o.ok for o in sample.observations)


def test_a_thousand_children_one_after_the_other(ask_agent: Ask, page: int) -> None:
    program = f"map 0 {page}\ntouch 0 0 1 write 1\nrepeat 1000\nfork\nphase child\n"
    program += f"touch 0 0 {page} write {page}\nphase -\nparent\nend\nend\n"
    (sample,) = ask_agent(program, iterations=0).samples
    assert sample.phases["child"].entries == sample.phases["child"].minor_faults == 1000


def test_a_child_lives_while_its_parent_forks_again(ask_agent: Ask) -> None:
    program = """observe all
fork
  phase a
  phase -
parent
  fork parent-first
    phase b
    phase -
  parent
    phase c
    phase -
  end
end
"""
    phases = ask_agent(program).samples[-1].phases
    assert {"a", "b", "c"} <= set(phases)


def test_a_wrong_byte_in_a_child_ends_the_run(ask_agent: Ask) -> None:
    program = "map 0 4096\nfork\nexpect 0 0 4096 7\nparent\nphase never\nend\nphase never\n"
    failure = ask_agent(program).failure
    assert failure is not None
    assert (failure.kind, "Line 4" in failure.message) == ("wrong-content", True)


def test_threads_share_the_places(ask_agent: Ask, page: int) -> None:
    size = 1000 * page
    for how in ("", "order=random seed=5 ", "order=backward "):
        program = f"map 0 {size}\nphase t\nparallel\nthreads 7\n"
        program += f"touch 0 0 {size} write {page} {how}shared\nend\nend\nphase -\n"
        program += f"expect 0 0 {size} 0x55 stride={page}\n"
        for sample in ask_agent(program).samples:
            assert sample.phases["t"].minor_faults == 1000


def test_a_loop_group_runs_until_the_others_are_done(ask_agent: Ask, page: int) -> None:
    """Threads map and unmap while others touch, and nothing of theirs is counted twice."""
    program = f"""map 0 {256 * page}
phase t
parallel
threads 2
  touch 0 0 {256 * page} write {page} shared
  repeat 10
    touch 0 0 {256 * page} read {page} shared
  end
end
threads 1 loop
  map 1 {page}
  unmap 1 0 0
end
end
phase -
expect 0 0 {256 * page} 0x55 stride={page}
map 1 {page}
"""
    sample = ask_agent(program).samples[-1]
    assert sample.phases["t"].minor_faults == 256
    assert sample.phases["t"].syscalls >= 2
    assert sample.phases["t"].syscalls % 2 == 0


def test_a_long_loop_does_not_crowd_out_what_comes_after(ask_agent: Ask, page: int) -> None:
    program = f"""observe all
map 0 {page}
map 1 {page}
parallel
threads 1
  repeat 200000
    touch 1 0 {page} read 64
  end
end
threads 1 loop
  expect 0 0 8 zero
end
end
expect 1 0 8 zero
expect 1 0 8 7
"""
    seen = observed(ask_agent(program, iterations=0))
    assert len(seen) > 2048, "the loop was too short to show anything"
    assert [(o.line, o.ok) for o in seen[-2:]] == [(15, True), (16, False)]


def test_threads_in_a_child(ask_agent: Ask, page: int) -> None:
    program = f"""map 0 {64 * page}
fork
  phase t
  parallel
  threads 4
    touch 0 0 {64 * page} write {page} shared
  end
  end
  phase -
parent
end
"""
    assert ask_agent(program).samples[-1].phases["t"].minor_faults == 64


# -- refusals ----------------------------------------------------------------------------------

DEEP = "repeat 1\n" * 17
BAD = [
    ("fly 0", 2, "fly"),
    ("# a comment\n\nmap 0", 4, "2 words"),
    ("map 0 0", 2, "range"),
    ("map 0 4097", 2, "page size"),
    ("map 0 x", 2, "'x'"),
    ("map 0 010", 2, "'010'"),
    ("map 1048576 4096", 2, "range"),
    ("unmap 0 0 0", 2, "never mapped"),
    ("map 0 4096\ntouch 0 4096 1 read 1", 3, "behind"),
    ("map 0 4096\ntouch 0 0 1 look 1", 3, "look"),
    ("map 0 4096\ntouch 0 0 1 read 0", 3, "range"),
    ("map 0 4096\ntouch 0 0 9 read 1 size=2", 3, "larger"),
    ("map 0 4096\ntouch 0 0 9 read 1 colour=2", 3, "colour"),
    ("map 0 4096\ntouch 0 0 9 read 1 seed=2 seed=2", 3, "seed"),
    ("map 0 4096\ntouch 0 0 9 read 1 value=256", 3, "range"),
    ("map 0 4096\nexpect 0 0 1 noise", 3, "noise"),
    ("map 0 4096\nexpect 0 0 1 zero twice", 3, "twice"),
    ("map 0 4096\nadvise 0 0 1 well", 3, "well"),
    ("map 0 4096\nprotect 0 0 1 all", 3, "all"),
    ("map 0 4096\nkernel-reads 0 0 1 ear zero", 3, "ear"),
    ("map 0 4096\nkernel-writes 0 0 1 read 256", 3, "range"),
    ("map 0 4096\nmap-anonymous 0 4096 0", 3, "both"),
    ("map-anonymous 0 4096 1", 2, "never mapped"),
    ("reference burn", 2, "burn"),
    ("kernel-log dirty", 2, "dirty"),
    ("settle now", 2, "0 words"),
    ("phase Touch", 2, "Touch"),
    ("measure " + "a" * 32, 2, "label"),
    ("repeat 0\nend", 2, "range"),
    ("repeat 2", 2, "not closed"),
    ("end", 2, "without a block"),
    ("fork\nend", 2, "not closed"),
    ("fork\nparent", 3, "not closed"),
    ("fork sideways\nparent\nend", 2, "0 words"),
    ("parallel\nmap 0 4096\nend", 3, "threads blocks only"),
    ("parallel\nend", 3, "ends"),
    ("parallel\nthreads 1 loop\nend\nend", 5, "ends"),
    ("parallel\nthreads 2000\nend\nend", 3, "range"),
    ("parallel\nthreads 1\nphase a\nend\nend", 4, "inside threads"),
    ("parallel\nthreads 1\nfork\nparent\nend\nend\nend", 4, "inside threads"),
    ("observe some", 2, "observe"),
    (DEEP, 18, "nested"),
]


@pytest.mark.parametrize(("program", "line", "said"), BAD)
def test_programs_that_are_none(run_agent: Run, ask_agent: Ask, program: str, line: int,
                                said: str) -> None:  # fmt: skip
    failure = ask_agent(program).failure
    assert failure is not None
    assert failure.kind == "usage"
    assert f"line {line}:" in failure.message
    assert said in failure.message
    assert "program-format" in failure.remedy
    assert run_agent(program).returncode == 2


def test_a_file_of_another_version(ask_agent: Ask, tmp_path: Path) -> None:
    file = tmp_path / "later"
    file.write_text("refbench-program 2\n")
    failure = ask_agent(None, "--program", str(file)).failure
    assert failure is not None
    assert "line 1" in failure.message


def test_mapping_twice_is_the_programs_fault(run_agent: Run, ask_agent: Ask) -> None:
    failure = ask_agent("map 0 4096\nmap 0 4096\n").failure
    assert failure is not None
    assert failure.kind == "usage"
    assert "Line 3" in failure.message


def test_more_address_space_than_there_is(ask_agent: Ask) -> None:
    failure = ask_agent(f"map 0 {1 << 46}\nmap 1 {1 << 46}\n").failure
    assert failure is not None
    assert failure.kind == "limit-hit"
    assert failure.wanted > failure.limit > 0


def test_too_little_address_space_for_a_mapping(ask_agent: Ask) -> None:
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        pytest.skip("no prlimit")
    failure = ask_agent(f"map 0 {1 << 30}\n", under=(prlimit, "--as=268435456")).failure
    assert failure is not None
    assert failure.kind == "limit-hit"
    assert failure.limit == 268435456
