"""Run properties through any session, judge them, and compare with what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from refbench.backend import Session
from refbench.grammar import Spec
from refbench.samples import Failure, Run, Sample
from refbench.semantics.matrix import Examination, Matrix, Outcome, Row
from refbench.semantics.properties import PROPERTIES
from refbench.semantics.property import Exhibit, Finding, Need, Property
from refbench.words import Availability, Capabilities, Cell, Mechanism, Pattern, Verdict

DEFAULT_SPECS = tuple(
    Spec.parse(text, what="mechanism")
    for text in (
        "anon",
        "memset",
        "memfd",
        "memfd:block=16",
        "memfd-full",
        "uffd",
        "uffd:events=fork",
        "uffd:atfork",
        "uffd-sigbus",
        "uffd-sigbus:atfork",
        "segv",
        "ksm",
    )
)
"""The mechanisms that are examined when nobody names any."""

DEADLINE = 30.0
"""Seconds that one property may take with one mechanism."""

Progress = Callable[[int, int, str], None]
"""Called before each examination with how many are done, how many there are, and its label."""

_SEVERITY = (Verdict.FAILED, Verdict.NOT_MET, Verdict.REFUSED, Verdict.UNAVAILABLE, Verdict.MET)
_BELOW = re.compile(r"kernel<(\d+)\.(\d+)\Z")
_VERSION = re.compile(r"(\d+)\.(\d+)")


def run(
    session: Session,
    mechanisms: Mapping[str, Mechanism],
    specs: Sequence[Spec] = DEFAULT_SPECS,
    properties: Sequence[Property] = tuple(PROPERTIES.values()),
    progress: Progress | None = None,
    *,
    pattern: Pattern | None = None,
) -> Matrix:
    """Examine every property with every mechanism of ``specs``.

    ``mechanisms`` are the registered ones, by name. A mechanism that does not work on the
    target is *unavailable* in every row, with the target's reason.

    :raises KeyError: when a spec names a mechanism that is not in ``mechanisms``.
    :raises UsageError: when it has an option that the mechanism does not know.
    :raises BackendError: when the session is lost.
    """
    capabilities = session.capabilities()
    examinations: list[Examination] = []
    total = len(specs) * len(properties)
    specs = [mechanisms[spec.name].canonical(spec) for spec in specs]
    for spec in specs:
        mechanism = mechanisms[spec.name]
        for item in properties:
            if progress:
                progress(len(examinations), total, f"{spec} {item.name}")
            finding, facts = _examine(session, capabilities, spec, item, pattern or Pattern())
            conditions = {**capabilities.environment, **facts, **dict(spec.options)}
            expected, reason = expectation(
                mechanism, item.name, conditions, kernel=capabilities.kernel
            )
            examinations.append(
                Examination(
                    row=item.name,
                    mechanism=str(spec),
                    verdict=finding.verdict,
                    evidence=finding.evidence,
                    expected=expected,
                    reason=reason,
                    outcome=_outcome(finding.verdict, expected),
                )
            )
    if progress:
        progress(total, total, "")
    return Matrix(
        kernel=capabilities.kernel,
        arch=capabilities.arch,
        rows=tuple(Row(item.name, item.title, item.answers) for item in properties),
        mechanisms=tuple(str(spec) for spec in specs),
        examinations=tuple(examinations),
    )


def expectation(
    mechanism: Mechanism, name: str, conditions: Mapping[str, str], *, kernel: str
) -> tuple[Verdict, str]:
    """What ``mechanism`` is committed to for the property ``name``, and why.

    ``conditions`` are the options of the mechanism and the facts of the run and the target,
    for keys such as ``fork-child@events=fork``; ``kernel`` is a release such as ``6.12.3``.
    """
    best = -1
    found = (Verdict.MET, "")
    for key, value in mechanism.expected.items():
        base, _, text = key.partition("@")
        wanted = [part for part in text.split(",") if part]
        if (
            base == name
            and len(wanted) > best
            and all(_holds(part, conditions, kernel) for part in wanted)
        ):
            best, found = len(wanted), value
    return found


def _holds(condition: str, conditions: Mapping[str, str], kernel: str) -> bool:
    below = _BELOW.match(condition)
    if below:
        version = _VERSION.match(kernel)
        return version is not None and (int(version[1]), int(version[2])) < (
            int(below[1]),
            int(below[2]),
        )
    key, _, value = condition.partition("=")
    return conditions.get(key) == value


def _outcome(verdict: Verdict, expected: Verdict) -> Outcome:
    if verdict is expected:
        return Outcome.AS_EXPECTED
    if verdict is Verdict.UNAVAILABLE:
        return Outcome.NOT_EXAMINED
    return Outcome.UNEXPECTED


def _examine(
    session: Session,
    capabilities: Capabilities,
    spec: Spec,
    item: Property,
    pattern: Pattern,
) -> tuple[Finding, Mapping[str, str]]:
    for missing in _missing(capabilities, spec, item):
        remedy = f" {missing.remedy}" if missing.remedy else ""
        return Finding(Verdict.UNAVAILABLE, f"{missing.reason}{remedy}"), {}
    program = item.program(capabilities.page_size)
    cell = Cell(
        workload=program.name,
        mechanism=spec,
        pattern=pattern,
        program=program,
        thp=item.thp,
    )
    answer = session.run(cell, 0, DEADLINE)
    return _judge(item, answer, tuple(program.text().splitlines()), capabilities), answer.facts


def _missing(capabilities: Capabilities, spec: Spec, item: Property) -> Iterator[Availability]:
    found = capabilities.mechanisms.get(spec.name)
    if found is not None and not found.ok:
        yield found
    for need in item.needs:
        if need in (Need.THP, Need.THP_ALWAYS):
            enabled = capabilities.environment.get("thp")
            if need is Need.THP_ALWAYS and enabled != "always":
                yield Availability(
                    False,
                    "Huge pages come only where they are asked for.",
                    "Write always to /sys/kernel/mm/transparent_hugepage/enabled.",
                )
            elif enabled == "never":
                yield Availability(
                    False,
                    "Transparent huge pages are switched off.",
                    "Write madvise to /sys/kernel/mm/transparent_hugepage/enabled.",
                )
            continue
        offered = capabilities.metrics.get(need.value)
        if offered is None:
            yield Availability(False, f"The target does not say whether it has {need.value}.")
        elif not offered.ok:
            yield offered


def _judge(
    item: Property, answer: Run, lines: tuple[str, ...], capabilities: Capabilities
) -> Finding:
    if answer.failure is not None:
        return _failed(answer.failure)
    if not answer.samples:
        return Finding(Verdict.FAILED, "The run came back without a sample.")
    findings = [_judge_sample(item, sample, lines, capabilities) for sample in answer.samples]
    return min(findings, key=lambda finding: _SEVERITY.index(finding.verdict))


def _judge_sample(
    item: Property, sample: Sample, lines: tuple[str, ...], capabilities: Capabilities
) -> Finding:
    if "end" not in sample.memory:
        return Finding(Verdict.FAILED, "The run did not come to the end of the program.")
    return item.judge(Exhibit(sample, lines, capabilities.page_size))


def _failed(failure: Failure) -> Finding:
    text = f"{failure.message} {failure.remedy}".strip()
    if failure.kind in ("unsupported", "limit-hit"):
        return Finding(Verdict.UNAVAILABLE, text)
    if failure.kind == "wrong-content":
        return Finding(Verdict.NOT_MET, text)
    return Finding(Verdict.FAILED, f"{failure.kind}: {text}")
