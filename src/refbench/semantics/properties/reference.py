"""What happens when somebody changes the reference page afterwards."""

from __future__ import annotations

from refbench.program import Expect, Reference, Step, Touch
from refbench.program.steps import Tampering
from refbench.semantics.evidence import tell
from refbench.semantics.properties.clean import PAGES, fresh
from refbench.semantics.property import (
    Exhibit,
    Finding,
    Property,
    is_content,
    is_unavailable,
)
from refbench.words import Verdict


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

    return Property(
        name,
        title,
        "What happens when the reference page is unmapped, remapped or changed afterwards.",
        build,
        _judge,
    )


def _judge(exhibit: Exhibit) -> Finding:
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
)
