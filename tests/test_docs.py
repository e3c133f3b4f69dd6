"""The manual: what it shows is what there is, and what it tells to run does run."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from refbench.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOLD = re.compile(r"^<!-- run: (\S+) -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")

Refbench = Callable[..., "CompletedProcess[str]"]


def found(pattern: re.Pattern[str]) -> list[tuple[str, str, str]]:
    """(page, first group, second group) of every match in the manual."""
    return [
        (str(page.relative_to(ROOT)), match[1], match[2])
        for page in PAGES
        for match in pattern.finditer(page.read_text(encoding="utf-8"))
    ]


def test_the_worked_examples_are_there() -> None:
    shown = {path for _, path, _ in found(SHOWN)}
    assert {
        "plugins/refbench-prefault/refbench_prefault/prefault.c",
        "plugins/refbench-prefault/refbench_prefault/__init__.py",
        "plugins/refbench-calloc-table/refbench_calloc_table.py",
        "plugins/refbench-unshare/refbench_unshare.py",
    } <= shown


@pytest.mark.parametrize(("page", "path", "text"), found(SHOWN))
def test_a_file_is_shown_as_it_is(page: str, path: str, text: str) -> None:
    assert text == (ROOT / path).read_text(encoding="utf-8"), f"{page} shows another {path}"


@pytest.mark.parametrize(("page", "distribution", "lines"), found(TOLD))
def test_what_a_page_tells_to_run_runs(
    page: str,
    distribution: str,
    lines: str,
    install: Callable[..., Path],
    refbench: Refbench,
    tmp_path: Path,
) -> None:
    environment = {"PYTHONPATH": os.fspath(install(ROOT / distribution)), "COLUMNS": "200"}
    for line in lines.splitlines():
        command, *arguments = shlex.split(line, comments=True)
        assert command == "refbench", f"{page}: {line}"
        answer = refbench(*arguments, env=environment, cwd=tmp_path)
        assert answer.returncode == 0, f"{line}\n{answer.stdout}\n{answer.stderr}"


def test_a_channel_and_a_probe_take_at_most_60_lines() -> None:
    source = ROOT / "plugins" / "refbench-unshare" / "refbench_unshare.py"
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_metric_is_explained_as_the_code_does() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, metric in METRICS.items():
        row = f"| `{name}` | {metric.about} | {metric.blind} |"
        assert row in text, f"docs/metrics.md needs the line\n{row}"


def test_every_environment_variable_is_explained() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sources = [path for top in ("src", "backends") for path in (ROOT / top).rglob("*.py")]
    used = {
        name for path in sources for name in re.findall(r"\bREFBENCH_[A-Z_]+", path.read_text())
    }
    used.discard("REFBENCH_MARK")  # refbench sets it for its own processes, nobody else does
    assert used
    assert sorted(name for name in used if f"`{name}`" not in text) == []


def test_every_exit_code_is_explained(refbench: Refbench) -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    answer = refbench("--help")
    codes = set(re.findall(r"\b(\d+) [a-z]", answer.stdout.partition("Exit codes:")[2]))
    assert len(codes) > 5
    assert sorted(code for code in codes if f"| {code} |" not in text) == []
