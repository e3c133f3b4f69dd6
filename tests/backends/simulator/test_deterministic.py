"""The model gives the same bytes everywhere: two processes, any hash seed, any user."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import msgspec
from refbench.plan import Request, make_plan
from refbench.plugins import registry
from refbench.runner import open_target
from refbench.semantics import check

found = registry()
_, session = open_target(found, sys.argv[1])
with session:
    capabilities = session.capabilities()
    sys.stdout.buffer.write(msgspec.json.encode(capabilities.environment))
    plan = make_plan(found, capabilities.page_size, Request(), capabilities.mechanisms)
    for cell in plan.cells:
        run = session.run(cell, 2, 60.0)
        what = [cell.key, run.samples, run.failure, run.facts]
        sys.stdout.buffer.write(msgspec.json.encode(what))
    if "page" not in sys.argv[1]:
        matrix = check.run(session, found.mechanisms)
        sys.stdout.buffer.write(msgspec.json.encode([matrix.examinations]))
"""


def output(target: str, seed: str) -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, target],
        env=environment,
        capture_output=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("target", ["simulator", "simulator:page=64KiB,arch=arm64"])
def test_two_processes_say_the_same_whatever_the_hash_seed(target: str) -> None:
    first = output(target, "0")
    assert len(first) > 100_000
    for seed in ("1", "4294967295"):
        again = output(target, seed)
        assert hashlib.sha256(again).hexdigest() == hashlib.sha256(first).hexdigest()
