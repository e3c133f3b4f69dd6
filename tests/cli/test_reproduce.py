"""``refbench reproduce``: a published program measured again, its journal, and what goes wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from refbench import journal
from refbench.agent import compiler_probe

PROGRAM = [sys.executable, "-m", "refbench.cli"]
Refbench = Callable[..., "CompletedProcess[str]"]
THREE = ("-b", "simulator", "-m", "anon,memset,refpage", "--quick")
SMALL = ("-b", "host", "-m", "anon", "-p", "size=64KiB,count=1")


@pytest.fixture(scope="module")
def modelled(refbench: Refbench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the published program on the simulator. Not to be changed."""
    place = tmp_path_factory.mktemp("modelled") / "run"
    done = refbench("reproduce", "v4", *THREE, "-o", place)
    assert done.returncode == 0, done.stderr
    assert (place / "reproduce.md").read_text() == done.stdout.partition("\nreply:")[0]
    return place


def test_it_says_beforehand_how_long_and_then_where_everything_is(
    refbench: Refbench, tmp_path: Path
) -> None:
    done = refbench("reproduce", "v4", *THREE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"simulator: 9 cells, 1 run each of 1 \+ 1 samples, .*: ", done.stderr)
    for what in ("reply", "html", "markdown", "pyperf", "journal"):
        (path,) = re.findall(rf"^{what}: +(\S+)$", done.stdout, re.MULTILINE)
        assert (tmp_path / path).stat().st_size


def test_published_figures_stand_beside_ours_and_every_mechanism_below(modelled: Path) -> None:
    text = (modelled / "reproduce.md").read_text()
    assert "v4, 2021-06-19: DragonBoard 845c, median of 10 runs" in text
    assert "re-enacted" in text
    assert "count is 100, published was 1000" in text
    for seconds in ("3.962", "0.0267", "3.925", "1.481", "3.986", "3.385"):
        assert len(re.findall(rf"{re.escape(seconds)} s ", text)) == 1, seconds
    assert len(re.findall(r"^    anon ", text, re.MULTILINE)) == 6
    assert max(map(len, text.splitlines())) <= 78
    page = (modelled / "report.html").read_text()
    assert page.index("0.0267 s") < page.index('aria-labelledby="s1"')


def test_the_whole_program_is_reproduced(refbench: Refbench, tmp_path: Path) -> None:
    done = refbench("reproduce", "v4", *THREE[:-1], "-o", tmp_path / "run", "--markdown")
    assert done.returncode == 0, done.stderr
    assert "x86_64: reproduced\n" in done.stdout or "aarch64: reproduced\n" in done.stdout
    assert "Not as published" not in done.stdout
    assert "journal:" not in done.stdout


