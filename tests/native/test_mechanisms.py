"""The mechanisms, each in an agent process of its own."""

from __future__ import annotations

import mmap
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from refbench.agent import build_agent
from refbench.backend import Answer
from refbench.cache import Cache
from refbench.errors import UsageError
from refbench.grammar import Spec
from refbench.mechanisms import MECHANISMS
from refbench.program import Expect, Fork, Map, Parallel, Program, Repeat, Step, Threads, Unmap
from refbench.protocol import Report, parse
from refbench.samples import Failure, Observation, Sample

PAGE = mmap.PAGESIZE
MIB = 1 << 20
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


@dataclass(frozen=True)
class Agent:
    """Runs programs and gives back what the agent said."""

    path: Path
    folder: Path
    prefix: Sequence[str] = ()

    def __call__(
        self, program: str | Sequence[Step], mechanism: str, *, iterations: int = 1
    ) -> Report:
        """The report; the test is skipped where the mechanism needs what is not allowed here."""
        if not isinstance(program, str):
            program = Program("test", tuple(program), observe_all=True).text()
        file = self.folder / "test.program"
        file.write_text(program)
        argv = [*self.prefix, str(self.path), "--program", str(file), "--mechanism", mechanism]
        argv += ["--pattern", "byte:0xAA", "--iterations", str(iterations), "--thp", "off"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=100)
        lines = tuple(done.stdout.splitlines())
        return parse(Answer(lines, returncode=done.returncode, stderr=(done.stderr,)))

    def sample(self, program: str | Sequence[Step], mechanism: str) -> Sample:
        """The last sample of a run that ended well."""
        report = self(program, mechanism)
        if report.failure and report.failure.kind == "unsupported":
            pytest.skip(report.failure.message)
        assert report.failure is None, report.failure
        return report.samples[-1]

    def failure(self, program: str | Sequence[Step], mechanism: str) -> Failure:
        """The failure of a run that did not."""
        failure = self(program, mechanism).failure
        assert failure is not None
        return failure


@pytest.fixture(scope="module")
def binary(cache: Path) -> Path:
    """The agent with our own mechanisms."""
    return build_agent(cache=Cache(cache), mechanisms=MECHANISMS).path


@pytest.fixture
def agent(binary: Path, tmp_path: Path) -> Agent:
    """The agent as whoever runs the tests."""
    return Agent(binary, tmp_path)


@pytest.fixture
def user_agent(binary: Path, user_folder: Path, user_prefix: Sequence[str]) -> Agent:
    """The agent as an ordinary user."""
    path = Path(shutil.copy(binary, user_folder))
    path.chmod(0o755)
    return Agent(path, user_folder, user_prefix)


def touching(size: int, access: str, stride: int) -> str:
    """Map, touch, unmap, each in a phase of its own."""
    return f"""refbench-program 1
        phase map
        map 0 {size}
        phase -
        phase touch
        touch 0 0 {size} {access} {stride}
        phase -
        measure touch
        expect 0 1 {size - 1} pattern stride={stride} once
        unmap 0 0 0
    """


def failed(sample: Sample) -> list[Observation]:
    """The observations that are not as they should be."""
    return [observation for observation in sample.observations if not observation.ok]


# What a first touch costs. Sizes and counts as in the table that the mechanisms are known by.

PAGES = 4096
TOUCHED = PAGES // 16


@pytest.mark.parametrize(
    ("mechanism", "map_faults", "faults", "rounds"),
    [
        ("anon", 0, TOUCHED, 0),
        ("memset", PAGES, 0, 0),
        ("memfd", 0, TOUCHED, 0),
        ("memfd:block=16", 0, TOUCHED, 0),
        ("memfd-full", 0, TOUCHED, 0),
        ("uffd", 0, TOUCHED, TOUCHED),
        ("uffd:events=fork", 0, TOUCHED, TOUCHED),
        ("uffd-sigbus", 0, 0, TOUCHED),
        ("segv", 0, TOUCHED, TOUCHED),
    ],
)
def test_sparse_stores_cost_what_they_are_known_to_cost(
    agent: Agent, mechanism: str, map_faults: int, faults: int, rounds: int
) -> None:
    sample = agent.sample(touching(PAGES * PAGE, "write", 16 * PAGE), mechanism)
    mapping, touch = sample.phases["map"], sample.phases["touch"]
    # A few faults more where the kernel needs a fresh page of something for itself.
    assert map_faults <= mapping.faults <= map_faults + 4
    assert faults <= touch.faults <= faults + 4
    assert touch.sigbus + touch.sigsegv + touch.uffd_messages == rounds
    present = PAGES if mechanism == "memset" else TOUCHED
    growth = sample.memory["touch"].rss - sample.memory["start"].rss
    assert present * PAGE <= growth <= present * PAGE + 256 * 1024


