"""What refbench relies on in asv and nobody promises: each of these may break with an upgrade."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asv", reason="the extra `asv` is not installed")

SHARED = """
    import os
    from pathlib import Path

    class Shared:
        params = (("host", "later"), ("anon", "memset"), ("dense", "sparse"))
        param_names = ("target", "mechanism", "case")
        version = "1"
        type = "time"
        unit = "seconds"

        def setup_cache(self):
            assert os.environ["REFBENCH_TARGETS"] == "host"  # settings get through
            with Path(os.environ["CALLS"]).open("a") as file:
                file.write("called\\n")
            return "the path of the journal"

        def setup(self, cache, target, mechanism, case):
            assert cache == "the path of the journal"
            if target != "host":
                raise NotImplementedError("not selected")
"""
FIRST = """
    from benchmarks.common import Shared

    class First(Shared):
        def track_time(self, cache, target, mechanism, case):
            base = {"anon": 1.0, "memset": 2.0}[mechanism]
            return {"samples": [base, base + 1, base + 2, base + 3, base + 4], "number": 1}
"""
SECOND = """
    from benchmarks.common import Shared

    def tracked(value):
        def track(suite, cache, target, mechanism, case):
            return {"samples": [value, value, value], "number": 1}
        track.unit = "bytes"
        return track

    class Second(Shared):
        track_bytes = tracked(4096)

        def track_plain(self, cache, target, mechanism, case):
            return float("nan") if mechanism == "anon" else 7.0
"""


def settings(calls: Path) -> dict[str, str]:
    return {"CALLS": str(calls), "REFBENCH_TARGETS": "host"}


SUITE = {"common.py": SHARED, "first.py": FIRST, "second.py": SECOND}


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_one_setup_cache_of_a_shared_base_serves_all_files(
    new_project: Callable[..., Any], tmp_path: Path, method: str
) -> None:
    project = new_project(SUITE)
    calls = tmp_path / "calls"
    project.run(f"--launch-method={method}", "--bench=anon", environment=settings(calls))
    assert calls.read_text().splitlines() == ["called"]


def test_results_of_tracked_samples(new_project: Callable[..., Any], tmp_path: Path) -> None:
    project = new_project(SUITE)
    commit = project.git("rev-parse", "HEAD")
    printed = project.run(environment=settings(tmp_path / "calls"))
    results = project.results(commit)

    # The order is that of the product of the axes; what setup refuses is NaN, not a failure.
    times = results["first.First.track_time"]
    assert times["params"][:2] == [["'host'", "'later'"], ["'anon'", "'memset'"]]
    assert times["result"][:4] == [3.0, 3.0, 4.0, 4.0]
    assert all(math.isnan(value) for value in times["result"][4:])
    assert times["version"] == "1"
    assert "n/a" in printed
    assert "failed" not in printed

    # A dictionary with samples and number gets quartiles and an interval.
    assert times["stats_q_25"][:4] == [2.0, 2.0, 3.0, 3.0]
    assert times["stats_q_75"][:4] == [4.0, 4.0, 5.0, 5.0]
    assert times["stats_repeat"][:4] == [5, 5, 5, 5]
    assert times["stats_ci_99_a"][0] < 3.0 < times["stats_ci_99_b"][0]

    # A function that is made by another one and carries its unit is a benchmark too.
    assert results["second.Second.track_bytes"]["result"][:4] == [4096] * 4
    described = json.loads((project.root / "results/benchmarks.json").read_text())
    assert described["second.Second.track_bytes"]["unit"] == "bytes"
    assert described["first.First.track_time"]["unit"] == "seconds"

    # NaN is a result that is shown as n/a and does not fail; a plain number has no quartiles.
    plain = results["second.Second.track_plain"]
    assert math.isnan(plain["result"][0])
    assert plain["result"][2] == 7.0
    assert "stats_q_25" not in plain


def test_adding_a_name_to_a_sorted_axis_keeps_the_history(
    new_project: Callable[..., Any], tmp_path: Path
) -> None:
    from asv.results import Results

    project = new_project(SUITE)
    before = project.git("rev-parse", "HEAD")
    calls = settings(tmp_path / "calls")
    project.run("--bench=First", environment=calls)
    project.write("benchmarks/common.py", SHARED.replace('"memset"', '"memfd", "memset"'))
    project.write("benchmarks/first.py", FIRST.replace('"memset"', '"memfd": 9.0, "memset"'))
    after = project.commit("one more mechanism")
    project.run("--bench=First", environment=calls)
    assert (tmp_path / "calls").read_text().splitlines() == ["called"] * 2  # once a commit

    described = json.loads((project.root / "results/benchmarks.json").read_text())
    params = described["first.First.track_time"]["params"]
    assert params[1] == ["'anon'", "'memfd'", "'memset'"]
    (old,) = (project.root / "results/reference").glob(f"{before[:8]}-*.json")
    values = Results.load(str(old), "reference").get_result_value("first.First.track_time", params)
    assert values[0] == 3.0  # anon
    assert values[2] is None  # memfd did not exist
    assert values[4] == 4.0  # memset, although its index is another one now
    printed = project.asv("compare", "--machine=reference", before, after)
    assert "track_time('host', 'memset', 'sparse')" in printed


def test_plugins_need_a_leading_dot(new_project: Callable[..., Any], tmp_path: Path) -> None:
    note = 'from pathlib import Path\nPath("{}").touch()\n'
    project = new_project({}, plugins=[".dotted", "undotted.inner"])
    project.write("dotted.py", note.format(tmp_path / "dotted"))
    project.write("undotted/__init__.py", "")
    project.write("undotted/inner.py", note.format(tmp_path / "undotted"))
    project.asv("run", "--help")
    project.asv("check", "--python=same")
    assert (tmp_path / "dotted").exists()
    assert not (tmp_path / "undotted").exists()


def test_continuous_measures_two_commits_and_flags_the_slower(
    new_project: Callable[..., Any], tmp_path: Path
) -> None:
    suite = """
        import json
        import os

        class Suite:
            type = "time"
            unit = "seconds"

            def setup_cache(self):
                return json.loads(os.environ["TIMES"])[os.environ["ASV_COMMIT"]]

            def track_slower(self, cache):
                return {"samples": [cache + step / 1000 for step in range(9)], "number": 1}

            def track_equal(self, cache):
                return {"samples": [1.0 + step / 1000 for step in range(9)], "number": 1}
    """
    project = new_project({"suite.py": suite}, build_command=[], install_command=[])
    before = project.git("rev-parse", "HEAD")
    after = project.commit("slower")
    printed = project.asv(
        "continuous", "--machine=reference", "--factor=1.05", before, after,
        environment={"TIMES": json.dumps({before: 1.0, after: 1.1})}, status=1,
    )  # fmt: skip
    assert "suite.Suite.track_slower" in printed.rpartition("Change")[2]
    assert "suite.Suite.track_equal" not in printed.rpartition("Change")[2]
    assert "PERFORMANCE DECREASED" in printed
