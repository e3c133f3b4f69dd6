"""Markdown, JSON and pyperf's JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from refbench.errors import StorageError, UsageError
from refbench.report import as_json, markdown, pyperf_export
from refbench.samples import Environment, Measurement

Make = Callable[..., tuple[Measurement, ...]]


def test_markdown_fits_a_mail_and_its_tables_are_regular(make: Make) -> None:
    lines = markdown.text(make()).splitlines()
    assert max(map(len, lines)) <= 100
    paragraphs = [line for line in lines if not line.startswith("|")]
    assert max(map(len, paragraphs)) <= 80
    for first, second in pairwise(lines):
        if first.startswith("|") and second.startswith("|"):
            assert first.count("|") == second.count("|")
            assert len(first) == len(second)


def test_markdown_has_ranks_failures_and_reasons(make: Make) -> None:
    text = markdown.text(make())
    assert "| anon " in text
    assert "(1=)" in text
    assert "limit hit [2]" in text
    assert "[1] KSM is off. Write 1 to run." in text


def test_markdown_of_failures_alone(make: Make) -> None:
    assert "unsupported [1]" in markdown.text(tuple(one for one in make() if one.failure))


def test_json_holds_what_the_tables_show(make: Make) -> None:
    document = json.loads(as_json.text(make()))
    assert document["version"] == 1
    rows = document["sections"][0]["blocks"][0]["rows"]
    assert rows[0]["cell"]["mechanism"] == "anon"
    assert rows[0]["figures"]["lost"]["value"] == 4 << 20
    assert rows[0]["figures"]["lost"]["source"] == "cgroup"
    assert rows[-1]["failure"]["kind"] in {"unsupported", "limit-hit", "wrong-content"}


def test_pyperf_gets_one_run_for_each_of_ours(make: Make) -> None:
    suite = pyperf_export.suite(make())
    time = suite.get_benchmark("sparse-write memset byte:0xAA time")
    assert time.get_nrun() == 8
    assert time.get_nvalue() == 16
    assert len(time.get_runs()[0].warmups) == 1
    assert time.median() == pytest.approx(0.243, rel=0.05)
    assert time.get_unit() == "second"
    lost = suite.get_benchmark("sparse-write memset byte:0xAA lost")
    assert (lost.median(), lost.get_unit()) == (64 << 20, "byte")


def test_pyperf_names_the_clock_where_it_is_not_real(make: Make) -> None:
    model = Environment(target="simulator", clock="modelled", kernel="-", arch="-", page_size=4096)
    names = pyperf_export.suite(make(where=model)).get_benchmark_names()
    assert "sparse-write memset byte:0xAA modelled time" in names
    both = pyperf_export.suite(make() + make(where=model)).get_benchmark_names()
    assert len(both) == len(set(both)) == 2 * len(names)


def test_pyperf_gets_both_of_a_cell_in_two_environments(make: Make, tmp_path: Path) -> None:
    ours = make()
    other = replace(ours[0].environment, facts={"governor": "powersave"})
    path = tmp_path / "report.json"
    pyperf_export.write(path, (*ours, *make(where=other)))
    names = json.loads(path.read_text())["benchmarks"]
    assert len(names) == 2 * len(pyperf_export.suite(ours).get_benchmark_names())
    suite = pyperf_export.suite((*ours, *make(where=other)))
    second = suite.get_benchmark("sparse-write anon byte:0xAA time (environment 2)")
    assert second.get_metadata()["refbench_governor"] == "powersave"


@pytest.mark.parametrize("command", ["stats", "hist", "compare_to"])
def test_pyperf_itself_accepts_the_file(make: Make, tmp_path: Path, command: str) -> None:
    path = tmp_path / "report.json"
    pyperf_export.write(path, make())
    files = [str(path)] * (2 if command == "compare_to" else 1)
    done = subprocess.run(
        [sys.executable, "-m", "pyperf", command, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "memset" in done.stdout or "compare" in command


def test_pyperf_with_nothing_to_export_is_an_error_that_says_so(make: Make, tmp_path: Path) -> None:
    failed = tuple(one for one in make() if one.failure)
    with pytest.raises(UsageError, match="every cell failed"):
        pyperf_export.write(tmp_path / "none.json", failed)
    with pytest.raises(StorageError, match="cannot be written"):
        pyperf_export.write(tmp_path / "missing" / "x.json", make()[:1])


def test_pyperf_leaves_out_what_is_not_positive(make: Make) -> None:
    one = make()[0]
    still = tuple(
        replace(
            run,
            samples=tuple(
                replace(s, memory={"start": s.memory["start"], "touch": s.memory["start"]})
                for s in run.samples
            ),
        )
        for run in one.runs
    )
    names = pyperf_export.suite([replace(one, runs=still)]).get_benchmark_names()
    assert names == ["sparse-write anon byte:0xAA time"]
