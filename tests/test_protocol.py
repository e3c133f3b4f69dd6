"""The agent's output is believed only when all of it arrived and all of it makes sense."""

from __future__ import annotations

import hashlib
import json
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refbench.backend import Answer
from refbench.errors import Crashed, KernelFault, LimitHit, NoAnswer, Stable, Transient, Unsupported
from refbench.protocol import failure_of, parse

AGENT = {
    "type": "agent",
    "version": "1",
    "arch": "x86_64",
    "page_size": 4096,
    "kernel": "6.18.0",
    "cpu": 1,
    "facts": {"uffd": "user-mode-only"},
}
MEMORY = {"rss": 1, "rss_anon": 1, "rss_file": 0, "rss_shmem": 0, "hwm": 2, "pte": 3, "vmas": 4}
SPENT = {"type": "spent", "ns": 1000}


def sample(index: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "sample",
        "index": index,
        "phases": {"touch": {"ns": 10, "minor_faults": 3}},
        "memory": {"start": MEMORY},
        **more,
    }


def said(*records: dict[str, Any], rc: int = 0) -> tuple[str, ...]:
    lines = [json.dumps(record) for record in records]
    text = "".join(line + "\n" for line in lines)
    return (*lines, f"end rc={rc} sha256={hashlib.sha256(text.encode()).hexdigest()}")


GOOD = said(AGENT, sample(0), sample(1), SPENT)


def test_samples_and_facts_are_read() -> None:
    report = parse(Answer(GOOD), samples=2)
    assert [item.index for item in report.samples] == [0, 1]
    assert report.samples[1].phases["touch"].minor_faults == 3
    assert report.samples[0].memory["start"].pss is None
    assert report.agent.facts == {"uffd": "user-mode-only"}
    assert report.spent_ns == 1000
    assert report.failure is None


def test_a_failure_is_handed_on() -> None:
    failure = {"type": "failure", "kind": "limit-hit", "message": "m", "wanted": 9, "limit": 8}
    report = parse(Answer(said(AGENT, sample(0), failure, SPENT, rc=3)), samples=2)
    assert report.failure is not None
    assert (report.failure.kind, report.failure.wanted, report.failure.limit) == ("limit-hit", 9, 8)


def test_a_probe_is_read() -> None:
    mechanism = {"type": "mechanism", "name": "ksm", "ok": False, "reason": "off", "remedy": "on"}
    report = parse(Answer(said(AGENT, mechanism, SPENT)))
    assert [(m.name, m.ok, m.reason) for m in report.mechanisms] == [("ksm", False, "off")]


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_output_cut_at_any_line_never_counts(cut: int) -> None:
    with pytest.raises(Transient):
        parse(Answer(GOOD[:cut]), samples=2)


@given(st.data())
def test_output_with_one_changed_byte_never_counts(data: st.DataObject) -> None:
    text = "\n".join(GOOD)
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    changed = text[:at] + new + text[at + 1 :]
    with pytest.raises((NoAnswer, Crashed)):
        parse(Answer(tuple(changed.split("\n"))), samples=2)


BROKEN = {
    "unknown field": said(AGENT, sample(0, surprise=1), SPENT),
    "unknown field in a phase": said(
        AGENT, sample(0) | {"phases": {"a": {"ns": 1, "colour": 2}}}, SPENT
    ),
    "unknown field in memory": said(
        AGENT, sample(0) | {"memory": {"start": MEMORY | {"colour": 2}}}, SPENT
    ),
    "missing field": said(AGENT, {"type": "sample", "index": 0, "phases": {}}, SPENT),
    "wrong type": said(AGENT, sample(0) | {"phases": {"a": {"ns": "1"}}}, SPENT),
    "unknown line": said(AGENT, {"type": "weather"}, sample(0), SPENT),
    "no type": said(AGENT, {"index": 0}, sample(0), SPENT),
    "not an object": (*said(AGENT, sample(0), SPENT)[:1], "[]"),
    "agent not first": said(sample(0), AGENT, SPENT),
    "no agent": said(),
    "two agents": said(AGENT, AGENT, sample(0), SPENT),
    "spent not last": said(AGENT, SPENT, sample(0)),
    "too few samples": said(AGENT, SPENT),
    "too many samples": said(AGENT, sample(0), sample(1), SPENT),
    "wrong index": said(AGENT, sample(1), SPENT),
    "rc 3 without a failure": said(AGENT, sample(0), SPENT, rc=3),
    "rc 0 with a failure": said(
        AGENT, sample(0), {"type": "failure", "kind": "unsupported", "message": "m"}, SPENT
    ),
    "unknown failure": said(AGENT, {"type": "failure", "kind": "tired", "message": "m"}, rc=3),
}


@pytest.mark.parametrize("lines", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_record_is_a_stable_failure(lines: tuple[str, ...]) -> None:
    if lines[-1] == "[]":
        text = "".join(line + "\n" for line in lines)
        lines = (*lines, f"end rc=0 sha256={hashlib.sha256(text.encode()).hexdigest()}")
    with pytest.raises(Crashed, match="broken"):
        parse(Answer(lines), samples=1)


def test_how_it_ended_decides_the_word_without_an_end_record() -> None:
    cut = GOOD[:-1]
    with pytest.raises(NoAnswer, match="deadline"):
        parse(Answer(cut, signal=signal.SIGKILL, deadline_passed=True))
    with pytest.raises(NoAnswer, match="killed from outside"):
        parse(Answer(cut, signal=signal.SIGKILL))
    with pytest.raises(Crashed, match="SIGSEGV"):
        parse(Answer(cut, signal=signal.SIGSEGV))
    with pytest.raises(Crashed, match="status 127"):
        parse(Answer((), returncode=127))
    with pytest.raises(NoAnswer, match="did not arrive"):
        parse(Answer(cut, returncode=0))


def test_errors_become_failures_with_their_numbers() -> None:
    failure = failure_of(LimitHit("m", wanted=5, limit=4, remedy="r"), ["a", "b"])
    assert (failure.kind, failure.wanted, failure.limit, failure.remedy) == ("limit-hit", 5, 4, "r")
    assert failure.log == ("a", "b")
    assert failure_of(Unsupported("m")).kind == "unsupported"
    assert issubclass(Crashed, Stable)


def test_a_kernels_fault_keeps_its_whole_report_and_other_errors_the_end_of_theirs() -> None:
    report = tuple(f"line {number}" for number in range(100))
    failure = failure_of(KernelFault("m", log=report), ["said by the agent"])
    assert (failure.kind, failure.log) == ("kernel-fault", report)
    assert failure_of(Crashed("m"), report).log == report[-20:]
