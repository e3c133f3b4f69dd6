"""What the benchmarks ask the refbench under measurement, and how it answers for trouble."""

from __future__ import annotations

import ast
import importlib
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refbench import asv as history
from refbench.errors import StorageError, UsageError
from refbench.grammar import Spec
from refbench.journal import Header, Journal, read
from refbench.metrics import find
from refbench.plan import Request
from refbench.plugins import registry
from refbench.program import parse
from refbench.samples import (
    CellId,
    Environment,
    Failure,
    MemorySnapshot,
    PhaseCounters,
    Run,
    Sample,
)


def environment(target: str = "host") -> Environment:
    return Environment(target=target, clock="real", kernel="6.18", arch="any", page_size=4096)


def cell_id(mechanism: str, case: str = "sparse-write") -> CellId:
    return CellId(
        key=f"{case}|{mechanism}",
        workload="sparse-touch",
        mechanism=mechanism,
        pattern="byte:0xAA",
        case=case,
    )


def sample(index: int, ns: int) -> Sample:
    memory = MemorySnapshot(rss=0, rss_anon=0, rss_file=0, rss_shmem=0, hwm=0, pte=0, vmas=20)
    later = MemorySnapshot(rss=4096, rss_anon=0, rss_file=0, rss_shmem=0, hwm=0, pte=0, vmas=21)
    return Sample(
        index=index,
        phases={"map": PhaseCounters(ns=1), "touch": PhaseCounters(ns=ns, minor_faults=3)},
        memory={"start": memory, "touch": later},
    )


def run(*times: int, wall_ns: int = 0) -> Run:
    samples = tuple(sample(index, ns) for index, ns in enumerate((999, *times)))
    return Run(samples=samples, wall_ns=wall_ns, agent_ns=1_000_000)


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """Cells that went well, one that failed, one that is not supported."""
    path = tmp_path / "journal.jsonl"
    header = Header(refbench="x", started="", targets=("host", "other"), request=Request())
    with Journal.create(path, header) as journal:
        first = journal.session(environment())
        other = journal.session(environment("other:clock=instructions"))
        journal.append(first, 0, cell_id("memfd"), run(10, 20, wall_ns=9_000_000))
        journal.append(first, 0, cell_id("memfd:block=16"), run(70, 80))
        journal.append(other, 0, cell_id("memfd"), run(1))
        journal.append(first, 0, cell_id("memfd", "dense-write"), run(5))
        wrong = Failure(kind="wrong-content", message="3 bytes differ")
        journal.append(first, 0, cell_id("segv"), Run(failure=wrong))
        refused = Failure(kind="unsupported", message="KSM is off.", remedy="Turn it on.")
        journal.append(first, 0, cell_id("ksm"), Run(failure=refused))
        journal.append(first, 1, cell_id("memfd"), run(30, wall_ns=3_000_000))
    return str(path)


def ask(journal: str, mechanism: str = "memfd", metric: str = "time.touch", **more: str) -> object:
    where = {"target": "host", "case": "sparse-write", **more}
    return history.cell(journal, mechanism=mechanism, metric=metric, **where)  # type: ignore[arg-type]


def test_samples_of_all_runs_without_warm_up(journal: str) -> None:
    assert ask(journal) == {"samples": [10e-9, 20e-9, 30e-9], "number": 1}
    assert ask(journal, "memfd:block=16") == {"samples": [70e-9, 80e-9], "number": 1}
    assert ask(journal, metric="rss") == {"samples": [4096.0] * 3, "number": 1}
    assert ask(journal, metric="traps.touch") == {"samples": [3.0] * 3, "number": 1}
    assert ask(journal, case="dense-write") == {"samples": [5e-9], "number": 1}
    assert ask(journal, target="other:clock=instructions") == {"samples": [1e-9], "number": 1}


def test_overhead_is_of_runs_and_not_of_samples(journal: str) -> None:
    assert ask(journal, metric="overhead") == {"samples": [0.008, 0.002], "number": 1}


