"""Recording: the machine has no name of its own, and environments are kept with the results."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("asv", reason="the extra `asv` is not installed")

from refbench import asv, history
from refbench.errors import StorageError, UsageError
from refbench.journal import Header, Journal
from refbench.plan import Request
from refbench.samples import Environment

MEASURED = "0123456789abcdef0123456789abcdef01234567"
ELSEWHERE = "fedcba9876543210fedcba9876543210fedcba98"
HOST = Environment(
    target="host", clock="real", kernel="6.18", arch="any", page_size=4096, facts={"agent": "aa"}
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with results of one commit."""
    folder = tmp_path / "results/reference"
    folder.mkdir(parents=True)
    (folder / "machine.json").write_text("{}")
    (folder / f"{MEASURED[:8]}-virtualenv-py3.11.json").write_text("{}")
    return tmp_path


def journal(project: Path, commit: str, started: str, *environments: Environment) -> None:
    path = project / asv.JOURNALS / f"{started}-{commit}-1.jsonl"
    header = Header(refbench="x", started=started, targets=("host",), request=Request())
    with Journal.create(path, header) as written:
        for environment in environments:
            written.session(environment)


def kept(project: Path) -> list[history.Recorded]:
    lines = (project / "results/reference" / history.ENVIRONMENTS).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=history.Recorded) for line in lines]


def test_the_newest_environment_of_each_measured_commit_is_kept(project: Path) -> None:
    newer = replace(HOST, facts={"agent": "bb"})
    other = replace(HOST, target="qemu", clock="instructions")
    journal(project, MEASURED, "20260101T000000", HOST)
    journal(project, MEASURED, "20260102T000000", newer, other)
    journal(project, ELSEWHERE, "20260103T000000", HOST)
    assert history.keep_environments(project, "reference") == 2
    assert [line.environment for line in kept(project)] == [newer, other]
    assert {line.commit for line in kept(project)} == {MEASURED}


def test_what_was_kept_before_outlives_its_journal(project: Path) -> None:
    journal(project, MEASURED, "20260101T000000", HOST)
    history.keep_environments(project, "reference")
    for path in (project / asv.JOURNALS).iterdir():
        path.unlink()
    assert history.keep_environments(project, "reference") == 1
    assert [line.environment for line in kept(project)] == [HOST]


def test_a_damaged_file_is_named(project: Path) -> None:
    path = project / "results/reference" / history.ENVIRONMENTS
    path.write_text('{"commit": 1}\n')
    with pytest.raises(StorageError, match=r"environments\.jsonl, line 1"):
        history.keep_environments(project, "reference")


def test_the_machine_is_introduced_without_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    known = tmp_path / ".asv-machine.json"
    known.write_text(json.dumps({"another": {"machine": "another"}, "version": 1}))
    history.introduce("reference")
    entries = json.loads(known.read_text())
    assert entries["another"] == {"machine": "another"}
    assert entries["reference"]["machine"] == "reference"
    assert entries["reference"]["ram"].endswith(" GiB")
    told = " ".join(entries["reference"].values())
    assert platform.release() not in told
    assert platform.node() not in told.split()


@pytest.mark.parametrize(
    ("kernel", "release"),
    [("6.12.9-mybox+", "6.12.9"), ("6.1.0-18-amd64", "6.1.0"), ("7.0", "7.0"), ("odd", "")],
)
def test_whose_build_a_kernel_is_is_not_published(kernel: str, release: str) -> None:
    assert history.published(replace(HOST, kernel=kernel)).kernel == release


def test_what_is_the_same_everywhere_is_kept_under_a_machine_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert history.machine_for("host", None) == "reference"
    assert history.machine_for("host", "lab") == "lab"
    assert history.machine_for("simulator", None) == "modelled"
    for targets, machine in (
        ("host,simulator", None),
        ("simulator", "reference"),
        ("host", "modelled"),
    ):
        with pytest.raises(UsageError):
            history.machine_for(targets, machine)
    for targets, machine in (
        ("qemu,simulator", None),
        ("host", "instructions-01234567"),
        ("simulator", "instructions-01234567"),
    ):
        with pytest.raises(UsageError):
            history.machine_for(targets, machine)
    monkeypatch.setenv("HOME", str(tmp_path))
    history.introduce("modelled")
    (told,) = [path.read_text() for path in tmp_path.glob(".asv-machine.json")]
    assert set(json.loads(told)["modelled"].values()) == {"any", "modelled"}


def test_another_tool_is_another_machine_and_another_commit_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {name: f"{name} 1" for name in history.TOOLS["qemu"]} | {"kernel-digest": "aa"}
    name = history.tools_digest("qemu", "x86_64", facts)
    assert history.tools_digest("qemu", "x86_64", facts | {"kernel-digest": "bb"}) == name
    others = {history.tools_digest("qemu", "arm64", facts)} | {
        history.tools_digest("qemu", "x86_64", facts | {tool: "another"})
        for tool in history.TOOLS["qemu"]
    }
    assert len({name} | others) == 2 + len(history.TOOLS["qemu"])
    monkeypatch.setenv("HOME", str(tmp_path))
    history.introduce(f"instructions-{name}")
    (told,) = [path.read_text() for path in tmp_path.glob(".asv-machine.json")]
    assert set(json.loads(told)[f"instructions-{name}"].values()) == {
        "any",
        f"instructions-{name}",
    }
