"""``refbench run``, ``plan`` and ``report`` on this machine, end to end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyperf
import pytest

from refbench import journal

Refbench = Callable[..., "CompletedProcess[str]"]
PROGRAM = (sys.executable, "-m", "refbench.cli")
SMALL = ("-w", "dense-touch:size=1MiB", "--iterations", "1")


def whole_lines(path: Path) -> list[str]:
    """The lines of a journal that end in a newline."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def rows_of(found: Any) -> list[Any]:
    """The rows of the only block of a report."""
    (section,) = found["report"]["sections"]
    (block,) = section["blocks"]
    return list(block["rows"])


def test_a_run_leaves_its_journal_and_its_reports(measured: Path) -> None:
    names = sorted(path.name for path in measured.iterdir())
    assert names == ["journal.jsonl", "pyperf.json", "report.html", "report.md"]
    content = journal.read(measured / "journal.jsonl")
    assert content.complete
    assert len(content.runs) == 8
    assert "<svg" in (measured / "report.html").read_text()
    assert "| anon" in (measured / "report.md").read_text()
    assert len(pyperf.BenchmarkSuite.load(str(measured / "pyperf.json"))) >= 2


def test_a_run_says_the_estimate_the_table_and_the_paths(
    refbench: Refbench, tmp_path: Path
) -> None:
    done = refbench("run", "-m", "anon", *SMALL, "--runs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"host: 1 cell, 2 runs .* (less than 1 s|about \d+ s)", done.stderr)
    assert "dense-touch" in done.stdout
    (place,) = (tmp_path / "reports").iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}Z-1", place.name)
    for name in ("journal.jsonl", "report.html", "pyperf.json"):
        assert str(Path("reports") / place.name / name) in done.stdout


def test_globs_parameters_and_several_mechanisms(as_json: Callable[..., Any]) -> None:
    found = as_json("plan", "-m", "memfd*,anon", "-w", "sparse-*", "-p", "size=4MiB,stride=2")
    (target,) = found["targets"]
    assert {cell["mechanism"] for cell in target["cells"]} == {"memfd", "memfd-full", "anon"}
    assert all("size=4MiB" in cell["workload"] for cell in target["cells"])
    assert all("stride=2" in cell["workload"] for cell in target["cells"])


def test_a_plan_counts_and_estimates(refbench: Refbench) -> None:
    done = refbench("plan", "-m", "anon", *SMALL, "--runs", "7", "--seed", "11")
    assert done.returncode == 0, done.stderr
    assert "1 cell, 7 runs each of 1 + 1 samples" in done.stdout
    assert "seed 11" in done.stdout