@pytest.mark.parametrize(
    ("mechanism", "least", "most", "shown"),
    [
        ("anon", PAGES, PAGES, 0),
        ("memfd", PAGES, PAGES, PAGES),
        ("memfd:block=16", PAGES // 16, PAGES, PAGES),
        ("memfd-full", 1, PAGES, PAGES),
        ("uffd", PAGES, PAGES, PAGES),
        ("uffd-sigbus", 0, 0, PAGES),
        ("segv", PAGES, PAGES, PAGES),
    ],
)
def test_dense_reads_cost_what_they_are_known_to_cost(
    agent: Agent, mechanism: str, least: int, most: int, shown: int
) -> None:
    sample = agent.sample(touching(PAGES * PAGE, "read", PAGE), mechanism)
    touch = sample.phases["touch"]
    assert least <= touch.faults <= most + 4
    growth = sample.memory["touch"].rss - sample.memory["start"].rss
    assert shown * PAGE <= growth <= shown * PAGE + 256 * 1024


@pytest.mark.parametrize(
    ("mechanism", "of_map", "of_touch"),
    [
        ("anon", 1, 0),
        ("memset", 1, 0),
        ("memfd", PAGES, 0),
        ("memfd:reserve", 1 + PAGES, 0),
        ("memfd:block=16", PAGES // 16, 0),
        ("memfd:block=4096", 1, 0),
        ("uffd", 2, 3 * TOUCHED),
        ("uffd-sigbus", 2, TOUCHED),
        ("segv", 1, TOUCHED),
    ],
)
def test_system_calls_are_counted(agent: Agent, mechanism: str, of_map: int, of_touch: int) -> None:
    sample = agent.sample(touching(PAGES * PAGE, "write", 16 * PAGE), mechanism)
    assert sample.phases["map"].syscalls == of_map
    assert sample.phases["touch"].syscalls == of_touch


def test_vmas_and_held_bytes_tell_the_two_memfds_apart(agent: Agent) -> None:
    program = touching(PAGES * PAGE, "write", 16 * PAGE)
    small = agent.sample(program, "memfd").memory["touch"]
    full = agent.sample(program, "memfd-full").memory["touch"]
    assert small.held == PAGE
    assert full.held == PAGES * PAGE
    assert small.vmas - full.vmas == PAGES - 1


def test_a_full_memfd_is_held_until_its_last_part_is_unmapped(agent: Agent) -> None:
    sample = agent.sample(
        f"""refbench-program 1
        map 0 {64 * PAGE}
        map 1 {16 * PAGE}
        measure both
        unmap 0 {16 * PAGE} {16 * PAGE}
        unmap 1 0 0
        measure holed
        unmap 0 0 {16 * PAGE}
        unmap 0 {32 * PAGE} 0
        measure none
        """,
        "memfd-full",
    )
    assert sample.memory["both"].held == 80 * PAGE
    assert sample.memory["holed"].held == 64 * PAGE
    assert sample.memory["none"].held == 0


# Content.


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


# Limits, and what does not work here.


def test_one_page_blocks_over_512_mib_hit_the_limit(agent: Agent) -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    wanted = (512 * MIB) // PAGE
    if wanted < most:
        pytest.skip(f"vm.max_map_count is {most}")
    failure = agent.failure(touching(512 * MIB, "write", MIB), "memfd:block=1")
    assert failure.kind == "limit-hit"
    assert (failure.wanted, failure.limit) == (wanted, most)
    assert "max_map_count" in failure.message
    block = 1
    while wanted // block >= most:
        block *= 2
    assert f"block={block}" in failure.remedy
    agent.sample(touching(512 * MIB, "write", MIB), f"memfd:block={block}")


def test_the_limit_is_also_hit_when_the_mappings_before_it_took_the_room(agent: Agent) -> None:
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    part = most // 5 * 3
    failure = agent.failure(
        f"refbench-program 1\nmap 0 {part * PAGE}\nmap 1 {part * PAGE}\n", "memfd:block=1"
    )
    assert (failure.kind, failure.wanted, failure.limit) == ("limit-hit", part, most)
    assert "block=2" in failure.remedy


@pytest.mark.parametrize("mechanism", ["anon", "memset", "uffd", "uffd-sigbus"])
def test_a_region_larger_than_memory_hits_a_limit(agent: Agent, mechanism: str) -> None:
    report = agent(touching(1 << 44, "write", 1 << 30), mechanism)
    assert report.failure is not None
    if report.failure.kind == "unsupported":
        pytest.skip(report.failure.message)
    assert report.failure.kind == "limit-hit"
    assert report.failure.wanted == 1 << 44
    assert 0 < report.failure.limit < 1 << 44


def test_an_ordinary_user_gets_userfaults_of_user_code(user_agent: Agent) -> None:
    setting = Path("/proc/sys/vm/unprivileged_userfaultfd")
    if not setting.exists() or setting.read_text().strip() != "0":
        pytest.skip("every user may use the whole userfaultfd here")
    for mechanism in ("uffd", "uffd-sigbus"):
        report = user_agent(touching(64 * PAGE, "write", PAGE), mechanism)
        assert report.failure is None
        assert report.agent.facts["uffd"] == "user-mode-only"
    failure = user_agent.failure(touching(64 * PAGE, "write", PAGE), "uffd:events=fork")
    assert failure.kind == "unsupported"
    assert "CAP_SYS_PTRACE" in failure.message
    assert "atfork" in failure.remedy


def test_root_gets_the_whole_userfaultfd(agent: Agent, as_root: None) -> None:
    assert agent(touching(64 * PAGE, "write", PAGE), "uffd").agent.facts["uffd"] == "full"


def test_ksm_that_is_off_says_how_to_switch_it_on(agent: Agent) -> None:
    if Path("/sys/kernel/mm/ksm/run").read_text().strip() == "1":
        pytest.skip("samepage merging is on")
    failure = agent.failure(touching(64 * PAGE, "write", PAGE), "ksm")
    assert failure.kind == "unsupported"
    assert "echo 1 > /sys/kernel/mm/ksm/run" in failure.remedy


def test_huge_pages_that_are_not_there_are_named(agent: Agent) -> None:
    pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if pool.exists() and pool.read_text().strip() != "0":
        pytest.skip("there are free huge pages")
    failure = agent.failure(touching(4 * MIB, "write", PAGE), "memfd:huge=2MiB")
    assert failure.kind == "unsupported"
    assert "2048" in failure.message
    assert "hugepages" in failure.remedy or "huge=0" in failure.remedy


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        ("memfd:block=0", "block"),
        ("memfd:block=many", "block=many"),
        ("memfd:block=99999999999999999999", "too large"),
        ("memfd:huge=3MiB", "huge"),
        ("uffd:events=exec", "events=exec"),
        ("uffd:atfork=perhaps", "atfork=perhaps"),
        ("uffd:events=fork,atfork=yes", "served"),
        ("uffd-sigbus:events=fork", "no thread"),
    ],
)
def test_the_library_checks_its_options_itself(agent: Agent, mechanism: str, message: str) -> None:
    failure = agent.failure(touching(PAGE, "write", PAGE), mechanism)
    assert failure.kind == "usage"
    assert message in failure.message
    assert failure.remedy


