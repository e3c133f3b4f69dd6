"""What the patched kernel costs whoever measures on it: to build, to boot, to ask once more.

Seconds of this machine, for the history. Building takes minutes, so each kernel is built for the
clock once and its seconds are kept: a commit that builds the same kernel as an earlier one has
that one's number.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from refbench.cache import Cache
from refbench.errors import BackendError
from refbench.grammar import Spec
from refbench.plugins import Registry
from refbench.program import parse
from refbench.runner import open_target
from refbench.vm import kernels
from refbench.words import Cell, Pattern

TARGET = "qemu"
BOOTS = 3
WARM = 20
"""Cells that are asked for in each boot once one has been measured."""
MOST_SECONDS = 120.0
KIND = "kernel-seconds"
_BUILD = ("kernel", "build", "--quiet")
_SOURCES = "kernel-source"
_PROGRAM = """refbench-program 1
name one-page
phase map
map 0 4096
phase touch
touch 0 0 4096 write 4096
phase -
"""


def measured(registry: Registry) -> Mapping[str, tuple[float, ...]]:
    """Seconds by what they were spent on.

    ``build``: ``refbench kernel build`` into an empty cache, the source being there and no
    compiler cache in use. ``boot``: from opening the target to the first result, kernel and agent
    being built. ``overhead``: of a cell that does nearly nothing, in a guest that has measured.

    :raises BackendError: when the target cannot be opened, or the kernel not be built.
    """
    boots: list[float] = []
    warm: list[float] = []
    for _ in range(BOOTS):
        began = time.perf_counter()
        _, session = open_target(registry, TARGET)
        with session:
            program = parse(_PROGRAM)
            cell = Cell(f"program:{program.name}", Spec("anon"), Pattern(), program)
            for index in range(1 + WARM):
                run = session.run(cell, 1, MOST_SECONDS)
                now = time.perf_counter()
                if run.failure is not None:
                    raise BackendError(run.failure.message, remedy=run.failure.remedy)
                (warm if index else boots).append(now - began)
                began = now
    return {"build": (built_seconds(),), "boot": tuple(boots), "overhead": tuple(warm)}


def built_seconds(cache: Cache | None = None) -> float:
    """Seconds of a clean build of the kernel that the target boots, measured once."""
    cache = cache or Cache.default()
    kernel = kernels.find(cache=cache)
    kept = cache.get(
        KIND, [kernel.digest, kernel.source, kernel.compiler], lambda folder: _time(cache, folder)
    )
    return float((kept / "seconds").read_text(encoding="ascii"))


def _time(cache: Cache, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="refbench-", dir=cache.root) as empty:
        if (cache.root / _SOURCES).is_dir():
            (Path(empty) / _SOURCES).symlink_to(cache.root / _SOURCES)
        began = time.perf_counter()
        build({"REFBENCH_CACHE": empty, "CCACHE_DISABLE": "1"})
        seconds = time.perf_counter() - began
    (folder / "seconds").write_text(f"{seconds:.1f}\n", encoding="ascii")


def build(variables: Mapping[str, str]) -> None:
    """``refbench kernel build``, in a process of its own with ``variables`` in its environment.

    :raises BackendError: when it fails, with what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "refbench.cli", *_BUILD],
        env={**os.environ, **variables},
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise BackendError(
            f"`refbench {' '.join(_BUILD)}` failed: {said}", remedy="Run it by itself."
        )
