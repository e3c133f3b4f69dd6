"""docs/answers.md: every figure is what the model says today."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refbench.grammar import Spec, format_size
from refbench.plugins import registry
from refbench.program import Fork, Map, Measure, Phase, Program, Repeat, Touch
from refbench.runner import open_target
from refbench.samples import Failure, Sample
from refbench.words import Cell, Pattern

PAGE = {"simulator": 4096, "simulator:page=16KiB": 16384, "simulator:page=64KiB": 65536}
GIB = 1 << 30
TIB = 1 << 40


def work_out(target: str, workload: str | Program, mechanism: str) -> Sample | Failure:
    """The one sample, or why there is none."""
    found = registry()
    spec = Spec.parse(mechanism, what="mechanism")
    canonical = found.mechanism(spec).canonical(spec)
    if isinstance(workload, str):
        asked = Spec.parse(workload, what="workload")
        program = found.workload(asked).program(asked, PAGE[target])
    else:
        program = workload
    _, session = open_target(found, target)
    with session:
        run = session.run(Cell(program.name, canonical, Pattern(), program), 0, 60.0)
    return run.failure or run.samples[-1]


def line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def figures(answer: Sample | Failure, *labels: str) -> tuple[str, ...]:
    """Faults and traps of all phases; memory at each label."""
    if isinstance(answer, Failure):
        return (f"{answer.kind}: {answer.wanted} of {answer.limit}",)
    phases = [counters for name, counters in answer.phases.items() if name != "setup"]
    counts = sum(each.faults for each in phases), sum(each.traps for each in phases)
    memory = []
    for label in labels:
        there = answer.memory[label]
        memory += [format_size(there.cgroup_current or 0), format_size(there.pte)]
    return (*(f"{count:,}" for count in counts), *memory)


def reference_page() -> Iterator[str]:
    for mechanism in ("anon", "refpage", "refpage-dev", "refpage-dev:handler=naive", "memfd-full"):
        answer = work_out("simulator", "dense-touch:size=16TiB,access=read", mechanism)
        yield line(f"`{mechanism}`", *figures(answer, "touch"))


FLEET = Program(
    "fleet",
    (
        Phase("map"),
        Map(0, TIB),
        Phase("touch"),
        Touch(0, 0, TIB, "write", 256 * 4096),
        Measure("touch"),
        Phase("forks"),
        Repeat(10_000, (Fork((Touch(0, 0, TIB, "write", 1 << 16, count=64), Measure("child"))),)),
        Phase(),
    ),
)


def fleet() -> Iterator[str]:
    for mechanism in ("anon", "memset", "memfd-full", "uffd-sigbus:atfork", "refpage"):
        answer = work_out("simulator", FLEET, mechanism)
        yield line(f"`{mechanism}`", *figures(answer, "touch", "child"))


def pages() -> Iterator[str]:
    for mechanism in ("anon", "memset", "memfd:block=16", "memfd-full", "uffd-sigbus", "refpage"):
        for target, size in PAGE.items():
            stride = max(1, 65536 // size)
            answer = work_out(target, f"sparse-touch:size=1GiB,stride={stride}", mechanism)
            yield line(f"`{mechanism}`", format_size(size), *figures(answer, "touch"))


def walls() -> Iterator[str]:
    cases = (
        ("memfd:block=1", "dense-touch:size={},access=read", 4096, 65_513),
        ("memfd:block=16", "dense-touch:size={},access=read", 16 * 4096, 65_513),
        ("memfd:block=512", "dense-touch:size={},access=read", 512 * 4096, 65_513),
        ("segv", "sparse-touch:size={},stride=16", 16 * 4096, 32_757),
    )
    for mechanism, workload, unit, most in cases:
        fits = work_out("simulator", workload.format(most * unit), mechanism)
        assert isinstance(fits, Sample), fits
        assert isinstance(
            work_out("simulator", workload.format((most + 1) * unit), mechanism), Failure
        )
        yield line(f"`{mechanism}`", f"{most:,}", format_size(most * unit))
    for mechanism in ("anon", "memset", "memfd-full", "uffd-sigbus", "refpage"):
        answer = work_out("simulator", "sparse-touch:size=8TiB,stride=16", mechanism)
        assert isinstance(answer, Sample), answer
        yield line(f"`{mechanism}`", "none", f"{answer.memory['touch'].vmas - 17} VMA for 8 TiB")


@pytest.mark.parametrize("answers", [reference_page, fleet, pages, walls])
def test_the_manual_has_these_figures(answers) -> None:  # type: ignore[no-untyped-def]
    manual = (Path(__file__).parents[3] / "docs" / "answers.md").read_text(encoding="utf-8")
    missing = [row for row in answers() if row not in manual]
    assert missing == []