def test_some_failed_cells_are_a_result(refbench: Refbench, tmp_path: Path) -> None:
    done = refbench(
        *("run", "-m", "anon,memfd:block=1", "-w", "sparse-touch:size=2GiB,stride=4096"),
        *("--runs", "1", "--iterations", "1", "-o", tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert "limit hit" in done.stdout
    assert "max_map_count" in done.stdout


def test_a_single_cell_at_a_limit_ends_as_that_paragraph(
    refbench: Refbench, tmp_path: Path
) -> None:
    done = refbench(
        *("run", "-m", "memfd:block=1", "-w", "dense-touch:size=512MiB"),
        *("--runs", "2", "--quiet", "-o", tmp_path / "run"),
    )
    assert done.returncode == 5
    (line,) = done.stderr.strip().splitlines()
    assert "limit hit" in line
    assert "131072" in line, "the mappings that are wanted"
    limit = int(Path("/proc/sys/vm/max_map_count").read_text())
    assert str(limit) in line
    assert re.search(r"block=\d+", line), "the smallest block that fits"


def test_a_size_larger_than_memory(refbench: Refbench, tmp_path: Path) -> None:
    done = refbench(
        *("run", "-m", "memset", "-w", "dense-touch:size=8TiB"),
        *("--runs", "1", "--quiet", "-o", tmp_path / "run"),
    )
    assert done.returncode == 5
    (line,) = done.stderr.strip().splitlines()
    assert "limit hit" in line
    assert "8TiB" in line


def test_a_program_and_a_pattern_file_of_ones_own(
    as_json: Callable[..., Any], tmp_path: Path
) -> None:
    page = tmp_path / "page"
    page.write_bytes(bytes(range(256)) * 16)
    program = tmp_path / "mine.txt"
    program.write_text(
        "refbench-program 1\nname mine\nphase map\nmap 0 65536\nphase -\n"
        "expect 0 0 65536 pattern\nphase touch\ntouch 0 0 65536 write 4096\nphase -\n"
        "measure touch\nphase unmap\nunmap 0 0 65536\n"
    )
    found = as_json(
        *("run", "--program", program, "--pattern", f"file:{page}", "-m", "memset,memfd"),
        *("--runs", "2", "-o", tmp_path / "run"),
    )
    assert found["failures"] == {}
    assert found["report"]["sections"][0]["blocks"][0]["label"] == "program:mine"


def test_a_program_without_phases_has_no_times_and_is_no_error(
    as_json: Callable[..., Any], tmp_path: Path
) -> None:
    program = tmp_path / "untimed.txt"
    program.write_text("refbench-program 1\nmap 0 65536\nmeasure there\n")
    out = tmp_path / "run"
    found = as_json("run", "--program", program, "-m", "anon", "--runs", "1", "-o", out)
    assert found["failures"] == {}
    assert (out / "report.md").exists()
    assert not (out / "pyperf.json").exists()


def test_a_program_with_a_mistake_is_named_by_its_line(refbench: Refbench, tmp_path: Path) -> None:
    program = tmp_path / "wrong.txt"
    program.write_text("refbench-program 1\nmap 0 65536\nfrobnicate 0\n")
    done = refbench("run", "--program", program, "-m", "anon", "-o", tmp_path / "run")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "frobnicate" in line
    assert "3" in line


def test_a_budget_stops_after_three_rounds(as_json: Callable[..., Any], tmp_path: Path) -> None:
    found = as_json(
        *("run", "-m", "anon", *SMALL, "--runs", "500", "--budget", "1ms", "-o", tmp_path / "run")
    )
    assert found["rounds"] == {"host": 3}
    assert journal.read(tmp_path / "run" / "journal.jsonl").complete


def test_an_existing_journal_is_never_overwritten(refbench: Refbench, copied: Path) -> None:
    before = (copied / "journal.jsonl").read_bytes()
    done = refbench("run", "-m", "anon", *SMALL, "-o", copied)
    assert done.returncode == 4
    assert "--resume" in done.stderr
    assert (copied / "journal.jsonl").read_bytes() == before


def test_a_finished_run_has_nothing_to_resume(refbench: Refbench, measured: Path) -> None:
    done = refbench("run", "--resume", measured)
    assert done.returncode == 2
    assert "complete" in done.stderr


def test_resume_measures_only_what_is_missing(as_json: Callable[..., Any], copied: Path) -> None:
    path = copied / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5]))
    found = as_json("run", "--resume", copied)
    assert (found["kept"], found["measured"]) == (3, 5)
    assert Path(found["html"]).is_file()
    mechanisms = [row["cell"]["mechanism"] for row in rows_of(found)]
    assert sorted(mechanisms) == ["anon", "memset"]
    assert path.read_text().startswith("".join(lines[:5]))
    content = journal.read(path)
    assert content.complete
    keys = {(line.cell.key, line.round) for line in content.runs}
    assert len(keys) == len(content.runs) == 8


