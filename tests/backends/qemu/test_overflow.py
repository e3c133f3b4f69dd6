"""Reference pages that count their mappings overflow; those that do not, do not.

A module presets the counts of the page behind a mapping, as if 2^31 others had it mapped already;
programs/overflow.c then maps, reads, stores, forks, discards and moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from refbench.grammar import Spec, resolve
from refbench.vm.guard import Finding
from refbench.vm.kernels import Kernel
from refbench_qemu.backend import QemuBackend, recipe_of
from refbench_qemu.channel import QemuChannel

COUNTS = ("refcount", "mapcount", "wrap")
SAFE = ("refpage", "refpage-mmap", "safe")
LARGEST = 2**31 - 1
MARGIN = 4
"""What the program leaves below the largest count."""
WRAPPED = -6
"""What it leaves of a count that 2^32 - 6 references have passed through zero."""


@dataclass(frozen=True)
class Outcome:
    """What the program said, and what the kernel did."""

    status: int
    said: Mapping[str, str]
    faults: tuple[Finding, ...]

    def count(self, when: str, which: str) -> int:
        return int(self.said[f"{when}.{which}"])


Overflow = Callable[[str, str], Outcome]


@pytest.fixture(scope="module")
def program(guest_program: Callable[[str], Path]) -> Path:
    return guest_program("overflow")


@pytest.fixture(scope="module")
def overflow(
    kernel: Callable[[str], Kernel], program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overflow]:
    """Runs the program in a guest of the kernel that has every mechanism, v1's too."""
    with running(kernel("v1"), program, tmp_path_factory.mktemp("overflow")) as run:
        yield run


@pytest.fixture
def doomed(kernel: Callable[[str], Kernel], program: Path, tmp_path: Path) -> Iterator[Overflow]:
    """As ``overflow``, in a guest that nothing runs in afterwards: its memory may be damaged."""
    with running(kernel("v1"), program, tmp_path) as run:
        yield run


@contextmanager
def running(kernel: Kernel, program: Path, folder: Path) -> Iterator[Overflow]:
    spec = Spec.parse("qemu:clock=real,module=refbench_overflow")
    options = resolve(spec, QemuBackend.options, what="target")
    channel = QemuChannel(recipe_of(kernel, options), folder, mark="")
    there = channel.put(program)

    def run(mechanism: str, count: str) -> Outcome:
        answer = channel.run([there, mechanism, count], deadline=60)
        assert not answer.deadline_passed
        assert answer.returncode != 2, answer.stderr
        said = dict(line.split("=", 1) for line in answer.stdout)
        return Outcome(answer.returncode, said, channel.faults)

    try:
        yield run
    finally:
        channel.close()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("mechanism", SAFE)
def test_no_count_moves(overflow: Overflow, mechanism: str, count: str) -> None:
    outcome = overflow(mechanism, count)
    assert outcome.status == 0, outcome.said
    assert outcome.faults == ()
    for which in ("refcount", "mapcount"):
        preset = outcome.count("preset", which)
        assert outcome.count("after", which) == preset
        assert outcome.count("exercised", which) == preset
    assert outcome.said["content"] == "right"
    assert outcome.said["child"] == "right"


@pytest.mark.parametrize("which", ["refcount", "mapcount"])
def test_the_naive_handler_overflows(doomed: Overflow, which: str) -> None:
    outcome = doomed("naive", which)
    assert outcome.status == 1
    assert outcome.count("preset", which) == LARGEST - MARGIN
    assert outcome.said["read"] == "16"
    assert outcome.count("after", which) == LARGEST - MARGIN + 16 - 2**32


def test_the_kernel_reports_a_mapcount_that_overflowed(doomed: Overflow) -> None:
    outcome = doomed("naive", "mapcount")
    assert [finding.rule for finding in outcome.faults] == ["bad page"]


def test_the_naive_page_is_freed_in_use(doomed: Overflow) -> None:
    outcome = doomed("naive", "wrap")
    assert outcome.status == 1
    assert outcome.count("preset", "refcount") == WRAPPED
    assert outcome.count("unmapped", "refcount") == 0
    assert outcome.said["freed_in_use"] == "yes"


def test_v1_overflows_its_mapcount(doomed: Overflow) -> None:
    outcome = doomed("v1", "mapcount")
    assert outcome.status == 1
    assert outcome.count("after", "mapcount") == LARGEST - MARGIN + 16 - 2**32
    assert "bad page" in [finding.rule for finding in outcome.faults]


def test_v1_dies_when_its_refcount_overflows(doomed: Overflow) -> None:
    """get_user_pages() refuses a page whose count is negative, and warns; the end is as ever."""
    outcome = doomed("v1", "refcount")
    assert outcome.status == 1
    assert outcome.count("after", "refcount") == LARGEST + 1 - 2**32
    assert int(outcome.said["read"]) < 16
    assert [finding.rule for finding in outcome.faults] == ["WARNING", "bad rss-counter"]
