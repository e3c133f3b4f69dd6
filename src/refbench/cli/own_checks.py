"""refbench's own needs: a compiler, a cache on a disk, sound plugins, a target that opens."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from refbench.agent import compiler_probe, compilers, host_arch
from refbench.cache import default_root
from refbench.cli.findings import Finding, ok, problem, warning
from refbench.errors import RefbenchError
from refbench.grammar import format_size
from refbench.plugins import Registry
from refbench.runner import open_target

LITTLE_ROOM = 1 << 30
"""Bytes. Agents take a few MiB; kernels and device images some hundred."""


def findings(plugins: Registry, targets: Sequence[str]) -> Iterator[Finding]:
    """Everything that refbench itself needs."""
    yield _compiler()
    yield _native()
    yield from _cache(default_root())
    yield from _plugins(plugins)
    for text in targets:
        yield from _target(plugins, text)


def _compiler() -> Finding:
    found = compiler_probe()
    if not found.ok:
        return warning("compiler", found.reason, found.remedy)
    first = compilers(host_arch())[0]
    return ok("compiler", first.version() or " ".join(first.argv))


def _native() -> Finding:
    try:
        importlib.import_module("refbench.native")
    except (ImportError, OSError) as error:
        return warning(
            "refbench.native",
            f"the module that maps memory from Python is not built: {error}",
            "Install a C compiler, then install refbench again. Measuring does not need it.",
        )
    return ok("refbench.native", "the module that maps memory from Python is built")


def _cache(root: Path) -> Iterator[Finding]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root):
            pass
    except OSError as error:
        yield problem(
            "cache",
            f"{root} cannot be written: {error.strerror}",
            "Set REFBENCH_CACHE to a directory that you may write to.",
        )
        return
    room = shutil.disk_usage(root).free
    detail = f"{root}, {format_size(room)} free"
    if room < LITTLE_ROOM:
        yield warning("cache", detail, "Free some space, or set REFBENCH_CACHE.")
    else:
        yield ok("cache", detail)
    yield _direct(root)


def _direct(root: Path) -> Finding:
    """Whether a file in the cache can be opened with O_DIRECT."""
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return warning("O_DIRECT", "this system has none")
    with tempfile.NamedTemporaryFile(dir=root) as file:
        try:
            os.close(os.open(file.name, os.O_RDWR | flag))
        except OSError as error:
            return warning(
                "O_DIRECT",
                f"not in {root}: {error.strerror}; direct writes of clean pages cannot be examined",
                "Set REFBENCH_CACHE to a directory on a disk.",
            )
    return ok("O_DIRECT", f"works in {root}")


def _plugins(plugins: Registry) -> Iterator[Finding]:
    from refbench.cli.program import faults

    found = faults(plugins)
    if not found:
        yield ok("plugins", "no faults")
    for fault in found:
        name = f"plugin {fault.plugin}"
        yield warning(name, f"{fault.message} ({fault.distribution})", fault.remedy)


def _target(plugins: Registry, text: str) -> Iterator[Finding]:
    """Open it, as a measurement would, and say what does not work there."""
    name = f"target {text}"
    try:
        target, session = open_target(plugins, text)
        with session:
            capabilities = session.capabilities()
    except RefbenchError as error:
        yield problem(name, error.message.rstrip(), error.remedy)
        return
    working = [name for name, item in capabilities.mechanisms.items() if item.ok]
    yield ok(
        name,
        f"{target} opens; {format_size(capabilities.memory)} for a cell; {', '.join(working)}",
    )
    for kind, things in (
        ("mechanism", capabilities.mechanisms),
        ("metrics", capabilities.metrics),
    ):
        for thing, item in things.items():
            if not item.ok:
                yield warning(f"{text}: {kind} {thing}", item.reason, item.remedy)
    refused = capabilities.environment.get("refused-settings", "none")
    if refused != "none":
        yield warning(f"{text}: settings", f"the kernel refused: {refused}", "Run as root.")
