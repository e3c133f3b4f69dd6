"""The workload pdfium: its program, what it refuses beforehand, real runs of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from refbench.errors import Unsupported, UsageError
from refbench.execution import PRIVATE, SUPPLIED, refuse_other_memory
from refbench.grammar import Spec
from refbench.pdfium.document import generated
from refbench.pdfium.library import renderer
from refbench.plugins import registry
from refbench.program import Execute, Phase, Program
from refbench.samples import Sample

Refbench = Callable[..., "CompletedProcess[str]"]
REFUSED = 5
"""Exit code when nothing at all could be measured."""


def build(text: str) -> Program:
    """The program of a workload that is written out."""
    spec = Spec.parse(text)
    return registry().workload(spec).program(spec, 4096)


def test_the_program_executes_the_renderer_once() -> None:
    program = build("pdfium")
    tool = renderer()
    assert program.steps == (
        Phase("render"),
        Execute("render", ("--library", "@libpdfium.so", "--pages", "1-100", "@document.pdf")),
        Phase(),
    )
    assert dict(program.files) == {
        "render": tool.program,
        "libpdfium.so": tool.library,
        "document.pdf": generated(),
    }


def test_its_cases_are_frozen() -> None:
    cases = registry().cases
    assert str(cases["pdfium"].workload) == "pdfium"
    assert str(cases["pdfium-short"].workload) == "pdfium:pages=1-80"
    assert not cases["pdfium"].bench
    assert not cases["pdfium-short"].bench


def test_what_it_is_estimated_to_take_grows_with_its_pages() -> None:
    few, many = (
        next(step for step in build(text).steps if isinstance(step, Execute)).seconds
        for text in ("pdfium:pages=12-16", "pdfium")
    )
    assert 0 < few < many


@pytest.mark.parametrize(
    ("options", "says", "remedy"),
    [
        ("pages=100-120", "there is no page 120", "pages=FIRST-LAST"),
        ("pages=3-2", "'3-2' is no range of pages", "pages=1-100"),
        ("pages=all", "'all' is no range of pages", "pages=1-100"),
        ("pages=", "'' is no range of pages", "pages=1-100"),
        ("pdf=/dev/null", "/dev/null is not a file", "pdf=PATH"),
        ("pdf=/etc/passwd", "/etc/passwd is no PDF document, or a broken one", "pdf=PATH"),
        ("library=/etc/passwd", "/etc/passwd is no 64-bit shared object", "library=PATH"),
        ("colour=no", "has no option 'colour'", "pages"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(options: str, says: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        build(f"pdfium:{options}")
    assert remedy in caught.value.remedy


def test_the_command_line_says_it_in_one_line(refbench: Refbench, tmp_path: Path) -> None:
    answer = refbench("run", "-m", "anon", "-w", "pdfium:pages=7-200", cwd=tmp_path)
    assert answer.returncode == UsageError.exit_code
    assert answer.stderr.count("\n") == 1
    assert "there is no page 200" in answer.stderr
    assert "Traceback" not in answer.stderr


def sample(values: Mapping[str, int]) -> Sample:
    """A sample in which an executed program reported ``values``."""
    return Sample(index=1, phases={}, memory={}, values=values)


@pytest.mark.parametrize(
    ("private", "supplied", "counts"),
    [(1000, 950, True), (1000, 949, False), (1 << 40, 1 << 40, True), (0, 0, True)],
)
def test_below_95_percent_of_private_memory_a_run_is_refused(
    private: int, supplied: int, counts: bool
) -> None:
    program = build("pdfium:pages=12")
    samples = (
        sample({PRIVATE: 1000, SUPPLIED: 1000}),
        sample({PRIVATE: private, SUPPLIED: supplied}),
    )
    if counts:
        refuse_other_memory(program, samples)
        return
    with pytest.raises(Unsupported, match=r"supplied 94\.9 % .* \(949 of 1000 bytes\)"):
        refuse_other_memory(program, samples)


def test_what_no_allocator_of_ours_served_is_not_judged() -> None:
    refuse_other_memory(build("pdfium:pages=12"), (sample({"pages": 1}),))


def measured(refbench: Refbench, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The runs of a journal that the command line filled."""
    answer = refbench("run", *arguments, "-o", folder / "out", "-q", cwd=folder, timeout=110)
    assert answer.returncode in (0, REFUSED), answer.stderr
    lines = (folder / "out" / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["type"] == "run"]


def test_bitmaps_are_the_same_under_every_mechanism(refbench: Refbench, tmp_path: Path) -> None:
    mechanisms = "anon,memset,memset-malloc,memfd:block=16,memfd-full,uffd,ksm"
    runs = measured(
        refbench,
        tmp_path,
        "-m",
        mechanisms,
        "-w",
        "pdfium-short",
        "--runs",
        "1",
        "--iterations",
        "1",
    )
    bitmaps: dict[str, dict[str, int]] = {}
    for line in runs:
        run, mechanism = line["run"], line["cell"]["mechanism"]
        if run.get("failure"):
            assert run["failure"]["kind"] == "unsupported", run["failure"]
            continue
        values = run["samples"][-1]["values"]
        assert 100 * values[SUPPLIED] >= 95 * values[PRIVATE], mechanism
        bitmaps[mechanism] = {k: v for k, v in values.items() if k.endswith("hash")}
    assert {"anon", "memset", "memset-malloc", "memfd:block=16", "memfd-full"} <= set(bitmaps)
    assert len(bitmaps["anon"]) == 81
    assert all(found == bitmaps["anon"] for found in bitmaps.values())


@pytest.mark.parametrize("mechanism", ["segv", "uffd-sigbus"])
def test_mechanisms_that_fail_system_calls_are_refused(
    mechanism: str, refbench: Refbench, tmp_path: Path
) -> None:
    (line,) = measured(refbench, tmp_path, "-m", mechanism, "-w", "pdfium:pages=12", "--runs", "1")
    assert line["run"]["failure"]["kind"] == "unsupported"


def test_the_simulator_refuses_it(refbench: Refbench, tmp_path: Path) -> None:
    (line,) = measured(
        refbench, tmp_path, "-b", "simulator", "-m", "anon", "-w", "pdfium-short", "--runs", "1"
    )
    assert line["run"]["failure"]["kind"] == "unsupported"


def test_too_few_pages_are_refused(refbench: Refbench, tmp_path: Path) -> None:
    """What the library maps for itself weighs too much beside five pages."""
    (line,) = measured(refbench, tmp_path, "-m", "anon", "-w", "pdfium:pages=12-16", "--runs", "1")
    assert line["run"]["failure"]["kind"] == "unsupported"
    assert "95 % is the least that counts" in line["run"]["failure"]["message"]
