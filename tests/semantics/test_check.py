"""Properties examined on the real host, by mechanisms that keep them and ones that break them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from refbench.backend import Session
from refbench.grammar import Spec, resolve
from refbench.mechanisms import MECHANISMS
from refbench.plugins import registry
from refbench.semantics import check
from refbench.semantics.matrix import Matrix, Outcome
from refbench.semantics.properties import PROPERTIES
from refbench.words import Mechanism, Pattern, Verdict

ALL = {item.name: item for item in MECHANISMS}
ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    backend = registry().backends["host"]
    options = resolve(Spec("host"), backend.options, what="target")
    with backend.open(options) as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(session: Session) -> Matrix:
    return check.run(session, ALL)


def test_the_whole_matrix_is_as_expected(whole: Matrix) -> None:
    assert [(x.row, x.mechanism, x.verdict, x.evidence) for x in whole.unexpected] == []
    assert len(whole.examinations) == len(PROPERTIES) * len(check.DEFAULT_SPECS)


@pytest.mark.parametrize(
    ("row", "mechanism", "verdict"),
    [
        ("clean-user", "memset", Verdict.MET),
        ("clean-user", "memfd", Verdict.MET),
        ("dontneed", "memfd", Verdict.MET),
        ("dontneed", "memset", Verdict.NOT_MET),
        ("threads-read", "segv", Verdict.NOT_MET),
        ("threads-read", "memset", Verdict.MET),
        ("clean-write", "segv", Verdict.REFUSED),
        ("clean-procmem", "segv", Verdict.NOT_MET),
        ("stored-by-read", "segv", Verdict.REFUSED),
        ("mlock-shares", "memfd-full", Verdict.NOT_MET),
        ("mlock-shares", "memset", Verdict.MET),
        ("neighbour-vma", "memset", Verdict.NOT_MET),
        ("neighbour-vma", "memfd", Verdict.MET),
        ("remap-grow", "memfd-full", Verdict.NOT_MET),
        ("free", "memfd", Verdict.REFUSED),
        ("fork-child", "memfd", Verdict.MET),
    ],
)
def test_properties_tell_mechanisms_apart(
    whole: Matrix, row: str, mechanism: str, verdict: Verdict
) -> None:
    item = whole.at(row, mechanism)
    assert item.verdict is verdict, item.evidence
    assert item.expected_failure == (verdict is not Verdict.MET)
    assert item.evidence


@pytest.mark.parametrize(
    ("row", "mechanism", "verdict"),
    [
        ("fork-child", "uffd", Verdict.NOT_MET),
        ("fork-child", "uffd:atfork=yes", Verdict.MET),
        ("fork-child", "uffd:events=fork", Verdict.MET),
        ("fork-parent", "uffd", Verdict.MET),
        ("fork-child", "uffd-sigbus", Verdict.NOT_MET),
        ("clean-user", "uffd-sigbus", Verdict.MET),
        ("clean-write", "uffd-sigbus", Verdict.REFUSED),
        ("clean-write", "uffd", Verdict.MET),
        ("stored-by-read", "uffd-sigbus", Verdict.REFUSED),
        ("threads-read", "uffd-sigbus", Verdict.MET),
    ],
)
def test_userfaultfd_fails_where_it_was_foreseen(
    whole: Matrix, row: str, mechanism: str, verdict: Verdict
) -> None:
    if not ROOT:
        pytest.skip("userfaultfd with faults of the kernel is for root")
    item = whole.at(row, mechanism)
    assert item.verdict is verdict, item.evidence


def test_wrong_content_is_shown_byte_by_byte(whole: Matrix) -> None:
    evidence = whole.at("dontneed", "memset").evidence
    assert "131072 bytes wrong, the first at offset 0x0: 0x00 instead of 0xaa" in evidence


def test_a_refusal_names_the_errno(whole: Matrix) -> None:
    assert "EINVAL" in whole.at("free", "memfd").evidence


def examined(
    session: Session, mechanism: Mechanism, *rows: str, pattern: Pattern | None = None
) -> Matrix:
    properties = [PROPERTIES[row] for row in rows]
    specs = [Spec(mechanism.name)]
    return check.run(session, {mechanism.name: mechanism}, specs, properties, pattern=pattern)


def test_a_mechanism_that_is_better_than_expected_is_unexpected_too(session: Session) -> None:
    modest = replace(ALL["memset"], expected={"clean-user": (Verdict.NOT_MET, "It is shy.")})
    assert [x.row for x in examined(session, modest, "clean-user").unexpected] == ["clean-user"]


def test_a_mechanism_that_promises_too_much_is_unexpected(session: Session) -> None:
    boastful = replace(ALL["memset"], expected={})
    found = examined(session, boastful, "clean-user", "dontneed")
    assert [x.row for x in found.unexpected] == ["dontneed"]
    assert found.at("clean-user", "memset").outcome is Outcome.AS_EXPECTED


def test_another_pattern_is_looked_for(session: Session) -> None:
    found = examined(session, ALL["memfd"], "clean-user", pattern=Pattern.parse("byte:0x5A"))
    assert found.at("clean-user", "memfd").verdict is Verdict.MET


def test_progress_counts_every_examination(session: Session) -> None:
    seen: list[tuple[int, int, str]] = []
    properties = [PROPERTIES["clean-user"], PROPERTIES["dontneed"]]
    check.run(
        session,
        ALL,
        [Spec("memset"), Spec("anon")],
        properties,
        lambda done, total, label: seen.append((done, total, label)),
    )
    assert [done for done, _, _ in seen] == [0, 1, 2, 3, 4]
    assert {total for _, total, _ in seen} == {4}


CONDITIONS = {"events": "fork", "atfork": "yes"}


@pytest.mark.parametrize(
    ("expected", "verdict"),
    [
        ({}, Verdict.MET),
        ({"p": Verdict.NOT_MET}, Verdict.NOT_MET),
        ({"other": Verdict.NOT_MET}, Verdict.MET),
        ({"p": Verdict.NOT_MET, "p@events=fork": Verdict.REFUSED}, Verdict.REFUSED),
        ({"p@events=fork": Verdict.REFUSED, "p": Verdict.NOT_MET}, Verdict.REFUSED),
        ({"p": Verdict.NOT_MET, "p@events=none": Verdict.REFUSED}, Verdict.NOT_MET),
        ({"p@events=fork,atfork=yes": Verdict.REFUSED, "p@events=fork": Verdict.NOT_MET},
         Verdict.REFUSED),
        ({"p@kernel<6.2": Verdict.REFUSED}, Verdict.REFUSED),
        ({"p@kernel<6.1": Verdict.REFUSED}, Verdict.MET),
        ({"p@kernel<5.17": Verdict.REFUSED}, Verdict.MET),
    ],
)  # fmt: skip
def test_the_most_specific_expectation_that_holds_counts(
    expected: dict[str, Verdict], verdict: Verdict
) -> None:
    mechanism = Mechanism(
        "m", "", expected={key: (value, "Because.") for key, value in expected.items()}
    )
    found, _ = check.expectation(mechanism, "p", CONDITIONS, kernel="6.1.0-18-amd64")
    assert found is verdict
