"""The program file: text and steps are the same thing, and nonsense is refused by line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refbench.errors import UsageError
from refbench.plugins import registry
from refbench.program import (
    ADVICE,
    Advise,
    Descriptors,
    Expect,
    Fork,
    Handout,
    KernelLog,
    KernelReads,
    KernelWrites,
    Lock,
    Map,
    MapAnonymous,
    Measure,
    Parallel,
    Past,
    Phase,
    Program,
    Protect,
    Reference,
    Remap,
    Repeat,
    Settle,
    Step,
    Threads,
    Touch,
    Unmap,
    Userfault,
    parse,
)
from refbench.program.steps import Origin, Tampering

REGION = st.integers(0, 9)
NUMBER = st.integers(0, 1 << 40)
BYTE = st.integers(0, 255)
LABEL = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
CONTENT = st.one_of(st.sampled_from(["pattern", "zero"]), BYTE)


@st.composite
def touches(draw: Callable[..., Any]) -> Touch:
    stride = draw(st.integers(1, 1 << 20))
    return Touch(
        draw(REGION),
        draw(NUMBER),
        draw(NUMBER),
        draw(st.sampled_from(["read", "write", "readwrite"])),
        stride,
        draw(st.integers(1, stride)),
        draw(st.sampled_from(["forward", "backward", "random"])),
        draw(st.integers(0, 1 << 32)),
        draw(NUMBER),
        draw(BYTE),
        draw(st.booleans()),
    )


SIMPLE: st.SearchStrategy[Step] = st.one_of(
    st.builds(Phase, st.one_of(st.just(""), LABEL)),
    st.builds(Measure, LABEL),
    st.builds(Map, REGION, st.integers(1, 1 << 40), st.booleans()),
    st.builds(Map, REGION, st.integers(1, 1 << 40), plain=st.booleans()),
    st.builds(MapAnonymous, REGION, st.integers(1, 1 << 40), REGION),
    st.builds(Unmap, REGION, NUMBER, NUMBER),
    touches(),
    st.builds(
        Handout, REGION, NUMBER, NUMBER, st.sampled_from(get_args(Past)), st.integers(1, 1 << 40)
    ),
    st.builds(Expect, REGION, NUMBER, NUMBER, CONTENT, st.integers(1, 99), st.booleans()),
    st.builds(Advise, REGION, NUMBER, NUMBER, st.sampled_from(ADVICE)),
    st.builds(Protect, REGION, NUMBER, NUMBER, st.sampled_from(["none", "read", "readwrite"])),
    st.builds(Lock, REGION, NUMBER, NUMBER, st.booleans()),
    st.builds(Remap, REGION, NUMBER, NUMBER, REGION, NUMBER),
    st.builds(
        KernelReads,
        REGION,
        NUMBER,
        NUMBER,
        st.sampled_from(["write", "direct", "vmreadv", "procmem", "core"]),
        CONTENT,
    ),
    st.builds(
        KernelWrites,
        REGION,
        NUMBER,
        NUMBER,
        st.sampled_from(["read", "vmwritev", "procmem"]),
        BYTE,
    ),
    st.builds(Reference, st.sampled_from([*get_args(Tampering), *get_args(Origin)])),
    st.builds(Userfault, REGION, NUMBER, NUMBER, BYTE),
    st.just(Descriptors()),
    st.just(Settle()),
    st.builds(KernelLog, st.sampled_from(["mark", "clean"])),
)


def _blocks(inner: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    body = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Repeat, st.integers(1, 9), body),
        st.builds(Fork, body, body, st.booleans()),
        st.lists(st.builds(Threads, st.integers(1, 4), body), min_size=1, max_size=2).map(
            lambda groups: Parallel(tuple(groups))
        ),
    )


PROGRAMS = st.builds(
    Program,
    st.from_regex(r"[a-z]{1,8}( [a-z]{1,8})?", fullmatch=True),
    st.lists(st.recursive(SIMPLE, _blocks, max_leaves=8), max_size=6).map(tuple),
    st.booleans(),
)


@given(PROGRAMS)
def test_text_reads_back(program: Program) -> None:
    assert parse(program.text()) == program


def test_every_case_reads_back() -> None:
    for case in registry().cases.values():
        program = registry().workload(case.workload).program(case.workload, 4096)
        assert parse(program.text(), files=program.files) == program


def test_comments_and_hexadecimal() -> None:
    program = parse("refbench-program 1\n\n# a comment\nmap 0 0x1000 # one page\n")
    assert program.steps == (Map(0, 4096),)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("refbench-program 2", "first line"),
        ("wait 3", "unknown step 'wait'"),
        ("map 0", "expected 2 words"),
        ("map 0 0", "out of range"),
        ("map 0 -4096", "out of range"),
        ("map x 4096", "not a number"),
        ("map 2000000 4096", "numbered below"),
        ("touch 0 0 4096 write", "touch needs"),
        ("touch 0 0 4096 poke 1", "not one of read, write, readwrite"),
        ("touch 0 0 4096 write 1 size=2", "larger than its stride"),
        ("touch 0 0 4096 write 1 speed=2", "not one of size="),
        ("expect 0 0 4096 256", "not a byte"),
        ("advise 0 0 4096 hurry", "not one of"),
        ("handout 0 0 4096", "handout needs"),
        ("handout 0 0 4096 old", "not one of fresh, reused, purged"),
        ("handout 0 0 4096 fresh times=0", "out of range"),
        ("handout 0 0 4096 fresh count=2", "not one of times="),
        ("phase Touch", "lower-case label"),
        ("end", "without a block"),
        ("repeat 0", "out of range"),
        ("repeat 2", "not closed by 'end'"),
        ("fork\nend", "not closed by 'parent'"),
        ("parallel\nend", "needs a threads block"),
        ("parallel\nthreads 1 loop\nend\nend", "needs a threads block that ends"),
        ("parallel\nmap 0 1\nend", "threads blocks only"),
        ("repeat 2\n" * 18, "nested deeper"),
    ],
)
def test_nonsense_is_refused_by_line(line: str, says: str) -> None:
    text = line if line.startswith("refbench-program") else f"refbench-program 1\n{line}\n"
    with pytest.raises(UsageError) as caught:
        parse(text, source="mine.prog")
    assert says in str(caught.value)
    assert "mine.prog, line" in str(caught.value)
