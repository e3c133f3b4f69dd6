"""What ranges cost to compare that nobody could look at byte by byte; test_content.py does so."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from refbench_simulator.content import PATTERN, Contents, Places, Probe, Stamp, Wrong

KIB, GIB, TIB = 1 << 10, 1 << 30, 1 << 40
SMALL, START = 4096, 1 << 36
AA = np.full(SMALL, 0xAA, np.uint8)


def put(contents: Contents, *several: Stamp) -> int:
    ids = np.array([PATTERN], np.int32)
    for stamp in several:
        ids = contents.stamped(ids, stamp)
    return int(ids[0])


def large(stride: int, size: int, length: int, value: int = 0x55) -> Stamp:
    return Stamp(START, stride, -(-length // stride), size, START + length, value, None)


def wrong_in(length: int, stride: int, *several: Stamp) -> Wrong:
    contents = Contents(SMALL, AA.tobytes())
    content = put(contents, *several)
    probe = Probe(START, stride, START + length)
    return contents.mismatches(content, START // SMALL, length // SMALL, probe, AA)


def places(length: int, stride: int) -> int:
    return -(-length // stride)


LARGE: dict[str, tuple[int, int, tuple[Stamp, ...], int]] = {
    # name: length, stride of the check, stores, wrong bytes
    "nothing stored": (8 * TIB, 1, (), 0),
    "one byte a page": (64 * GIB, 1, (large(SMALL, 1, 64 * GIB),), 1 << 24),
    "one byte a page, seen": (64 * GIB, SMALL, (large(SMALL, 1, 64 * GIB),), 1 << 24),
    "every byte": (8 * TIB, 1, (large(1, 1, 8 * TIB),), 8 * TIB),
    "half of each page": (64 * GIB, 3, (large(SMALL, 2048, 48 * GIB),), 24 * GIB // 3),
    "no divisor of a page": (64 * GIB, 1, (large(4097, 1, 64 * GIB),), places(64 * GIB, 4097)),
    "a large odd one": (64 * GIB, 1, (large(1000003, 5, 64 * GIB),), 5 * places(64 * GIB, 1000003)),
    "a small and a large odd one": (
        GIB,
        1,
        (large(3, 1, GIB), large(1000003, 1, GIB, 0x66)),
        places(GIB, 3) + places(GIB, 1000003) - places(GIB, 3000009),
    ),
    "odd ones over one another": (
        GIB,
        7,
        (large(999, 1, GIB), large(4097, 4000, GIB, 0xAA)),
        -1,
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_large_ranges_cost_what_they_differ(name: str) -> None:
    length, stride, several, wrong = LARGE[name]
    if wrong < 0:
        where = np.arange(0, length, 999)
        wrong = int(((where % 7 == 0) & (where % 4097 >= 4000)).sum())
    tracemalloc.start()
    began = time.perf_counter()
    found = wrong_in(length, stride, *several)
    spent = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.errors == wrong
    if several and several[-1].value != 0xAA:
        assert found == (wrong, START, several[-1].value, 0xAA)
    assert peak < 64 << 20
    assert spent < 10


def test_a_million_chosen_places() -> None:
    """Rows of one page, as a random touch of a huge range makes them."""
    rng = np.random.default_rng(1)
    numbers = np.unique(rng.integers(0, 1 << 31, 1_000_000))
    places = Places(numbers)
    stamp = Stamp(START, SMALL, 1 << 31, 1, START + 8 * TIB, 0x55, places)
    contents = Contents(SMALL, AA.tobytes())
    content = put(contents, stamp)
    gaps = np.concatenate(([0], numbers + 1)), np.concatenate((numbers, [1 << 31]))
    ids = np.repeat(np.array([content, PATTERN]), (numbers.size, gaps[0].size))
    first = np.concatenate((numbers, gaps[0])) + START // SMALL
    pages = np.concatenate((np.ones(numbers.size, np.int64), gaps[1] - gaps[0]))
    began = time.perf_counter()
    found = contents.mismatches(ids, first, pages, Probe(START, 1, START + 8 * TIB), AA)
    assert time.perf_counter() - began < 10
    assert found == Wrong(numbers.size, START + int(numbers[0]) * SMALL, 0x55, 0xAA)


def test_folded_runs() -> None:
    """Every sixteenth page of 8 TiB, as one row of 2^27 copies."""
    length, period = 8 * TIB, 16
    contents = Contents(SMALL, AA.tobytes())
    content = put(contents, large(period * SMALL, 2, length))
    copies = length // SMALL // period
    first = START // SMALL
    for stride, wrong in ((1, 2 * copies), (SMALL, copies), (SMALL * 3, -(-copies // 3))):
        found = contents.mismatches(
            [content, PATTERN],
            [first, first + 1],
            [1, period - 1],
            Probe(START, stride, START + length),
            AA,
            copies=copies,
            period=period,
        )
        assert found == Wrong(wrong, START, 0x55, 0xAA)
