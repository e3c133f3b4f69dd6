"""The file: what is written is read, and what is not whole is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trace.made import BASE, PAGE, random_rows, written

from refbench.errors import UsageError
from refbench.trace import Kind, compile_trace, open_trace
from refbench.trace.compiling import write_condensed
from refbench.trace.format import decode, encode
from refbench.trace.writer import events_of

ROWS = st.lists(
    st.tuples(
        st.sampled_from(list(Kind)),
        st.integers(0, (1 << 62) - 1),
        st.integers(0, (1 << 62) - 1),
        st.integers(0, (1 << 31) - 1),
    ),
    max_size=20,
)


@given(ROWS)
def test_events_survive(rows: list[tuple[int, int, int, int]]) -> None:
    events = events_of(rows)
    back = decode(encode(events), len(events))
    for column in ("kind", "address", "length", "thread"):
        assert np.array_equal(getattr(back, column), getattr(events, column))


def test_cut_anywhere_it_is_refused_and_what_is_whole_is_salvaged(tmp_path: Path) -> None:
    whole = tmp_path / "whole.trace"
    blocks = [random_rows(seed, 30) for seed in (1, 2, 3)]
    trace = written(whole, *blocks)
    data, cut = whole.read_bytes(), tmp_path / "cut.trace"
    salvaged = set()
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        with pytest.raises(UsageError, match=r"cut short|no heap trace") as refused:
            open_trace(cut)
        if "--salvage" in refused.value.remedy:
            found = open_trace(cut, salvage=True)
            assert found.cut
            assert not found.ending
            assert len(list(found.read())) == found.blocks
            salvaged.add(found.blocks)
    assert salvaged == set(range(trace.blocks + 1))


def test_every_wrong_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "one.trace"
    written(path, random_rows(4, 20))
    data = bytearray(path.read_bytes())
    for at in range(len(data)):
        data[at] ^= 0x40
        path.write_bytes(data)
        with pytest.raises(UsageError):
            open_trace(path)
        data[at] ^= 0x40


def test_something_behind_the_end(tmp_path: Path) -> None:
    path = tmp_path / "more.trace"
    written(path, random_rows(4, 20))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UsageError, match="behind its end"):
        open_trace(path)


@pytest.mark.parametrize("seed", range(8))
def test_a_condensed_trace_compiles_to_the_same_program(tmp_path: Path, seed: int) -> None:
    rows = random_rows(seed)
    trace = written(tmp_path / "a.trace", rows[:150], rows[150:])
    write_condensed(trace, tmp_path / "b.trace")
    programs = [
        compile_trace(open_trace(tmp_path / name), PAGE, name="made")
        for name in ("a.trace", "b.trace")
    ]
    assert programs[0] == programs[1]


def test_what_a_program_looks_like(tmp_path: Path) -> None:
    """Runs, repeated hand-outs, purges; threads become one."""
    rows = [
        (Kind.MAP, BASE, 8 * PAGE, 7),
        (Kind.BLOCK_FRESH, BASE, 100, 7),
        (Kind.WRITE, BASE, PAGE, 7),
        (Kind.WRITE, BASE + PAGE, PAGE, 8),
        (Kind.FREE, BASE, 112, 7),
        *((Kind.BLOCK_REUSED, BASE, 112, 7) for _ in range(600)),
        (Kind.READ, BASE + 5 * PAGE, PAGE, 7),
        (Kind.PURGE, BASE, 2 * PAGE, 7),
        (Kind.BLOCK_FRESH, BASE, 64, 8),
    ]
    text = compile_trace(written(tmp_path / "a.trace", rows), PAGE, name="made").text()
    assert text.splitlines()[3:] == [
        f"map 0 {8 * PAGE}",
        "handout 0 0 100 fresh",
        f"touch 0 0 {2 * PAGE} write {PAGE}",
        f"touch 0 {5 * PAGE} {PAGE} read {PAGE}",
        f"handout 0 {PAGE} {PAGE} reused times=16",
        *("phase -", "measure peak", "phase replay"),
        f"advise 0 0 {2 * PAGE} dontneed",
        "handout 0 0 64 purged",
        *("phase -", "settle", "measure exit", "phase unmap", "unmap 0 0 0", "phase -"),
        "measure end",
    ]


def test_pages_of_another_size(tmp_path: Path) -> None:
    rows = [
        (Kind.MAP, BASE, 6 * PAGE, 1),
        *((Kind.WRITE, BASE + i * PAGE, PAGE, 1) for i in range(6)),
    ]
    text = compile_trace(written(tmp_path / "a.trace", rows), 4 * PAGE, name="made").text()
    assert f"map 0 {8 * PAGE}" in text
    assert f"touch 0 0 {8 * PAGE} write {4 * PAGE}" in text