def test_resume_finds_a_pattern_file_from_another_directory(
    refbench: Refbench, tmp_path: Path
) -> None:
    here, elsewhere = tmp_path / "a+b", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    (here / "page").write_bytes(b"page")
    done = refbench(
        *("run", "--pattern", "file:page", "-w", "sparse-touch:size=64KiB", "-m", "anon,memset"),
        *("--runs", "2", "--quiet", "-o", tmp_path / "run"),
        cwd=here,
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run" / "journal.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    done = refbench("run", "--resume", tmp_path / "run", "--quiet", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    content = journal.read(path)
    assert len({(line.cell.key, line.round) for line in content.runs}) == 4
    assert {line.cell.pattern.partition("@")[0] for line in content.runs} == {"file:page"}


def test_resume_without_a_path_takes_the_newest_unfinished(
    as_json: Callable[..., Any], measured: Path, tmp_path: Path
) -> None:
    lines = (measured / "journal.jsonl").read_text().splitlines(keepends=True)
    for name, kept, age in (("old", 4, 200), ("new", 6, 100), ("finished", len(lines), 0)):
        path = tmp_path / "reports" / name / "journal.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(lines[:kept]))
        when = path.stat().st_mtime - age
        os.utime(path, (when, when))
    found = as_json("run", "--resume", cwd=tmp_path)
    assert Path(found["journal"]).parent.name == "new"


def test_a_cut_last_line_is_left_out_and_said(refbench: Refbench, copied: Path) -> None:
    path = copied / "journal.jsonl"
    data = path.read_bytes()
    end = data.rindex(b"\n", 0, -1)
    path.write_bytes(data[: end - 40])
    done = refbench("report", path, "--json")
    assert done.returncode == 0
    (line,) = done.stderr.strip().splitlines()
    assert "is cut in the middle of its last line" in line
    assert f"refbench run --resume {path}" in line
    assert sorted(row["runs"] for row in rows_of(json.loads(done.stdout))) == [3, 4]
    resumed = refbench("run", "--resume", path, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["measured"] == 1


def test_a_journal_damaged_elsewhere_is_refused(refbench: Refbench, copied: Path) -> None:
    path = copied / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = lines[3][:50] + "\n"
    path.write_text("".join(lines))
    for arguments in (("report", path), ("compare", path, path), ("run", "--resume", path)):
        done = refbench(*arguments)
        assert done.returncode == 4
        (line,) = done.stderr.strip().splitlines()
        assert "line 4, is damaged" in line


def test_report_makes_the_same_files_again(
    refbench: Refbench, measured: Path, tmp_path: Path
) -> None:
    done = refbench("report", measured, "-o", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    again = (tmp_path / "again" / "report.md").read_text()
    assert again == (measured / "report.md").read_text()
    markdown = refbench("report", measured, "--markdown")
    assert markdown.stdout == again


def test_ctrl_c_keeps_what_is_measured_and_says_how_to_go_on(tmp_path: Path) -> None:
    place = tmp_path / "run"
    process = subprocess.Popen(
        [*PROGRAM, "run", "-m", "anon", *SMALL, "--runs", "100000", "-o", str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        while len(whole_lines(place / "journal.jsonl")) < 4:
            assert process.poll() is None, process.communicate()[1]
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert f"refbench run --resume {place / 'journal.jsonl'}" in error
    assert "Traceback" not in error
    content = journal.read(place / "journal.jsonl")
    assert not content.complete
    assert not content.cut
    assert f"{len(content.runs)} finished runs are kept" in error


@pytest.mark.parametrize("variant", ["same", "slower"])
def test_compare_flags_a_regression_and_nothing_else(
    refbench: Refbench, measured: Path, copied: Path, variant: str
) -> None:
    path = copied / "journal.jsonl"
    if variant == "slower":
        lines = []
        for text in path.read_text().splitlines():
            line = json.loads(text)
            for sample in line.get("run", {}).get("samples", []):
                for phase in sample["phases"].values():
                    phase["minor_faults"] += 100
            lines.append(json.dumps(line))
        path.write_text("\n".join(lines) + "\n")
    done = refbench("compare", measured, copied, "--json")
    assert done.returncode == (1 if variant == "slower" else 0), done.stderr
    found = json.loads(done.stdout)
    assert found["flagged"] == (2 if variant == "slower" else 0)
    assert found["comparison"]["rule"]["threshold"] == 0.02


def test_a_comparison_for_people(refbench: Refbench, measured: Path) -> None:
    table = refbench("compare", measured, measured, "--metric", "lost", "--all")
    assert table.returncode == 0, table.stderr
    assert "lost" in table.stdout
    assert "time" not in table.stdout
    assert "99% confidence" in table.stdout
    markdown = refbench("compare", measured, measured, "--markdown", "--all")
    assert "| cell" in markdown.stdout


def test_runs_without_a_common_cell_cannot_be_compared(
    refbench: Refbench, measured: Path, copied: Path
) -> None:
    lines = (measured / "journal.jsonl").read_text().splitlines(keepends=True)
    for place, name in ((copied, "anon"), (copied / "other", "memset")):
        place.mkdir(exist_ok=True)
        kept = [line for line in lines if '"run"' not in line or f'"mechanism":"{name}"' in line]
        (place / "journal.jsonl").write_text("".join(kept))
    compared = refbench("compare", copied, copied / "other")
    assert compared.returncode == 2
    assert "have no cell in common" in compared.stderr
