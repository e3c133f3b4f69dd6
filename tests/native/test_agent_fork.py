"""The agent as an interpreter of docs/program-format.md: forks and threads."""

from __future__ import annotations

import pytest
from tests.native.conftest import Ask, observed

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


OWN = """observe all
map 0 {size}
fork
parent
  phase parent
  touch 0 0 {size} read {page}
  phase map
  map 1 {size}
  phase -
end
"""


@pytest.mark.parametrize("mechanism", ["uffd", "uffd:atfork=yes", "uffd-sigbus", "segv"])
def test_a_mechanisms_own_memory_costs_no_fault_after_a_fork(
    ask_agent: Ask, page: int, mechanism: str
) -> None:
    """Its handler's stack and its tables are copy-on-write, as the agent's own memory is."""
    text = OWN.format(size=8 * page, page=page)
    for sample in ask_agent(text, mechanism=mechanism, iterations=3).samples:
        faults = 0 if mechanism == "uffd-sigbus" else 8
        assert sample.phases["parent"].minor_faults == faults
        assert sample.phases["map"].minor_faults == 0


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
