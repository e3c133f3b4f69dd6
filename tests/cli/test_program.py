"""What every command has in common: help, JSON, one-paragraph errors, exit codes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import click
import pytest

from refbench.cli.program import COMMANDS, main
from refbench.version import VERSION

Refbench = Callable[..., "CompletedProcess[str]"]

WRONG = {
    "unknown command": (["wrun"], "No such command 'wrun'"),
    "unknown option": (["run", "--runz", "3"], "No such option '--runz'"),
    "unknown mechanism": (["run", "-m", "memste"], "Did you mean 'memset'?"),
    "unknown mechanism option": (["run", "-m", "memfd:blok=2"], "Did you mean 'block'?"),
    "unknown workload": (["run", "-w", "dense-tuch"], "Did you mean 'dense-touch'?"),
    "unknown parameter": (["run", "-w", "dense-touch", "-p", "siz=1MiB"], "Did you mean 'size'?"),
    "unknown target": (["run", "-b", "hots"], "There is no backend 'hots'"),
    "unknown target option": (["run", "-b", "host:cpus=1"], "Did you mean 'cpu'?"),
    "glob without a match": (["run", "-m", "zz*"], "Nothing matches 'zz*'"),
    "target glob without a match": (["run", "-b", "zz*"], "No backend matches 'zz*'"),
    "size of zero": (["run", "-w", "dense-touch:size=0"], "Give at least 1B"),
    "negative stride": (["run", "-w", "sparse-touch:stride=-1"], "Give at least 1."),
    "impossible size": (["run", "-w", "dense-touch:size=1000TiB"], "Give at most 64TiB"),
    "no size": (["run", "-w", "dense-touch:size=big"], "Write for example 64MiB"),
    "no list of parameters": (["run", "-p", "=3"], "-p '=3' is no list of parameters"),
    "missing pattern file": (["run", "--pattern", "file:/no/such"], "No such file or directory"),
    "no pattern": (["run", "--pattern", "0xAA"], "is no pattern"),
    "pattern of two bytes": (["run", "--pattern", "byte:0x1AA"], "from 0 to 0xff"),
    "missing program": (["run", "--program", "/no/such"], "The program /no/such cannot be read"),
    "program and workload": (["run", "--program", "x", "-w", "y"], "Give either --program"),
    "no time": (["run", "--budget", "soon"], "write for example 120s"),
    "no budget at all": (["run", "--budget", "0s"], "write for example 120s"),
    "no number": (["run", "--runs", "many"], "'many' is not a valid integer"),
    "nothing to resume": (["run", "--resume", "-o", "/no/such"], "no unfinished run under"),
    "resume of nothing": (["run", "--resume", "/no/such"], "There is no journal at /no/such"),
    "resume and selection": (["run", "--resume", "x", "-m", "anon"], "--mechanism cannot be given"),
    "report of nothing": (["report", "/no/such"], "There is no journal at /no/such"),
    "compare of one": (["compare", "/no/such"], "Missing argument 'B'"),
    "no such property": (["check", "--property", "fork-chidl"], "Did you mean 'fork-child'?"),
}


def paragraph(text: str) -> str:
    """The one paragraph of standard error."""
    assert "Traceback" not in text
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("refbench: ")
    assert lines[0].endswith((".", "?", "!")), lines[0]
    return lines[0]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_gets_one_paragraph_with_the_remedy(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, expected = WRONG[name]
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert expected in paragraph(error)
    assert not out
    assert not list(tmp_path.iterdir()), "a refused request must leave nothing behind"


def test_so_does_the_program_itself(refbench: Refbench) -> None:
    done = refbench("run", "-m", "memste")
    assert done.returncode == 2
    assert "Did you mean 'memset'?" in paragraph(done.stderr)


def test_no_command_shows_the_help(refbench: Refbench) -> None:
    done = refbench()
    assert done.returncode == 2
    assert "Exit codes" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_and_the_common_options(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    for text in ("Examples:", f"refbench {name}"):
        assert text in out
    command = importlib.import_module(COMMANDS[name]).command
    pages = [out]
    if isinstance(command, click.Group):
        pages = []
        for sub in command.commands:
            assert main([name, sub, "--help"]) == 0
            pages.append(capsys.readouterr().out)
    assert pages
    for page in pages:
        for text in ("--json", "--quiet", "--no-color"):
            assert text in page


def test_the_version(refbench: Refbench) -> None:
    assert VERSION in refbench("--version").stdout


def test_completion_is_clicks_own(refbench: Refbench) -> None:
    done = refbench(env={"_REFBENCH_COMPLETE": "bash_source"})
    assert done.returncode == 0
    assert "complete" in done.stdout


def test_the_list_of_mechanisms_as_json(as_json: Callable[..., Any]) -> None:
    found = {item["name"]: item for item in as_json("mechanisms")["mechanisms"]}
    assert {"anon", "memset", "memfd", "memfd-full", "uffd", "segv", "ksm"} <= found.keys()
    assert found["memfd"]["options"][0]["name"] == "block"
    assert not found["anon"]["applies_pattern"]


def test_mechanisms_take_globs(as_json: Callable[..., Any]) -> None:
    names = [item["name"] for item in as_json("mechanisms", "uffd*")["mechanisms"]]
    assert names == ["uffd", "uffd-sigbus"]


def test_the_list_of_workloads_and_cases_as_json(as_json: Callable[..., Any]) -> None:
    found = as_json("workloads")
    workloads = {item["name"] for item in found["workloads"]}
    assert {"sparse-touch", "dense-touch", "fork-after-alloc", "alloc-churn"} <= workloads
    assert all(item["workload"].partition(":")[0] in workloads for item in found["cases"])


def test_backends_names_the_host_and_its_options(as_json: Callable[..., Any]) -> None:
    found = {item["name"]: item for item in as_json("backends")["backends"]}
    assert found["host"]["plugin"] == "host"
    assert "cpu" in [option["name"] for option in found["host"]["options"]]


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "refbench.cli", "workloads"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(write)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_full_disk_under_standard_output() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "refbench.cli", "workloads"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ["option", "variable"])
def test_no_colours_when_they_are_not_wanted(refbench: Refbench, how: str) -> None:
    forced: dict[str, str | None] = {"FORCE_COLOR": "1", "NO_COLOR": None, "TERM": "xterm"}
    assert "\x1b[" in refbench("workloads", env=forced).stdout
    if how == "option":
        done = refbench("workloads", "--no-color", env=forced)
    else:
        done = refbench("workloads", env={**forced, "NO_COLOR": "1"})
    codes = [text.partition("m")[0] for text in done.stdout.split("\x1b[")[1:]]
    assert not any(part in {str(n) for n in range(30, 38)} for c in codes for part in c.split(";"))


PLUGIN = """
import click
from refbench.hookspecs import hookimpl

