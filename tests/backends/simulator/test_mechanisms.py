"""The models of samepage merging and of reference pages: counts here, and where none can be had."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from refbench.backend import Session
from refbench.grammar import Spec, resolve
from refbench.plan import AHEAD_OF_KERNELS, BENCH_MECHANISMS, Request, make_plan
from refbench.plugins import registry
from refbench.program import parse
from refbench.samples import Sample
from refbench.words import Cell, Pattern
from refbench_simulator.mechanisms import MODELS
from refbench_simulator.model.ksm import SHARING

PAGE = 4096
TRIES = 8
MOST_OF_A_COUNT = (1 << 31) - 1
OWN = ("rss_anon", "rss_shmem", "ksm", "vmas", "pte")
"""Fields of a snapshot that grow by the program's memory alone, in any process."""
NO_SHARES = ("inchild", "childwrote", "childsettled", "parentunmapped", "holed", "half")
"""Labels of snapshots whose PSS and USS are not to be compared: with two processes, the agent's own
pages have another share; with a part unmapped, it depends on where the scan began which KSM page
has how many entries left."""


def stores(pages: int, stride: int = PAGE) -> str:
    """A store into each page that makes it like no other: ksmd, which scans all the while, cannot
    merge what was copied before it is measured."""
    return "".join(f"touch 0 {i * stride} 1 write 1 value={8 + i}\n" for i in range(pages))


MERGING = {
    "alone": "map 0 4096\nsettle\nmeasure m\n",
    "pair": "map 0 8192\nsettle\nmeasure m\ntouch 0 0 1 write 1\nmeasure n\n",
    "257": "map 0 1052672\nsettle\nmeasure m\ntouch 0 4096 1 write 1\nmeasure n\n",
    "513": "map 0 2101248\nsettle\nmeasure m\n",
    "read": "map 0 2457600\nsettle\ntouch 0 0 2457600 read 4096\nmeasure m\n",
    "later": "map 0 409600\nsettle\nmeasure m\nmap 1 1638400\nsettle\nmeasure n\n",
    "contents": (
        "map 0 2097152\ntouch 0 0 1048576 write 4096 value=7\ntouch 0 0 524288 write 2048\n"
        "settle\nmeasure m\nexpect 0 524288 524288 7 stride=4096\nmeasure n\n"
    ),
    "different": "map 0 1048576\ntouch 0 0 1048576 write 4100\nsettle\nmeasure m\n",
    "parts": (
        "map 0 2097152\nsettle\nprotect 0 0 524288 read\nadvise 0 524288 524288 dontneed\n"
        "measure holed\nunmap 0 1048576 524288\nsettle\nmeasure half\n"
    ),
    "unmerged": (
        "map 0 2097152\nsettle\nphase p\nadvise 0 0 524288 unmergeable\nphase -\nmeasure m\n"
        "phase q\ntouch 0 0 524288 write 4096\nphase -\nsettle\nmeasure n\n"
    ),
    "fork": (
        "map 0 2097152\nmap 1 1048576\ntouch 1 0 1048576 write 4096 value=7\nsettle\nmeasure m\n"
        f"fork\nmeasure inchild\n{stores(100)}measure childwrote\nsettle\n"
        "measure childsettled\nparent\nunmap 0 0 1048576\nmeasure parentunmapped\nend\nmeasure n\n"
    ),
    "zero": "map 0 1048576\ntouch 0 0 1048576 write 1 size=1 value=0\nsettle\nmeasure m\n",
}
"""Programs of the mechanism ksm; all of them are compared with this machine."""
OFFERED = (
    "observe all\nmap 0 2097152\ntouch 0 0 1048576 write 4096 value=7\n"
    "advise 0 0 2097152 mergeable\nsettle\nmeasure m\n"
    f"{stores(32, 2 * PAGE)}measure n\ntouch 0 0 262144 write 4096 value=9\nsettle\nmeasure again\n"
)
"""What a program itself offers, under other mechanisms."""


def opened(text: str) -> Session:
    spec = Spec.parse(text, what="target")
    backend = registry().backends[spec.name]
    return backend.open(resolve(spec, backend.options, what="target"))


@pytest.fixture(scope="module")
def model() -> Iterator[Session]:
    with opened("simulator") as session:
        yield session


@pytest.fixture(scope="module")
def like_here() -> Iterator[Session]:
    with opened("simulator:like=host") as session:
        yield session


@pytest.fixture(scope="module")
def host() -> Iterator[Session]:
    with opened("host") as session:
        if not session.capabilities().mechanisms["ksm"].ok:
            pytest.skip(session.capabilities().mechanisms["ksm"].reason)
        yield session


def sample(session: Session, mechanism: str, text: str, index: int = 1) -> Sample:
    """One sample of a program; the one behind the warm-up."""
    program = parse(f"refbench-program 1\nname test\n{text}")
    spec = Spec.parse(mechanism, what="mechanism")
    run = session.run(Cell("program:test", spec, Pattern(), program), 1, 60)
    assert run.failure is None, run.failure
    return run.samples[index]


