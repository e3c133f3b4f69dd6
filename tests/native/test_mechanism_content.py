"""What memory from each mechanism holds, and which addresses are whose."""

from __future__ import annotations

import random

import pytest
from tests.native.conftest import MIB, PAGE, Agent

from refbench.program import Expect, Fork, Map, Parallel, Repeat, Step, Threads, Unmap
from refbench.samples import Observation, Sample

PATTERN_MECHANISMS = [
    "memset",
    "memfd",
    "memfd:block=16",
    "memfd-full",
    "uffd",
    "uffd:atfork",
    "uffd:events=fork",
    "uffd-sigbus",
    "uffd-sigbus:atfork",
    "segv",
]
ALL = ["anon", *PATTERN_MECHANISMS]


def failed(sample: Sample) -> list[Observation]:
    """The observations that are not as they should be."""
    return [observation for observation in sample.observations if not observation.ok]


@pytest.mark.parametrize("mechanism", ALL)
def test_clean_pages_read_as_the_pattern_and_a_store_copies(agent: Agent, mechanism: str) -> None:
    size = 64 * PAGE
    sample = agent.sample(
        f"""refbench-program 1
        observe all
        map 0 {size}
        expect 0 0 {size // 2} pattern
        touch 0 {7 * PAGE} 1 write 1
        touch 0 {40 * PAGE + 9} 1 write 1
        expect 0 {7 * PAGE} 1 0x55
        expect 0 {7 * PAGE + 1} {33 * PAGE + 8} pattern
        expect 0 {40 * PAGE + 9} 1 0x55
        expect 0 {40 * PAGE + 10} {size - 40 * PAGE - 10} pattern
        unmap 0 0 0
        """,
        mechanism,
    )
    assert len(sample.observations) == 5
    assert not failed(sample)


@pytest.mark.parametrize("mechanism", ALL)
def test_populated_memory_is_right_and_present(agent: Agent, mechanism: str) -> None:
    sample = agent.sample(
        f"""refbench-program 1
        observe all
        map 0 {512 * PAGE} populate
        phase touch
        touch 0 0 {512 * PAGE} write {PAGE}
        phase -
        expect 0 1 {PAGE - 1} pattern
        expect 0 {511 * PAGE + 1} {PAGE - 1} pattern
        unmap 0 0 0
        """,
        mechanism,
    )
    assert not failed(sample)
    touch = sample.phases["touch"]
    assert touch.traps <= 4


@pytest.mark.parametrize(
    "mechanism", ["memset", "memfd", "memfd-full", "uffd", "uffd-sigbus", "uffd-sigbus:atfork"]
)
def test_threads_that_race_on_a_first_touch_see_the_pattern_only(
    agent: Agent, mechanism: str
) -> None:
    size = 256 * PAGE
    racing = (Threads(4, (Expect(0, 0, size, stride=127),)),)
    sample = agent.sample(
        [Repeat(8, (Map(0, size), Parallel(racing), Unmap(0)))],
        mechanism,
    )
    assert not failed(sample)


@pytest.mark.parametrize("mechanism", ["memset", "memfd", "memfd-full", "uffd:atfork"])
def test_children_and_grandchildren_see_the_pattern(agent: Agent, mechanism: str) -> None:
    generations(agent, mechanism, ok=True)


@pytest.mark.parametrize("mechanism", ["uffd:events=fork", "uffd-sigbus:atfork", "segv"])
def test_handlers_go_on_in_children_and_grandchildren(agent: Agent, mechanism: str) -> None:
    generations(agent, mechanism, ok=True)


@pytest.mark.parametrize("mechanism", ["uffd", "uffd-sigbus"])
def test_children_lose_the_pattern_without_help(agent: Agent, mechanism: str) -> None:
    generations(agent, mechanism, ok=False)


