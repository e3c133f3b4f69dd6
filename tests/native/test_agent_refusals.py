"""The agent as an interpreter of docs/program-format.md: every refusal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.native.conftest import Ask, Run

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
