"""What a property of the semantics suite is: a question, a program, and how to judge the answer."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from refbench.program import Measure, Program, Step
from refbench.samples import MemorySnapshot, Observation, Sample
from refbench.semantics.evidence import describe, tell
from refbench.words import Verdict

_CONTENT = frozenset({"descriptors", "expect", "fork", "kernel-log", "touch"})


class Need(str, Enum):
    """What a target must offer before a property can be examined there."""

    CGROUP = "cgroup"
    KERNEL_LOG = "kernel-log"
    KSM = "ksm"
    SWAP = "swap"
    THP = "thp"
    THP_ALWAYS = "thp-always"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with the sentence that says what was seen."""

    verdict: Verdict
    evidence: str


@dataclass(frozen=True, slots=True)
class Exhibit:
    """What a judge looks at: one sample of a property's program."""

    sample: Sample
    lines: tuple[str, ...]
    """The program file, for evidence that names a step."""
    page_size: int

    def memory(self, label: str) -> MemorySnapshot | None:
        """The snapshot at a ``measure`` step, if the run came that far."""
        return self.sample.memory.get(label)

    @property
    def failed(self) -> tuple[Observation, ...]:
        """The observations that are not as the program expects, in order."""
        return tuple(seen for seen in self.sample.observations if not seen.ok)


Judge = Callable[[Exhibit], Finding]


def is_unavailable(observation: Observation) -> bool:
    """Whether the agent says that it cannot examine the step here, or that there is nothing
    to examine: EOPNOTSUPP, or a detail that says so."""
    return observation.errno == errno.EOPNOTSUPP or observation.detail.startswith("unavailable")


def is_content(observation: Observation) -> bool:
    """Whether a failure is one of the memory itself, and no refusal: wrong bytes, a signal,
    a child that died of it."""
    return observation.step in _CONTENT or observation.errors > 0


def first_failure(exhibit: Exhibit) -> Finding:
    """The first step that failed decides: refused by the kernel, or not met.

    What comes after it does not count, because a refused step leaves its consequences undone.
    """
    return _judge(exhibit, exhibit.failed[:1])


def content_first(exhibit: Exhibit) -> Finding:
    """Wrong content decides, a refusal only where all content is right: for mere advice."""
    wrong = tuple(x for x in exhibit.failed if is_content(x) and not is_unavailable(x))
    return _judge(exhibit, wrong[:1] or exhibit.failed[:1])


def _judge(exhibit: Exhibit, failed: tuple[Observation, ...]) -> Finding:
    if not exhibit.sample.observations:
        return Finding(Verdict.FAILED, "The run came back without a single observation.")
    if not failed:
        return Finding(Verdict.MET, describe(exhibit.sample.observations))
    seen = failed[0]
    if is_unavailable(seen):
        return Finding(Verdict.UNAVAILABLE, tell(seen, exhibit.lines))
    verdict = Verdict.NOT_MET if is_content(seen) else Verdict.REFUSED
    return Finding(verdict, tell(seen, exhibit.lines))


@dataclass(frozen=True, slots=True)
class Property:
    """One question to a mechanism."""

    name: str
    title: str
    """What holds when the property is met, in one sentence."""
    answers: str
    """The part of the design, or the reviewer's objection, that it answers."""
    build: Callable[[int], tuple[Step, ...]]
    """The steps for a page size in bytes."""
    judge: Judge = first_failure
    needs: tuple[Need, ...] = ()

    def program(self, page_size: int) -> Program:
        """The program for ``page_size`` bytes; it observes everything.

        It ends with a snapshot ``end``, so that every sample has memory to show as evidence.
        """
        steps = (*self.build(page_size), Measure("end"))
        return Program(f"check:{self.name}", steps, observe_all=True)

    @property
    def thp(self) -> bool:
        """Whether it runs with transparent huge pages permitted."""
        return bool({Need.THP, Need.THP_ALWAYS} & set(self.needs))
