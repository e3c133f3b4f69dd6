"""The reference page: what happens to it afterwards, and which memory is accepted as one."""

from __future__ import annotations

from typing import cast

from refbench.program import Expect, Reference, Step, Touch
from refbench.program.steps import Origin, Tampering
from refbench.semantics.evidence import error_name, tell
from refbench.semantics.properties.clean import PAGES, fresh
from refbench.semantics.properties.stores import VALUE, around
from refbench.semantics.property import (
    Exhibit,
    Finding,
    Property,
    first_failure,
    is_content,
    is_unavailable,
)
from refbench.words import Verdict

_AFTERWARDS = "What happens when the reference page is unmapped, remapped or changed afterwards."
_KINDS = "Which page kinds are accepted as a reference page."
_COMPAT = "32-bit callers with a sign-extended offset."


def _tampered(name: str, action: Tampering, title: str) -> Property:
    def build(page_size: int) -> tuple[Step, ...]:
        whole = PAGES * page_size
        return (
            *fresh(page_size),
            Touch(0, 0, 8 * page_size, "read", page_size),
            Reference(action),
            Expect(0, 0, whole),
            *fresh(page_size, region=1),
            Expect(1, 0, whole),
        )

    return Property(name, title, _AFTERWARDS, build, _judge_tampered)


def _judge_tampered(exhibit: Exhibit) -> Finding:
    """To refuse that the reference page is changed is a way of keeping the pattern."""
    acts = [seen for seen in exhibit.sample.observations if seen.step == "reference"]
    if not acts:
        return Finding(Verdict.FAILED, "The run never came to its reference step.")
    act = acts[0]
    if is_unavailable(act):
        return Finding(Verdict.UNAVAILABLE, tell(act, exhibit.lines))
    wrong = [seen for seen in exhibit.failed if is_content(seen)]
    if wrong:
        return Finding(Verdict.NOT_MET, tell(wrong[0], exhibit.lines))
    if act.ok:
        return Finding(Verdict.MET, "It was done, and every page still reads as the pattern.")
    return Finding(Verdict.MET, f"It is prevented: {tell(act, exhibit.lines)}")


def _accepted(kind: str, title: str, answers: str = _KINDS) -> Property:
    """A mapping that refers to memory of this kind shows the pattern and takes a store."""

    def build(page_size: int) -> tuple[Step, ...]:
        at = 3 * page_size + 100
        return (
            Reference(cast(Origin, f"from-{kind}")),
            *fresh(page_size),
            Expect(0, 0, PAGES * page_size),
            Touch(0, at, 1, "write", 1, value=VALUE),
            *around(page_size, at, 1),
        )

    return Property(f"accepts-{kind}", title, answers, build, first_failure)


def _rejected(kind: str, title: str) -> Property:
    def build(_page_size: int) -> tuple[Step, ...]:
        return (Reference(cast(Origin, f"from-{kind}")),)

    return Property(f"rejects-{kind}", title, _KINDS, build, _judge_rejected)


def _judge_rejected(exhibit: Exhibit) -> Finding:
    if not exhibit.sample.observations:
        return Finding(Verdict.FAILED, "The run never came to its reference step.")
    act = exhibit.sample.observations[0]
    if is_unavailable(act):
        return Finding(Verdict.UNAVAILABLE, tell(act, exhibit.lines))
    if act.ok:
        return Finding(Verdict.NOT_MET, "It was accepted.")
    return Finding(Verdict.MET, f"It is refused: {error_name(act.errno)}.")


_ACCEPTED = (
    _accepted("anonymous", "A page of anonymous memory may be the reference page."),
    _accepted("file", "A page of a file may be the reference page."),
    _accepted("shared", "A page of shared memory may be the reference page."),
    _accepted("hugetlb", "A part of a huge page may be the reference page."),
    _accepted("mapping", "A clean page of such a mapping may be the reference page of another."),
)
_REJECTED = (
    _rejected("device", "Page frames that are no memory to share are refused as a reference page."),
    _rejected("unmapped", "An address where nothing is mapped is refused."),
    _rejected("inaccessible", "An address that the process may not read is refused."),
)
_BY_COMPAT = (
    _accepted(
        "compat", "A 32-bit caller's reference page above 2 GiB is the one that it named.", _COMPAT
    ),
    _accepted(
        "compat-signed", "So it is when its address was sign-extended on the way there.", _COMPAT
    ),
)

REFERENCE = (
    _tampered(
        "reference-changed",
        "write",
        "Clean pages keep the pattern when somebody stores to the reference page.",
    ),
    _tampered(
        "reference-truncated",
        "truncate",
        "Clean pages keep the pattern when the reference page's file is cut short.",
    ),
    _tampered(
        "reference-unmapped",
        "unmap",
        "Clean pages keep the pattern when the reference page itself is unmapped.",
    ),
    *_ACCEPTED,
    *_REJECTED,
    *_BY_COMPAT,
)

ORIGINS = tuple(item.name.partition("-")[2] for item in (*_ACCEPTED, *_REJECTED, *_BY_COMPAT))
"""Kinds of memory that a reference page may be asked to be."""
