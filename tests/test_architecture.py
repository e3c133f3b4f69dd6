"""What docs/architecture.md promises about who knows whom, and that it names everything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src" / "refbench"
BACKENDS = sorted(path.parent for path in (ROOT / "backends").glob("*/__init__.py"))


def imported(folder: Path) -> Iterator[tuple[Path, str]]:
    """(file, module) of every import below a folder, those inside functions too."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield path, node.module


def test_the_core_imports_no_backend() -> None:
    names = {folder.name for folder in BACKENDS}
    assert names
    assert [(p, m) for p, m in imported(CORE) if m.partition(".")[0] in names] == []


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda folder: folder.name)
def test_backends_do_not_import_one_another(backend: Path) -> None:
    others = {folder.name for folder in BACKENDS} - {backend.name}
    assert [(p, m) for p, m in imported(backend) if m.partition(".")[0] in others] == []


def test_the_words_import_nothing_above_them() -> None:
    words = ("errors", "grammar", "words", "samples", "program")
    for name in words:
        place = CORE / name
        files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
        for path in files:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("refbench."):
                    assert node.module is not None
                    assert node.module.split(".")[1] in words, f"{path} imports {node.module}"


@pytest.mark.parametrize("folder", [CORE, *BACKENDS], ids=lambda folder: folder.name)
def test_nothing_uses_ctypes(folder: Path) -> None:
    assert [(p, m) for p, m in imported(folder) if m.partition(".")[0] == "ctypes"] == []


def test_every_part_of_the_core_has_its_place() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+(?:\.py|/))`", text))
    there = {path.name for path in CORE.glob("*.py")} - {"__init__.py"}
    there |= {f"{path.parent.name}/" for path in CORE.glob("*/__init__.py")}
    assert sorted(there - named) == []


def test_every_file_that_it_names_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    simulator = ROOT / "backends" / "refbench_simulator"
    differential = ROOT / "tests" / "backends" / "simulator" / "differential"
    qemu = ROOT / "backends" / "refbench_qemu"
    roots = (CORE, ROOT, CORE / "native", simulator, simulator / "model", differential, qemu)
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|c|h)|(?:[a-z_]+/)+)`", text):
        assert any((root / name).exists() for root in roots), name
