"""Cells under pyperf, and pyperf's own commands on what comes out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyperf
import pytest

SHORT = ("--values=2", "--warmups=0", "--loops=2", "--quiet")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=100,
    )


def measure(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "refbench.pyperf_runner", *SHORT, f"--output={output}", *arguments)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two files of the same two cells."""
    folder = tmp_path_factory.mktemp("pyperf")
    files = (folder / "one.json", folder / "two.json")
    for file, processes in zip(files, (2, 1), strict=True):
        done = measure(
            file, f"--processes={processes}", "--mechanism=anon,memset", "--workload=dense-write"
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return files


def test_a_loop_is_a_sample_and_its_time_the_sessions(measured: tuple[Path, Path]) -> None:
    suite = pyperf.BenchmarkSuite.load(str(measured[0]))
    assert suite.get_benchmark_names() == ["host dense-write anon", "host dense-write memset"]
    for benchmark in suite.get_benchmarks():
        assert benchmark.get_nrun() == 2
        assert len(benchmark.get_values()) == 4
        assert benchmark.get_loops() == 2
        # 16 MiB in 4096 faults: no machine does it in a microsecond, none needs five seconds.
        assert all(1e-6 < value < 5 for value in benchmark.get_values())
        metadata = benchmark.get_metadata()
        assert metadata["refbench_target"] == "host"
        assert metadata["refbench_clock"] == "real"
        assert metadata["refbench_kernel"]


@pytest.mark.parametrize("command", ["stats", "hist", "show", "dump", "metadata"])
def test_pyperf_reads_it(measured: tuple[Path, Path], command: str) -> None:
    done = python("-m", "pyperf", command, str(measured[0]))
    assert done.returncode == 0, done.stderr
    assert "host dense-write anon" in done.stdout


def test_pyperf_compares_it(measured: tuple[Path, Path]) -> None:
    done = python("-m", "pyperf", "compare_to", "--table", *map(str, measured))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--metric=lost",), "'lost' is not one"),
        (("--mechanism=invented",), "There is no mechanism 'invented'"),
        (("--target=moon",), "There is no backend 'moon'"),
        (("--metric=time.fork", "--workload=dense-write"), "takes no time in 'time.fork'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = measure(tmp_path / "out.json", *arguments)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "most recent call last" not in done.stderr.partition("Error:")[0]
    assert not (tmp_path / "out.json").exists()
