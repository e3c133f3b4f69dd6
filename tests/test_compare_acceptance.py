"""The error rates that are promised for ``refbench compare``, from runs that were recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from refbench.plan import DEFAULT_RUNS


@pytest.mark.timeout(300)
def test_false_alarms_are_rare_and_a_slowdown_of_a_tenth_is_found(repository: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(repository / "scripts" / "compare_acceptance.py"),
            *("--cells", "1000", "--planted", "200", "--json"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (rates,) = json.loads(done.stdout)
    assert rates["runs"] == DEFAULT_RUNS
    assert rates["cells"] == 1000
    assert rates["false"] <= 0.01
    assert rates["found"] >= 0.95
