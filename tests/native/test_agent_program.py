"""The agent as an interpreter of docs/program-format.md: touching, checks, regions."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.native.conftest import Ask, observed

MASK = (1 << 64) - 1


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