def test_a_journal_is_printed_again_and_nothing_is_measured(
    refbench: Refbench, modelled: Path, tmp_path: Path
) -> None:
    before = (modelled / "journal.jsonl").read_bytes()
    done = refbench("reproduce", "v4", "--journal", modelled, "--markdown", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (modelled / "reproduce.md").read_text()
    assert (modelled / "journal.jsonl").read_bytes() == before
    assert not list(tmp_path.iterdir())
    again = refbench("reproduce", "v4", "--journal", modelled, "-o", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "reproduce.md").read_text() == done.stdout
    assert (tmp_path / "again" / "report.html").exists()


def test_it_is_a_journal_like_any_other(refbench: Refbench, modelled: Path) -> None:
    assert refbench("report", modelled).returncode == 0
    assert refbench("compare", modelled, modelled).returncode == 0
    header = journal.read(modelled / "journal.jsonl").header
    assert header.request.boots == 3
    assert header.request.real_runs == 10


def test_as_json(as_json: Callable[..., Any], tmp_path: Path) -> None:
    found = as_json("reproduce", "v4", *THREE, "-o", tmp_path / "run")
    assert found["experiment"] == "v4"
    assert Path(found["journal"]).exists()
    (one,) = found["reproductions"]
    assert one["kind"] == "re-enacted"
    rows = one["found"]["tables"][0]["rows"]
    assert [row["mechanism"] for row in rows] == ["anon", "memset", "refpage"]
    assert set(rows[1]["ratios"]["time"]["anon"]) == {"estimate", "low", "high"}


def test_every_mechanism_of_the_target_unless_some_are_named(
    refbench: Refbench, tmp_path: Path
) -> None:
    done = refbench("reproduce", "v4", "-b", "simulator", "--quick", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    listed = {line.cell.mechanism for line in journal.read(tmp_path / "run" / "journal.jsonl").runs}
    assert {"anon", "memset", "refpage", "refpage-mmap", "refpage-dev", "uffd", "segv"} <= listed


def test_what_does_not_work_here_is_left_out_with_the_reason(
    refbench: Refbench, tmp_path: Path
) -> None:
    if not compiler_probe().ok:
        pytest.skip("no C compiler")
    place = tmp_path / "run"
    done = refbench("reproduce", "v4", *SMALL, "-m", "refpage", "--runs", "6", "-o", place)
    assert done.returncode == 0, done.stderr
    _, reasons = done.stdout.split("### Without a result")
    assert re.search(r"^- refpage: unsupported: ", reasons, re.MULTILINE)
    assert "refbench kernel build" in " ".join(reasons.split())


def test_ctrl_c_loses_nothing_and_resume_goes_on(refbench: Refbench, tmp_path: Path) -> None:
    if not compiler_probe().ok:
        pytest.skip("no C compiler")
    place = tmp_path / "run"
    path = place / "journal.jsonl"
    process = subprocess.Popen(
        [*PROGRAM, "reproduce", "v4", *SMALL, "--runs", "60", "-o", str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        while not path.exists() or path.read_bytes().count(b"\n") < 5:
            assert process.poll() is None, process.communicate()[1]
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert f"refbench reproduce v4 --resume {path}" in error
    assert "Traceback" not in error
    kept = journal.read(path)
    assert kept.runs
    assert not kept.complete
    part = refbench("reproduce", "v4", "--journal", path)
    assert part.returncode == 0
    assert "is not complete" in part.stderr
    done = refbench("reproduce", "v4", "--resume", path)
    assert done.returncode == 0, done.stderr
    whole = journal.read(path)
    assert whole.complete
    assert whole.runs[: len(kept.runs)] == kept.runs
    assert len(whole.runs) == 3 * 60
    assert "Medians of 60 runs" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["v5"], 2, "'v5' is not"),
        (["v4", "-b", "nowhere"], 2, "There is no backend 'nowhere'"),
        (["v4", "-m", "refpgae", "-b", "simulator"], 2, "Did you mean 'refpage'"),
        (["v4", "-p", "speed=9", "-b", "simulator"], 2, "no option 'speed'"),
        (["v4", "--runs", "0", "-b", "simulator"], 2, "measure nothing"),
        (["v4", "-b", "qemu:kernel=never-built"], 3, "refbench kernel list"),
        (["v4", "--journal", "nothing"], 2, "no journal at nothing"),
        (["v4", "--resume", "nothing"], 2, "no journal at nothing"),
        (["v4", "--resume"], 2, "no unfinished run"),
        (["v4", "--journal", "a", "--resume", "b"], 2, "Give one of them"),
        (["v4", "--journal", "a", "--quick"], 2, "--quick cannot be given with --journal"),
        (["v4", "--resume", "a", "-m", "anon"], 2, "cannot be given with --resume"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_nothing(
    refbench: Refbench, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    done = refbench("reproduce", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nothing_measured_is_an_error_with_the_reason(refbench: Refbench, tmp_path: Path) -> None:
    if not compiler_probe().ok:
        pytest.skip("no C compiler")
    done = refbench(
        *("reproduce", "v4", "-b", "host", "-m", "refpage", "-p", "size=64KiB,count=1"),
        *("--runs", "1", "-o", tmp_path / "run"),
    )
    assert done.returncode == 5, done.stdout
    assert "None of 3 cells could be measured: unsupported" in done.stderr


def test_the_journal_of_another_experiment_is_refused(refbench: Refbench, tmp_path: Path) -> None:
    place = tmp_path / "run"
    run = ("-b", "simulator", "-m", "anon", "-w", "dense-write", "-o", place)
    assert refbench("run", *run).returncode == 0
    done = refbench("reproduce", "v4", "--journal", place)
    assert done.returncode == 2
    assert "nothing of the experiment 'v4'" in done.stderr
