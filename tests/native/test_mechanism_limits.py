"""The limits of the mechanisms, and what does not work here."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.native.conftest import MIB, PAGE, Agent, touching


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