refbench_api_version = 1

@click.command()
def greet():
    "Say hello."
    click.echo("hello")
    return 3

@click.command()
def stumble():
    raise KeyError("lost")

@click.command(name="run")
def usurper():
    click.echo("usurped")

@hookimpl
def refbench_commands():
    return [greet, stumble, usurper]
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A distribution on the path whose commands greet, break and usurp ``run``."""
    place = tmp_path_factory.mktemp("plugin")
    (place / "greeting.py").write_text(PLUGIN)
    info = place / "greeting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[refbench]\ngreeting = greeting\n")
    return {"PYTHONPATH": os.fspath(place)}


def test_a_plugins_command_is_among_ours(refbench: Refbench, there: dict[str, str]) -> None:
    assert "greet" in refbench("--help", env=there).stdout
    done = refbench("greet", env=there)
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_a_plugins_command_does_not_replace_ours(refbench: Refbench, there: dict[str, str]) -> None:
    assert "usurped" not in refbench("run", "--help", env=there).stdout
    listed = refbench("backends", env={**there, "COLUMNS": "400"})
    assert listed.returncode == 0
    assert "its command 'run' has the name of one of refbench's own" in listed.stdout


def test_a_defect_is_kept_in_a_file(
    refbench: Refbench, there: dict[str, str], tmp_path: Path
) -> None:
    done = refbench("stumble", env={**there, "XDG_STATE_HOME": str(tmp_path)})
    assert done.returncode == 70
    text = paragraph(done.stderr)
    assert "This is a defect of refbench" in text
    (kept,) = tmp_path.rglob("defect-*.txt")
    assert str(kept) in text
    assert "KeyError: 'lost'" in kept.read_text()


def test_a_defect_shows_its_traceback_when_asked(refbench: Refbench, there: dict[str, str]) -> None:
    done = refbench("stumble", env={**there, "REFBENCH_DEBUG": "1"})
    assert done.returncode == 70
    assert "Traceback" in done.stderr
