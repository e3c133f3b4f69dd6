"""Judges, given what no kernel at hand shows on demand: counters that stay, VMAs that merge."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from refbench.samples import MemorySnapshot, Observation, PhaseCounters, Sample
from refbench.semantics.properties import PROPERTIES
from refbench.semantics.property import Exhibit, Finding
from refbench.words import Verdict

PAGE = 4096
MIB = 1 << 20
NOTHING = MemorySnapshot(rss=0, rss_anon=0, rss_file=0, rss_shmem=0, hwm=0, pte=0, vmas=20)
RIGHT = Observation(line=5, step="expect", ok=True)
WRONG = Observation(line=5, step="expect", ok=False, errors=3, offset=0x1000, got=0, wanted=0xAA)


def judged(name: str, *observations: Observation, **memory: MemorySnapshot) -> Finding:
    item = PROPERTIES[name]
    lines = tuple(item.program(PAGE).text().splitlines())
    sample = Sample(
        index=0, phases={}, memory={"start": NOTHING, **memory}, observations=observations
    )
    return item.judge(Exhibit(sample, lines, PAGE))


def refused(step: str, number: int, line: int = 4) -> Observation:
    return Observation(line=line, step=step, ok=False, errno=number, detail="why")


def test_what_was_read_wrong_is_quoted() -> None:
    finding = judged("clean-user", RIGHT, WRONG)
    assert finding.verdict is Verdict.NOT_MET
    assert "3 bytes wrong, the first at offset 0x1000: 0x00 instead of 0xaa" in finding.evidence


def test_a_refusal_is_named_with_its_step_and_errno() -> None:
    finding = judged("clean-write", refused("kernel-reads", errno.EFAULT, line=6))
    assert finding.verdict is Verdict.REFUSED
    assert "`kernel-reads 0 0 131072 write pattern`: EFAULT" in finding.evidence


def test_what_follows_a_refusal_is_its_consequence() -> None:
    late = replace(WRONG, line=9)
    assert judged("stored-by-read", refused("kernel-writes", errno.EFAULT), late).verdict is (
        Verdict.REFUSED
    )


def test_refused_advice_does_not_excuse_wrong_content() -> None:
    assert judged("free", refused("advise", errno.EINVAL), RIGHT).verdict is Verdict.REFUSED
    assert judged("free", refused("advise", errno.EINVAL), WRONG).verdict is Verdict.NOT_MET


def test_no_observation_is_no_answer() -> None:
    assert judged("clean-user").verdict is Verdict.FAILED


def test_what_the_agent_cannot_examine_is_unavailable() -> None:
    finding = judged("clean-direct", refused("kernel-reads", errno.EOPNOTSUPP))
    assert finding.verdict is Verdict.UNAVAILABLE
    assert "why" in finding.evidence


@pytest.mark.parametrize("number", [errno.EPERM, errno.EBUSY])
def test_a_reference_page_that_cannot_be_changed_keeps_the_pattern(number: int) -> None:
    act = refused("reference", number)
    assert judged("reference-changed", act, RIGHT).verdict is Verdict.MET
    assert judged("reference-changed", act, WRONG).verdict is Verdict.NOT_MET


def test_a_changed_reference_page_must_not_show() -> None:
    act = Observation(line=6, step="reference", ok=True)
    assert judged("reference-changed", act, RIGHT).verdict is Verdict.MET
    assert judged("reference-changed", act, WRONG).verdict is Verdict.NOT_MET


def test_without_a_reference_page_there_is_nothing_to_change() -> None:
    act = refused("reference", errno.EOPNOTSUPP)
    assert judged("reference-changed", act, RIGHT).verdict is Verdict.UNAVAILABLE


def test_the_agent_may_say_in_words_that_it_cannot_examine() -> None:
    without_log = Observation(
        line=9, step="kernel-log", ok=False, detail="unavailable: /dev/kmsg cannot be read"
    )
    assert judged("kernel-log", without_log).verdict is Verdict.UNAVAILABLE
    complaint = replace(without_log, detail="BUG: Bad rss-counter state mm:0 type:1 val:2")
    assert judged("kernel-log", complaint).verdict is Verdict.NOT_MET


def test_a_child_that_died_of_it_is_no_refusal() -> None:
    died = Observation(line=7, step="fork", ok=False, detail="the child was killed by signal 7")
    assert judged("fork-child", died).verdict is Verdict.NOT_MET


def test_rss_that_stays_is_not_met() -> None:
    left = replace(NOTHING, rss=3 * MIB, rss_anon=3 * MIB)
    assert judged("rss-returns", before=NOTHING, after=NOTHING).verdict is Verdict.MET
    assert judged("rss-returns", before=NOTHING, after=left).verdict is Verdict.NOT_MET


def test_vmas_that_merge_are_not_met() -> None:
    apart, merged = replace(NOTHING, vmas=21), NOTHING
    assert judged("neighbour-vma", alone=NOTHING, beside=apart).verdict is Verdict.MET
    assert judged("neighbour-vma", alone=NOTHING, beside=merged).verdict is Verdict.NOT_MET


def test_memory_that_is_charged_elsewhere_is_not_met() -> None:
    before = replace(NOTHING, cgroup_current=MIB)
    after = replace(NOTHING, cgroup_current=5 * MIB)
    assert judged("charged", RIGHT, before=before, stored=after).verdict is Verdict.MET
    assert judged("charged", RIGHT, before=before, stored=before).verdict is Verdict.NOT_MET
    assert judged("charged", RIGHT, before=NOTHING, stored=NOTHING).verdict is (Verdict.UNAVAILABLE)


def test_pages_that_the_kernel_kept_prove_nothing_about_reclaim() -> None:
    held = replace(NOTHING, rss_anon=2 * MIB)
    kept = judged("free-reclaimed", RIGHT, read=held, reclaimed=held)
    assert kept.verdict is Verdict.UNAVAILABLE
    assert judged("free-reclaimed", RIGHT, read=held, reclaimed=NOTHING).verdict is Verdict.MET
    assert judged("free-reclaimed", WRONG, read=held, reclaimed=held).verdict is Verdict.NOT_MET


@pytest.mark.parametrize(
    ("grown", "faults", "verdict"),
    [(0, 0, Verdict.MET), (MIB, 0, Verdict.NOT_MET), (0, 256, Verdict.NOT_MET)],
)
def test_private_copies_made_by_mlock_are_counted(
    grown: int, faults: int, verdict: Verdict
) -> None:
    item = PROPERTIES["mlock-shares"]
    sample = Sample(
        index=0,
        phases={"lock": PhaseCounters(ns=1, minor_faults=faults)},
        memory={"read": NOTHING, "locked": replace(NOTHING, rss_anon=grown)},
        observations=(RIGHT,),
    )
    assert item.judge(Exhibit(sample, (), PAGE)).verdict is verdict


def test_nothing_in_swap_and_nothing_merged_prove_nothing() -> None:
    full = replace(NOTHING, swap=MIB, ksm=MIB)
    assert judged("swap", RIGHT, swapped=full).verdict is Verdict.MET
    assert judged("swap", RIGHT, swapped=replace(NOTHING, swap=0)).verdict is Verdict.UNAVAILABLE
    assert judged("ksm-merge", RIGHT, merged=full).verdict is Verdict.MET
    assert judged("ksm-merge", RIGHT, merged=NOTHING).verdict is Verdict.UNAVAILABLE


def test_a_huge_page_that_is_not_to_be_had_is_nobodys_fault() -> None:
    short = refused("advise", errno.ENOMEM)
    assert judged("collapse", short, RIGHT).verdict is Verdict.UNAVAILABLE
    assert judged("collapse", refused("advise", errno.EINVAL), RIGHT).verdict is Verdict.REFUSED