def test_a_model_has_no_overhead(tmp_path: Path) -> None:
    path = tmp_path / "modelled.jsonl"
    header = Header(refbench="x", started="", targets=("simulator",), request=Request())
    with Journal.create(path, header) as journal:
        session = journal.session(replace(environment("simulator"), clock="modelled"))
        journal.append(session, 0, cell_id("memfd"), run(10, 20, wall_ns=9_000_000))
    with pytest.raises(NotImplementedError):
        ask(str(path), metric="overhead", target="simulator")
    assert ask(str(path), target="simulator") == {"samples": [1e-8, 2e-8], "number": 1}


def test_a_failed_cell_is_not_raised(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = ask(journal, "segv")
    assert isinstance(value, float)
    assert math.isnan(value)
    assert "wrong-content: 3 bytes differ" in capsys.readouterr().err


def test_a_metric_that_cannot_be_read_is_nan(journal: str) -> None:
    value = ask(journal, metric="time.fork")
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("mechanism", "more"),
    [("ksm", {}), ("anon", {}), ("memfd", {"target": "qemu"}), ("memfd", {"case": "later"})],
)
def test_unavailable_is_not_implemented(journal: str, mechanism: str, more: dict[str, str]) -> None:
    with pytest.raises(NotImplementedError):
        ask(journal, mechanism, **more)


def test_questions_of_a_later_version_are_not_implemented(journal: str) -> None:
    with pytest.raises(NotImplementedError, match="version 1"):
        history.cell(
            journal, target="host", mechanism="memfd", case="sparse-write", metric="time", version=2
        )
    with pytest.raises(NotImplementedError, match="version 1"):
        history.measure(("host",), (), (), version=2)


def test_a_journal_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        ask(str(tmp_path / "none"))


def test_targets_are_selected_from_the_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    axis = ("host", "qemu:clock=instructions,kernel=patched")
    assert history.selected(registry(), axis) == ("host",)
    monkeypatch.setenv("REFBENCH_TARGETS", ",".join(reversed(axis)))
    assert set(history.selected(registry(), axis)) == set(axis)
    monkeypatch.setenv("REFBENCH_TARGETS", "host,moon:phase=full")
    with pytest.raises(UsageError, match="moon:phase=full"):
        history.selected(registry(), axis)


def test_names_that_are_not_known_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASV_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("ASV_COMMIT", "0123abcd")
    monkeypatch.setenv("REFBENCH_TARGETS", "moon")
    path = Path(history.measure(("moon",), ("anon", "invented"), ("sparse-write", "nonsense")))
    content = read(path)
    assert path.parent == tmp_path / history.JOURNALS
    assert "0123abcd" in path.name
    assert content.header.request.mechanisms == ("anon",)
    assert content.header.request.workloads == ("sparse-write",)
    assert content.runs == ()
    errors = capsys.readouterr().err
    assert all(name in errors for name in ("invented", "nonsense", "moon"))


def test_a_case_that_lacks_something_here_is_left_out_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASV_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("REFBENCH_TARGETS", "simulator")
    for package in ("pypdfium2_raw", "reportlab"):  # as where the extra is not installed
        monkeypatch.setitem(sys.modules, package, None)
    journal = history.measure(("simulator",), ("anon",), ("pdfium-short", "sparse-write"))
    assert read(Path(journal)).header.request.workloads == ("sparse-write",)
    assert "pdfium-short: " in capsys.readouterr().err
    assert ask(journal, "anon", "time", target="simulator", case="sparse-write")
    with pytest.raises(NotImplementedError):
        ask(journal, "anon", "time", target="simulator", case="pdfium-short")