# The declarations.


def test_every_declaration_has_its_sources() -> None:
    names = [mechanism.name for mechanism in MECHANISMS]
    assert sorted(names) == sorted(set(names))
    for mechanism in MECHANISMS:
        assert mechanism.sources
        for source in mechanism.sources:
            assert source.is_file()


def test_no_source_is_left_out() -> None:
    folder = MECHANISMS[0].sources[0].parent
    declared = {source for mechanism in MECHANISMS for source in mechanism.sources}
    assert declared == set(folder.glob("*.c"))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("memfd:block=1", "memfd"),
        ("memfd:block=0x10,huge=0", "memfd:block=16"),
        ("memfd:huge=2048k", "memfd:huge=2MiB"),
        ("uffd:atfork", "uffd:atfork=yes"),
        ("uffd:events=none,atfork=no", "uffd"),
    ],
)
def test_options_have_one_spelling(text: str, canonical: str) -> None:
    known = {mechanism.name: mechanism for mechanism in MECHANISMS}
    spec = Spec.parse(text)
    assert str(known[spec.name].canonical(spec)) == canonical


@pytest.mark.parametrize(
    "text", ["memfd:block=0", "memfd:huge=1GiB", "uffd:events=exit", "anon:x=1", "segv:fill=page"]
)
def test_wrong_options_are_refused(text: str) -> None:
    known = {mechanism.name: mechanism for mechanism in MECHANISMS}
    spec = Spec.parse(text)
    with pytest.raises(UsageError) as caught:
        known[spec.name].canonical(spec)
    assert caught.value.remedy