def grown(found: Sample) -> dict[str, dict[str, int]]:
    """Growth over the start, in bytes, where it is the program's alone."""
    start = found.memory["start"]
    fields = {
        label: (*OWN, *(() if label in NO_SHARES else ("pss", "uss"))) for label in found.memory
    }
    return {
        label: {name: getattr(memory, name) - getattr(start, name) for name in fields[label]}
        for label, memory in found.memory.items()
    }


def assert_alike(here: Sample, there: Sample) -> None:
    """PSS alone is in whole KiB here, and the KiB of the agent's own share go into it."""
    mine, model = grown(here), grown(there)
    for label, wanted in mine.items():
        found = model[label]
        assert abs(found.pop("pss", 0) - wanted.pop("pss", 0)) <= 2048, (label, wanted, found)
        assert found == wanted, label
    for name, phase in here.phases.items():
        assert there.phases[name].minor_faults == phase.minor_faults, name


def assert_one_is_alike(host: Session, model: Session, mechanism: str, text: str) -> None:
    """ksmd decides where it begins and when it has not found anything for long enough, so that
    the same program may find a page more or less merged: the model's answer is one of them."""
    # In a later sample the agent may take what was merged in the one before for this one's.
    index = 1 if mechanism == "ksm" else 0
    there = sample(model, mechanism, text, index)
    for _ in range(TRIES - 1):
        with contextlib.suppress(AssertionError):
            return assert_alike(sample(host, mechanism, text, index), there)
    return assert_alike(sample(host, mechanism, text, index), there)


@pytest.mark.parametrize("name", MERGING)
def test_merging_counts_what_this_machine_counts(
    host: Session, like_here: Session, name: str
) -> None:
    assert_one_is_alike(host, like_here, "ksm", MERGING[name])


@pytest.mark.parametrize("mechanism", ["memset", "anon", "memfd-full", "memfd:block=16"])
def test_what_a_program_offers_is_merged_under_any_mechanism(
    host: Session, like_here: Session, mechanism: str
) -> None:
    assert_one_is_alike(host, like_here, mechanism, OFFERED)