def generations(agent: Agent, mechanism: str, *, ok: bool) -> None:
    """A child and a grandchild read pages that nobody touched before, then map their own."""
    size = 64 * PAGE

    def own(region: int) -> tuple[Step, ...]:
        return Map(region, size), Expect(region, 0, size), Unmap(region)

    grandchild = Fork((Expect(0, 0, size // 4), *own(1)))
    child = Fork((grandchild, Expect(0, size // 4, size // 4), *own(2)), (Expect(0, 0, size),))
    sample = agent.sample([Map(0, size), child, *own(3), Unmap(0)], mechanism)
    inherited = [o for o in sample.observations if o.step == "expect"]
    assert len(inherited) == 6
    by_line = sorted(inherited, key=lambda o: o.line)
    assert [o.ok for o in by_line] == [ok, True, ok, True, True, True]
    if not ok:
        assert by_line[0].got == 0
        assert by_line[0].errors == size // 4


@pytest.mark.parametrize("mechanism", ["memfd", "memfd-full", "uffd", "uffd-sigbus"])
def test_dropped_pages_come_back_with_the_pattern(agent: Agent, mechanism: str) -> None:
    sample = agent.sample(
        f"""refbench-program 1
        observe all
        map 0 {16 * PAGE}
        touch 0 0 {16 * PAGE} write {PAGE}
        advise 0 0 {8 * PAGE} dontneed
        expect 0 0 {8 * PAGE} pattern
        expect 0 {8 * PAGE} 1 0x55
        unmap 0 0 0
        """,
        mechanism,
    )
    assert not failed(sample)


def test_more_children_than_the_handler_thread_serves_at_a_time(agent: Agent) -> None:
    sample = agent.sample(
        f"""refbench-program 1
        observe all
        map 0 {2 * PAGE}
        repeat 1100
          fork
          parent
          end
        end
        fork
          expect 0 0 {2 * PAGE} pattern
        parent
          expect 0 0 {2 * PAGE} pattern
        end
        unmap 0 0 0
        """,
        "uffd:events=fork",
    )
    assert [o.ok for o in sample.observations] == [True, True]


def test_a_fork_while_other_threads_fault_ends(agent: Agent) -> None:
    """A fork waits for its event to be read; the reader must not wait for the fork."""
    size = 512 * PAGE
    faulting = Threads(3, (Expect(0, 0, size, stride=PAGE),))
    mapping = Threads(1, (Map(1, PAGE), Expect(1, 0, PAGE), Unmap(1)), loop=True)
    children = Fork((Parallel((faulting,)),), (Parallel((faulting, mapping)),))
    sample = agent.sample([Repeat(10, (Map(0, size), children, Unmap(0)))], "uffd:events=fork")
    assert not failed(sample)


# Which addresses are whose.


@pytest.mark.parametrize("mechanism", ["uffd", "uffd:atfork", "uffd-sigbus", "segv", "memfd"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_partial_unmapping_leaves_still_works(agent: Agent, mechanism: str, seed: int) -> None:
    pages, regions = 48, 3
    choice = random.Random(seed)
    mapped = {(region, page) for region in range(regions) for page in range(pages)}
    steps: list[Step] = [Map(region, pages * PAGE) for region in range(regions)]
    for _ in range(24):
        region, first = choice.randrange(regions), choice.randrange(pages)
        count = choice.randint(1, min(6, pages - first))
        steps.append(Unmap(region, first * PAGE, count * PAGE))
        mapped -= {(region, page) for page in range(first, first + count)}
    look = tuple(
        Expect(region, page * PAGE, PAGE) for region in range(regions) for page in range(pages)
    )
    sample = agent.sample([*steps, *look], mechanism)
    answers = [o.ok for o in sample.observations if o.step == "expect"]
    assert answers == [(o.region, o.offset // PAGE) in mapped for o in look]


@pytest.mark.parametrize("mechanism", ["uffd-sigbus", "segv"])
def test_faults_elsewhere_go_to_the_handler_that_was_there_before(
    agent: Agent, mechanism: str
) -> None:
    sample = agent.sample(
        f"""refbench-program 1
        observe all
        map 0 {4 * PAGE}
        unmap 0 {2 * PAGE} {PAGE}
        touch 0 {2 * PAGE} 1 read 1
        expect 0 {3 * PAGE} {PAGE} pattern
        map-anonymous 1 {PAGE} 0
        protect 1 0 {PAGE} none
        touch 1 0 1 write 1
        protect 1 0 {PAGE} readwrite
        expect 1 0 {PAGE} zero
        unmap 0 0 0
        unmap 1 0 0
        """,
        mechanism,
    )
    seen = [(o.step, o.ok) for o in sample.observations]
    assert seen == [
        ("touch", False),
        ("expect", True),
        ("map-anonymous", True),
        ("protect", True),
        ("touch", False),
        ("protect", True),
        ("expect", True),
    ]


@pytest.mark.parametrize("mechanism", ALL)
def test_mapping_and_unmapping_again_and_again_leaves_nothing_behind(
    agent: Agent, mechanism: str
) -> None:
    program = f"""refbench-program 1
        repeat 300
        map 0 {8 * PAGE}
        touch 0 0 {8 * PAGE} write {PAGE}
        unmap 0 0 0
        end
        measure end
        """
    memory = agent.sample(program, mechanism).memory
    assert memory["end"].vmas <= memory["start"].vmas + 8
    assert memory["end"].rss <= memory["start"].rss + MIB
    assert memory["end"].held <= 64 * PAGE


@pytest.mark.parametrize("mechanism", ["memfd", "memfd:block=16", "memfd-full"])
def test_the_memfd_cannot_be_changed(agent: Agent, mechanism: str) -> None:
    sample = agent.sample(
        f"""refbench-program 1
        observe all
        map 0 {64 * PAGE}
        reference write
        reference truncate
        reference unmap
        expect 0 0 {64 * PAGE} pattern
        unmap 0 0 0
        map 0 {64 * PAGE}
        expect 0 0 {64 * PAGE} pattern
        unmap 0 0 0
        """,
        mechanism,
    )
    assert [o.ok for o in sample.observations] == [False, False, True, True, True]
    assert {o.errno for o in sample.observations[:2]} == {1}  # EPERM