class TestSuites:
    """The committed axes and metrics."""

    @pytest.fixture(autouse=True)
    def root(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(repository))

    @pytest.fixture
    def axes(self) -> Sequence[tuple[str, ...]]:
        common = importlib.import_module("benchmarks.common")
        return (common.TARGETS, common.MECHANISMS, common.CASES)

    def test_axes_are_sorted_tuples_of_names(self, axes: Sequence[tuple[str, ...]]) -> None:
        for names in axes:
            assert isinstance(names, tuple)
            assert list(names) == sorted(set(names))

    def test_axes_name_what_there_is_in_its_normal_spelling(
        self, axes: Sequence[tuple[str, ...]]
    ) -> None:
        targets, mechanisms, cases = axes
        known = registry()
        for name in mechanisms:
            spec = Spec.parse(name)
            assert str(known.mechanism(spec).canonical(spec)) == name
        assert set(cases) <= set(known.cases)
        assert set(targets) == {"host", "qemu", "simulator"}
        assert set(targets) <= set(known.backends)

    @pytest.mark.parametrize(
        "name",
        [
            *("sparse_touch", "dense_touch", "fork_after_alloc", "alloc_churn", "v4_microbench"),
            *("pdfium", "pdfium_trace"),
        ],
    )
    def test_every_workload_tracks_its_headline_metrics(self, name: str) -> None:
        module = importlib.import_module(f"benchmarks.{name}")
        (suite,) = [value for key, value in vars(module).items() if key == camel(name)]
        functions = {key: value for key, value in vars(suite).items() if key.startswith("track_")}
        tracked = {function.metric: function.unit for function in functions.values()}
        workload = registry().workloads[name.replace("_", "-")]
        assert set(tracked) == set(workload.headline)
        assert len(tracked) <= 7
        for metric, unit in tracked.items():
            assert (unit in ("seconds", "bytes")) == (find(metric).unit in ("seconds", "bytes"))
        presets = [registry().cases[case] for case in suite.params[2]]
        assert {preset.workload.name for preset in presets} == {workload.name}

    def test_they_import_nothing_but_the_versioned_functions(self, repository: Path) -> None:
        asked, attributes = set(), set()
        for path in (repository / "benchmarks").glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    asked |= {name.name for name in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    asked |= {f"{node.module}.{name.name}" for name in node.names}
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    attributes |= {node.attr} if node.value.id == "asv" else set()
        ours = {name for name in asked if name.startswith("refbench")}
        # What is newer than the oldest commits of the history is looked for, not imported.
        assert ours == {"refbench.asv", "refbench.asv.cell", "refbench.asv.measure"}
        assert attributes == {"patched_kernel", "worked_out"}


class TestGrowth:
    """The benchmarks of the simulator itself."""

    @pytest.fixture(autouse=True)
    def root(self, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(repository))
        monkeypatch.delenv(history.TARGETS_VARIABLE, raising=False)

    @pytest.fixture
    def suite(self) -> Any:
        return importlib.import_module("benchmarks.simulator")

    def test_the_largest_programs_are_those_of_the_aims(self, suite: Any) -> None:
        largest = {name: suite.program(name, suite.DOUBLED[-1]) for name in suite.PROGRAMS}
        assert all(parse(text).name == f"{name}-10" for name, text in largest.items())
        assert "\nmap 0 8796093022208\n" in largest["sparse-16"]
        assert " write 65536\n" in largest["sparse-16"]
        assert " write 16777216\n" in largest["sparse-4096"]
        assert "count=1024000\n" in largest["scattered"]
        assert " write 8388608 order=random" in largest["random"]
        assert "\nmap 0 68719476736\n" in largest["dense"]
        assert "\nrepeat 1024\n" in largest["forks"]

    @pytest.mark.parametrize("name", ["dense", "forks", "random", "scattered", "sparse-16"])
    def test_time_and_memory_stay_within_the_aims(self, suite: Any, name: str) -> None:
        for mechanism in suite.MECHANISMS:
            found = history.worked_out(suite.program(name, 10), mechanism, runs=1)
            assert found is not None
            seconds, peak = found
            assert seconds[0] < (10 if name in ("random", "scattered") else 1), mechanism
            assert peak < 100e6, mechanism

    def test_what_is_not_there_is_not_available(
        self, suite: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert history.worked_out(suite.program("dense", 0), "mte-eager") is None
        monkeypatch.setenv(history.TARGETS_VARIABLE, "simulator")
        assert history.worked_out(suite.program("dense", 0), "anon") is None
        with pytest.raises(NotImplementedError):
            suite.Growth().setup({}, "dense", "anon", 0)


def camel(name: str) -> str:
    return "".join(word.title() for word in name.split("_"))