@pytest.mark.parametrize("pages", [1, 2, SHARING, SHARING + 1, SHARING + 2, 3 * SHARING + 100])
def test_one_page_stands_for_256(model: Session, pages: int) -> None:
    found = sample(model, "ksm", f"map 0 {pages * PAGE}\nsettle\nmeasure m\nmeasure end\n")
    memory = found.memory["m"]
    kept = -(-pages // SHARING)
    assert memory.cgroup_anon == kept * PAGE
    assert memory.rss_anon == pages * PAGE
    lonely = pages % SHARING == 1
    assert memory.ksm == (pages - lonely) * PAGE


def test_merging_a_terabyte_takes_a_moment(model: Session) -> None:
    began = time.monotonic()
    found = sample(
        model,
        "ksm",
        f"map 0 {1 << 40}\ntouch 0 0 {1 << 40} write 65536\nsettle\nmeasure m\n",
    )
    assert time.monotonic() - began < 5
    stored, clean = (1 << 40) // 65536, (1 << 40) // PAGE - (1 << 40) // 65536
    kept = sum(-(-count // SHARING) for count in (stored, clean))
    assert found.memory["m"].cgroup_anon == kept * PAGE
    assert found.memory["m"].ksm == 1 << 40


def test_no_merging_without_ksmd() -> None:
    with opened("simulator:ksm=no") as session:
        found = sample(session, "memset", OFFERED)
        assert found.memory["n"].ksm == 0
        answer = session.capabilities().mechanisms["ksm"]
        assert not answer.ok
        assert "ksm=yes" in answer.remedy


# -- reference pages -----------------------------------------------------------------------

REFERENCES = AHEAD_OF_KERNELS
SPECIAL = ("refpage", "refpage-mmap", "refpage-dev")
"""Those whose clean pages are in no count."""
SPARSE = "phase map\nmap 0 {0}\nphase touch\ntouch 0 0 {0} write 65536\nphase -\nmeasure m\n"
READ = "phase touch\nmap 0 {0}\ntouch 0 0 {0} read 4096\nphase -\nmeasure m\n"
FORKED = (
    "map 0 1048576\ntouch 0 0 1048576 read 4096\ntouch 0 0 65536 write 4096\n"
    "phase fork\nfork\nphase child\ntouch 0 0 524288 readwrite 4096\nmeasure c\nparent\n"
    "phase parent\ntouch 0 0 262144 write 4096\nend\nphase -\nmeasure m\n"
)
COUNTED = ("rss_anon", "rss_file", "rss_shmem", "pss", "uss", "vmas", "pte", "hwm")


def counts(found: Sample) -> Any:
    """Memory by kind and faults by phase."""
    return (
        {label: [getattr(x, name) for name in COUNTED] for label, x in found.memory.items()},
        {name: (x.minor_faults, x.major_faults, x.traps) for name, x in found.phases.items()},
    )


@pytest.mark.parametrize("mechanism", SPECIAL)
@pytest.mark.parametrize("text", [SPARSE.format(1 << 22), READ.format(1 << 22), FORKED])
def test_a_special_entry_counts_as_the_zero_pages(
    model: Session, mechanism: str, text: str
) -> None:
    """Page for page as clean anonymous memory, faults included; but the driver's mapping brings
    its entries along into a child, as VM_MIXEDMAP does."""
    assert counts(sample(model, mechanism, text)) == counts(sample(model, "anon", text))


def test_the_naive_handlers_page_is_in_every_count(model: Session) -> None:
    found = sample(model, "refpage-dev:handler=naive", READ.format(1 << 24)).memory["m"]
    pages = (1 << 24) // PAGE
    assert found.rss_file == 1 << 24
    assert found.rss_anon == found.rss_shmem == 0
    # smaps divides each entry's page by all entries, and rounds down: 12 bits of fraction.
    assert found.pss == ((PAGE << 12) // pages * pages) >> 12 == PAGE
    assert found.uss == 0


@pytest.mark.parametrize("mechanism", REFERENCES)
def test_a_first_store_leaves_only_its_own_page(model: Session, mechanism: str) -> None:
    text = "map 0 1048576\ntouch 0 0 1048576 read 4096\ntouch 0 0 65536 write 4096\nmeasure m\n"
    found = sample(model, mechanism, text).memory["m"]
    naive = "naive" in mechanism
    assert found.rss_anon == 65536
    assert found.rss_file == (1048576 - 65536 if naive else 0)


@pytest.mark.parametrize("mechanism", REFERENCES)
def test_two_to_the_31_entries_of_one_page(model: Session, mechanism: str) -> None:
    """No machine here has the 16 GiB of page tables. The counts of a page are an int, and a
    handler that returns the page overflows them."""
    size = (MOST_OF_A_COUNT + 1) * PAGE
    spec = Spec.parse(mechanism, what="mechanism")
    program = parse("refbench-program 1\nname wide\n" + READ.format(size))
    run = model.run(Cell("wide", spec, Pattern(), program), 1, 60)
    if "naive" not in mechanism:
        assert run.failure is None
        assert run.samples[-1].memory["m"].rss == 0
        return
    assert run.failure is not None
    assert run.failure.kind == "limit-hit"
    assert run.failure.limit == MOST_OF_A_COUNT
    assert run.failure.wanted == MOST_OF_A_COUNT + 1
    assert "handler=safe" in run.failure.remedy
    fewer = parse("refbench-program 1\nname wide\n" + READ.format(size - PAGE))
    assert model.run(Cell("wide", spec, Pattern(), fewer), 1, 60).failure is None


def test_the_kernel_keeps_one_page(model: Session) -> None:
    for mechanism, held in (("refpage", PAGE), ("refpage-dev", PAGE), ("refpage-mmap", 0)):
        found = sample(model, mechanism, "map 0 65536\nmap 1 65536\nmeasure m\n").memory["m"]
        assert found.held == held
        assert found.sys_shmem == 0


def test_a_device_of_special_entries_merges_with_nothing(model: Session) -> None:
    """VM_SPECIAL: an mprotect round trip leaves the pieces that it made."""
    text = "map 0 65536\nprotect 0 16384 16384 read\nprotect 0 16384 16384 readwrite\nmeasure m\n"
    vmas = {
        mechanism: grown(sample(model, mechanism, text))["m"]["vmas"] for mechanism in REFERENCES
    }
    assert vmas.pop("refpage-dev") == 3
    assert set(vmas.values()) == {1}


# -- where they are offered ----------------------------------------------------------------


def test_every_mechanism_has_a_model() -> None:
    own = [
        name
        for name, mechanism in registry().mechanisms.items()
        if registry().origins[f"mechanism {name}"] == "core" and mechanism.sources
    ]
    assert sorted(own) == sorted(MODELS)


def test_they_are_in_the_default_table_where_they_work(model: Session) -> None:
    offered = model.capabilities().mechanisms
    plan = make_plan(registry(), PAGE, Request(workloads=("sparse-write",)), offered)
    names = [str(cell.mechanism) for cell in plan.cells]
    assert len(names) == len(BENCH_MECHANISMS) + len(AHEAD_OF_KERNELS)
    assert names[-len(AHEAD_OF_KERNELS) :] == list(AHEAD_OF_KERNELS)


def test_they_are_not_where_they_do_not(host: Session) -> None:
    offered = host.capabilities().mechanisms
    for text in AHEAD_OF_KERNELS:
        answer = offered[text.partition(":")[0]]
        assert not answer.ok
        assert answer.reason
        assert answer.remedy
    plan = make_plan(registry(), PAGE, Request(workloads=("sparse-write",)), offered)
    assert len(plan.cells) == len(BENCH_MECHANISMS)
