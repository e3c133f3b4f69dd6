"""``refbench explain``: what it prints, how it ends, what the manual shows of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from refbench_simulator import rules
from refbench_simulator.model.events import Event
from refbench_simulator.picture import KINDS
from refbench_simulator.work import KINDS as WORK

Refbench = Callable[..., "CompletedProcess[str]"]
NARROW = {"COLUMNS": "80"}
TINY = ("-w", "sparse-touch:size=256KiB")
MANUAL = Path(__file__).resolve().parents[3] / "docs" / "simulator.md"
BAR = re.compile(rf"[{''.join(kind.sign for kind in WORK)}]{{26}}")


def manual() -> str:
    return MANUAL.read_text(encoding="utf-8")


def block(what: str) -> str:
    """The block of the manual behind a mark."""
    mark = rf"^<!-- {re.escape(what)} -->\n```\n(.*?)^```$"
    found = re.search(mark, manual(), re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/simulator.md has no block {what!r}"
    return found[1]


def timeless(text: str) -> list[str]:
    """Everything but what a new cost table changes: times, their bars, the note about them.

    Sentences beside longer times have other line breaks, so that words count, not lines.
    """
    text = re.sub(r"^~ .*?\n\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"~[\d.]+ (ns|µs|ms|s)( \(assumed\))?", "", text)
    return BAR.sub("", text).split()


@pytest.fixture(scope="module")
def explained(refbench: Refbench) -> Callable[..., str]:
    """What the command prints, on 80 columns."""

    def run(*arguments: str | Path, code: int = 0) -> str:
        done = refbench("explain", *arguments, env=NARROW)
        assert done.returncode == code, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def as_json(refbench: Refbench) -> Callable[..., Any]:
    def run(*arguments: str, code: int = 0) -> Any:
        done = refbench("explain", "--json", *arguments)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    return run


def test_the_worked_example_is_what_comes_out(
    explained: Callable[..., str], tmp_path: Path
) -> None:
    program = tmp_path / "faults.txt"
    program.write_text(block("explained: faults.txt"), encoding="utf-8")
    shown = explained("--program", program, "-m", "anon").partition("program:faults: side by")[0]
    assert timeless(shown) == timeless(block("explanation of: faults.txt"))


def test_the_manual_lists_every_rule() -> None:
    text = manual()
    for rule in rules.RULES:
        row = f"| `{rule.id}` | {rule.sentence} | `{rule.function}` | `{rule.file}` |"
        assert row in text, f"docs/simulator.md needs the line\n{row}"


def test_the_manual_explains_every_sign() -> None:
    for _, sign, meaning in KINDS:
        if sign.strip():
            assert f"| `{sign}` | {meaning} |" in manual()


@pytest.mark.parametrize("mechanism", ["anon", "memfd", "segv", "uffd"])
def test_it_fits_on_80_columns(explained: Callable[..., str], mechanism: str) -> None:
    text = explained(*TINY, "-m", mechanism)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "Phase touch" in text


def test_no_time_stands_without_its_error(explained: Callable[..., str]) -> None:
    text = explained(*TINY, "-m", "memfd,uffd")
    pages = re.split(r"^(?=sparse-touch)", text, flags=re.MULTILINE)[1:]
    assert len(pages) == 3
    for page in pages:
        before, _, behind = page.partition("median error")
        assert behind
        assert not re.search(r"\d (ns|µs|ms)\b", before)
        assert not re.search(r"(?<![\d~.+-])[\d.]+ (ns|µs|ms)\b", behind)


def test_mechanisms_stand_side_by_side_with_the_baselines(explained: Callable[..., str]) -> None:
    text = explained(*TINY, "-m", "memfd,uffd-sigbus", "--summary")
    assert re.search(r"^ +memfd +uffd-sigbus +anon +memset$", text, re.MULTILINE)
    assert "Phase" not in text
    together = " ".join(text.split())
    assert re.search(r"memfd against anon: [\d.]+ times the time \(VMAs ~\+", together)
    assert "memfd against memset:" in together
    assert "anon against" not in together


def test_several_workloads_are_told_one_after_the_other(explained: Callable[..., str]) -> None:
    text = explained(*TINY, "-w", "dense-touch:size=64KiB", "-m", "anon", "--summary")
    assert re.findall(r"^(\S+): side by side$", text, re.MULTILINE) == [
        "sparse-touch:size=256KiB",
        "dense-touch:size=64KiB",
    ]


def test_json_has_everything(as_json: Callable[..., Any]) -> None:
    document = as_json(*TINY, "-m", "memset")
    assert "median error" in document["clock_note"]
    assert document["error"]["median"] > 0
    cells = {cell["mechanism"]: cell for cell in document["cells"]}
    assert list(cells) == ["memset", "anon"]
    assert not cells["anon"]["asked"]
    mine = cells["memset"]
    steps = {step["text"]: step for step in mine["steps"]}
    actions = {action["rule"]["id"]: action for action in steps["map 0 262144"]["actions"]}
    assert actions["first-store"]["events"]["clear"] == 64
    assert actions["first-store"]["spans"] == [
        {"region": 0, "start": 0, "end": 262144, "pages": 64, "every": 64, "run": 64}
    ]
    assert actions["fill"]["rule"]["function"] == "rb_fill()"
    assert steps["map 0 262144"]["picture"]["rss_anon"] == 262144
    assert sum(mine["summary"]["memory"].values()) == mine["summary"]["lost"]
    assert set(mine["phases"]["map"]["events"]) <= {event.value for event in Event}
    assert sum(mine["phases"]["map"]["times"].values()) == pytest.approx(
        mine["phases"]["map"]["ns"], abs=len(WORK)
    )


def test_what_lost_means_is_what_run_says(
    as_json: Callable[..., Any], refbench: Refbench, tmp_path: Path
) -> None:
    done = refbench(
        "run", "-b", "simulator", *TINY, "-m", "memfd", "--runs", "1", "--iterations", "1",
        "--json", "-o", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (section,) = json.loads(done.stdout)["report"]["sections"]
    figures = section["blocks"][0]["rows"][0]["figures"]
    summary = as_json(*TINY, "-m", "memfd")["cells"][0]["summary"]
    assert figures["lost"]["value"] == summary["lost"]
    assert figures["time"]["value"] == pytest.approx(summary["ns"] / 1e9)
    assert figures["faults"]["value"] == summary["faults"]


def test_a_limit_is_explained_and_ends_with_5(refbench: Refbench) -> None:
    done = refbench("explain", "-b", "simulator:max-map-count=40", *TINY, "-m", "memfd", env=NARROW)
    assert done.returncode == 5
    assert "map 0 262144" in done.stdout
    assert "The run ends here." in done.stdout
    assert "limit hit: block=1 over 262144 bytes" in " ".join(done.stdout.split())
    assert "under memfd: limit hit" in done.stderr


def test_a_lost_pattern_is_explained(refbench: Refbench) -> None:
    done = refbench("explain", "-w", "fork-after-alloc:size=64KiB", "-m", "uffd", env=NARROW)
    assert done.returncode == 5
    assert "in the child" in done.stdout
    assert "wrong content" in done.stdout


def test_one_result_is_enough(explained: Callable[..., str]) -> None:
    text = explained("-w", "fork-after-alloc:size=64KiB", "-m", "uffd,memset", "--summary")
    assert "uffd: wrong content" in text


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("-w", "sparse-read"), "No mechanism"),
        (("-m", "anon"), "No workload"),
        (("-m", "anom", "-w", "sparse-read"), "Did you mean 'anon'"),
        (("-m", "anon", "-w", "sparse-reed"), "Did you mean 'sparse-read'"),
        (("-m", "anon", "-w", "sparse-read", "-b", "host"), "is not the simulator"),
        (("-m", "anon", "--program", "nowhere.txt"), "cannot be read"),
        (("-m", "anon", "-w", "sparse-read", "--from", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_mistakes_are_named(refbench: Refbench, arguments: tuple[str, ...], what: str) -> None:
    done = refbench("explain", *arguments)
    assert done.returncode == 2
    assert what in done.stderr
    assert not done.stdout


def test_a_saved_machine_is_simulated(as_json: Callable[..., Any], tmp_path: Path) -> None:
    lab = tmp_path / "lab.toml"
    lab.write_text('format = 1\n[machine]\nkernel = "6.12"\narch = "arm64"\npage = "64KiB"\n')
    document = as_json("-w", "dense-touch:size=1MiB", "-m", "anon", "--from", str(lab))
    assert (document["kernel"], document["page_size"]) == ("6.12", 65536)
    assert "unchecked" in document["clock_note"]


def test_output_is_the_same_under_any_hash_seed(refbench: Refbench) -> None:
    once, again = (
        refbench("explain", *TINY, "-m", "memfd,segv", env={**NARROW, "PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    )
    assert once.returncode == 0
    assert once.stdout == again.stdout
