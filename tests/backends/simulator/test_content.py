from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refbench_simulator import comparing
from refbench_simulator.content import PATTERN, ZERO, Contents, Places, Probe, Stamp, Wrong

PAGE = 64
"""Bytes of a page in the property tests: nothing here depends on its being a real size."""
FIRST = 1000
"""Number of the first page."""
PAGES = 8
BASE = FIRST * PAGE
END = BASE + PAGES * PAGE
IMAGE = bytes((7 * i + 3) % 256 for i in range(PAGE))


def touch(
    offset: int = 0,
    length: int = PAGES * PAGE,
    stride: int = PAGE,
    size: int = 1,
    value: int = 0x55,
    places: tuple[int, ...] | None = None,
) -> Stamp:
    """A touch of the test's pages; offsets are from the first of them."""
    chosen = None if places is None else Places(np.array(places, np.int64))
    count = -(-length // stride)
    return Stamp(BASE + offset, stride, count, size, BASE + offset + length, value, chosen)


@st.composite
def stamps(draw: st.DrawFn) -> Stamp:
    offset = draw(st.integers(-PAGE, PAGES * PAGE - 1))
    length = draw(st.integers(1, PAGES * PAGE))
    stride = draw(st.sampled_from((1, 2, 3, 8, 24, 63, 64, 65, 100, 128, 192, 1 << 40)))
    size = draw(st.integers(1, min(stride, 200)))
    count = -(-length // stride)
    chosen = draw(st.none() | st.sets(st.integers(0, count - 1), max_size=12))
    value = draw(st.sampled_from((0, 0x55, 0x66, IMAGE[5])))
    return touch(offset, length, stride, size, value, None if chosen is None else tuple(chosen))


class Bytes:
    """What :class:`Contents` stands for: the bytes themselves."""

    def __init__(self, page: bytes) -> None:
        self.memory = bytearray(page * (PAGES + 2))

    def store(self, stamp: Stamp) -> None:
        numbers = stamp.places.numbers.tolist() if stamp.places else range(stamp.count)
        if stamp.places is not None and not len(stamp.places):
            return
        for place in numbers:
            low = stamp.start + place * stamp.stride
            for at in range(low, min(low + stamp.size, stamp.end)):
                if BASE - PAGE <= at < END + PAGE:
                    self.memory[at - BASE + PAGE] = stamp.value

    def at(self, address: int) -> int:
        return self.memory[address - BASE + PAGE]


def put(contents: Contents, content: int, *several: Stamp) -> int:
    for stamp in several:
        content = int(contents.stamped(np.array([content], np.int32), stamp)[0])
    return content


BASES = (bytes(PAGE), IMAGE)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from((ZERO, PATTERN)), st.lists(stamps(), max_size=7))
def test_a_content_is_its_base_with_the_stores_in_their_order(
    base: int, several: list[Stamp]
) -> None:
    contents = Contents(PAGE, IMAGE)
    memory = Bytes(BASES[base])
    for stamp in several:
        memory.store(stamp)
    where = np.arange(BASE, END, dtype=np.int64)
    found = contents.read(put(contents, base, *several), where)
    assert found.tobytes() == bytes(memory.memory[PAGE:-PAGE])


def test_the_same_history_has_the_same_number() -> None:
    contents = Contents(PAGE, IMAGE)
    one, other = touch(size=2), touch(8, size=2, value=7)
    ids = np.array([[ZERO, PATTERN, ZERO], [PATTERN, PATTERN, ZERO]], np.int32)
    first = contents.stamped(contents.stamped(ids, one), other)
    assert first.dtype == np.int32
    assert np.array_equal(first == first[0, 0], ids == ZERO)
    assert np.array_equal(first, contents.stamped(contents.stamped(ids, touch(size=2)), other))
    assert not np.array_equal(first, contents.stamped(ids, one))
    assert contents.stamped(ids[:0], one).size == 0


@pytest.mark.parametrize("several", [3, 40, 5000])
def test_few_and_many_are_stamped_alike(several: int) -> None:
    contents = Contents(PAGE, IMAGE)
    for value in range(100):
        put(contents, ZERO, touch(value=value), touch(9, value=value))
    rng = np.random.default_rng(several)
    ids = rng.integers(0, len(contents), several).astype(np.int32)
    expected = [put(contents, one, touch(20, size=3)) for one in ids.tolist()]
    assert contents.stamped(ids, touch(20, size=3)).tolist() == expected


def test_what_is_hidden_is_forgotten() -> None:
    contents = Contents(PAGE, IMAGE)
    assert put(contents, ZERO, touch(value=1), touch(value=2)) == put(
        contents, ZERO, touch(value=2)
    )
    half = touch(length=PAGES * PAGE // 2, size=4, value=1)
    whole = touch(size=8, value=2)
    assert put(contents, ZERO, half, whole) == put(contents, ZERO, whole)
    assert put(contents, ZERO, whole, half) != put(contents, ZERO, half)
    chosen = touch(stride=8, size=4, value=1, places=(3, 5, 9))
    assert put(contents, ZERO, chosen, touch(stride=8, size=4)) == put(
        contents, ZERO, touch(stride=8, size=4)
    )
    solid = touch(stride=PAGES * PAGE, size=PAGES * PAGE)
    assert put(contents, ZERO, half, whole, chosen, solid) == put(contents, ZERO, solid)
    # However it is spelt, what leaves no gap is the same.
    assert put(contents, ZERO, touch(stride=4, size=4)) == put(contents, ZERO, solid)


def test_what_stores_nothing_changes_nothing() -> None:
    contents = Contents(PAGE, IMAGE)
    nothing = (touch(places=()), touch(length=0), Stamp(BASE, 64, 0, 1, BASE + 64, 1, None))
    for stamp in nothing:
        assert put(contents, PATTERN, stamp) == PATTERN


GROWTH: dict[str, Callable[[int], list[Stamp]]] = {
    "one touch": lambda _: [touch()],
    "alternating values": lambda i: [touch(value=i % 2)],
    "two apart": lambda i: [touch(value=i % 3), touch(8, value=i % 2)],
    "two that overlap": lambda _: [touch(size=9, value=1), touch(8, size=9, value=2)],
    "threads' shares": lambda i: [
        touch(t * 8, PAGES * PAGE - t * 8, 32, 8, value=1 + i % 2) for t in range(4)
    ],
    "chosen places": lambda i: [
        touch(stride=8, size=8, places=(1, 2, 3), value=i % 2),
        touch(stride=8, size=8, places=(3, 9), value=7),
        touch(stride=8, size=8, places=(11, 12), value=8),
    ],
    "the kernel between": lambda _: [
        touch(size=8),
        touch(100, 50, 50, 50, value=2),
        touch(0, 4, 4, 4, value=3),
    ],
    "there and back": lambda i: [touch().moved((i % 2) * PAGE * 100), touch(4, value=i % 2)],
}


@pytest.mark.parametrize("what", GROWTH)
def test_a_program_that_repeats_itself_makes_no_new_contents(what: str) -> None:
    contents = Contents(PAGE, IMAGE)
    content, sizes = PATTERN, []
    for i in range(10_000):
        content = put(contents, content, *GROWTH[what](i))
        sizes.append(len(contents))
    assert sizes[-1] == sizes[20], what
    assert sizes[-1] < 40


@settings(max_examples=200, deadline=None)
@given(st.lists(stamps(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_block_of_stores_that_is_repeated_comes_to_rest(
    several: list[Stamp], rng: random.Random
) -> None:
    block = [rng.choice(several) for _ in range(12)]
    contents = Contents(PAGE, IMAGE)
    content = PATTERN
    for _ in range(8):
        content = put(contents, content, *block)
    rested = len(contents)
    for _ in range(20):
        content = put(contents, content, *block)
    assert len(contents) == rested
    assert rested < 8 * len(block) + 2


def test_moved_pages_keep_their_bytes() -> None:
    contents = Contents(PAGE, IMAGE)
    content = put(contents, PATTERN, touch(3, stride=100, size=5), touch(stride=24, value=9))
    where = np.arange(BASE, END, dtype=np.int64)
    by = 5000 * PAGE
    moved = contents.moved(np.array([content, ZERO], np.int32), by)
    assert moved[1] == ZERO
    assert np.array_equal(contents.read(int(moved[0]), where + by), contents.read(content, where))
    assert contents.moved(moved, -by).tolist() == [content, ZERO]


def test_other_pages_have_numbers_of_their_own() -> None:
    contents = Contents(PAGE, IMAGE)
    changed = contents.image(b"!" + IMAGE[1:])
    assert changed == contents.image(b"!" + IMAGE[1:])
    assert changed not in (ZERO, PATTERN)
    where = np.arange(BASE, END, dtype=np.int64)
    assert contents.read(changed, where).tobytes() == (b"!" + IMAGE[1:]) * PAGES
    stamped = put(contents, changed, touch(1, value=8))
    assert contents.read(stamped, where[:3]).tolist() == [ord("!"), 8, IMAGE[2]]
    with pytest.raises(ValueError, match="a pattern of 3 bytes"):
        Contents(PAGE, b"abc")


# -- comparing ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    content: int
    first: int
    pages: int
    copies: int = 1
    period: int = 0

    def addresses(self) -> list[int]:
        firsts = [self.first + copy * self.period for copy in range(self.copies)]
        return [a for first in firsts for a in range(first * PAGE, (first + self.pages) * PAGE)]


def compare_all(contents: Contents, runs: list[Run], probe: Probe, wanted: bytes) -> Wrong:
    """As check.c counts: every probe of every run, by ascending address."""
    owner = {address: run.content for run in runs for address in run.addresses()}
    errors, first = 0, Wrong(0)
    for address in range(probe.start, probe.end, probe.stride):
        if address not in owner:
            continue
        got = int(contents.read(owner[address], np.array([address]))[0])
        if got != wanted[address % PAGE]:
            first = first if errors else Wrong(0, address, got, wanted[address % PAGE])
            errors += 1
    return first._replace(errors=errors)


def compare(contents: Contents, runs: list[Run], probe: Probe, wanted: bytes) -> Wrong:
    columns = [[getattr(run, name) for run in runs] for name in ("content", "first", "pages")]
    copies, period = ([getattr(run, name) for run in runs] for name in ("copies", "period"))
    page = np.frombuffer(wanted, np.uint8)
    return contents.mismatches(
        columns[0], columns[1], columns[2], probe, page, copies=copies, period=period
    )


@st.composite
def layouts(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Runs as (first page, pages, copies, period); no page is in two."""
    found, at = [], FIRST
    for _ in range(draw(st.integers(1, 3))):
        at += draw(st.integers(0, 2))
        pages = draw(st.integers(1, 4))
        copies = draw(st.integers(1, 4))
        period = pages + draw(st.integers(0, 3)) if copies > 1 else 0
        found.append((at, pages, copies, period))
        at += pages + (copies - 1) * period
    return found


@st.composite
def probes(draw: st.DrawFn) -> Probe:
    start = BASE + draw(st.integers(-PAGE, PAGES * PAGE))
    stride = draw(st.sampled_from((1, 1, 2, 3, 7, 16, 63, 64, 65, 256, 1 << 50)))
    return Probe(start, stride, start + draw(st.integers(0, 2 * PAGES * PAGE)))


@pytest.mark.parametrize("most", [comparing.MOST_BORDERS, 24, 1])
def test_wrong_bytes_are_counted_as_one_by_one(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only few borders are worked out at a time, as for the largest ranges."""
    monkeypatch.setattr(comparing, "MOST_BORDERS", most)

    @settings(max_examples=250, deadline=None)
    @given(
        layouts(),
        st.lists(st.lists(stamps(), max_size=4), min_size=3, max_size=3),
        st.lists(st.sampled_from((ZERO, PATTERN)), min_size=3, max_size=3),
        probes(),
        st.sampled_from((IMAGE, bytes(PAGE), b"\x55" * PAGE)),
    )
    @example(
        [(FIRST, 4, 4, 5)], [[touch(stride=65, size=60)]] * 3, [1, 1, 1], Probe(BASE, 3, END), IMAGE
    )
    def check(
        layout: list[tuple[int, int, int, int]],
        stores: list[list[Stamp]],
        bases: list[int],
        probe: Probe,
        wanted: bytes,
    ) -> None:
        assume(probe.start >= 0)
        contents = Contents(PAGE, IMAGE)
        runs = [
            Run(put(contents, base, *several), *where)
            for where, several, base in zip(layout, stores, bases, strict=False)
        ]
        assert compare(contents, runs, probe, wanted) == compare_all(contents, runs, probe, wanted)

    check()


def test_no_runs_at_all() -> None:
    nothing: NDArray[np.int64] = np.zeros(0, np.int64)
    contents = Contents(PAGE, IMAGE)
    page = np.zeros(PAGE, np.uint8)
    assert contents.mismatches(nothing, 0, 1, Probe(0, 1, 10), page) == Wrong(0)
    assert contents.mismatches(PATTERN, 0, 1, Probe(10, 1, 10), page) == Wrong(0)
