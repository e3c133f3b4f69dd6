"""Where libpdfium comes from, and what is said where there is none for a machine."""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.pdfium.conftest import Draw

from refbench.agent import compiler_probe, host_arch
from refbench.errors import UsageError
from refbench.pdfium.library import Renderer, architecture, bundled, renderer

I386, ARM64 = 3, 183
"""e_machine of elf(5)."""


def rewritten(library: Path, folder: Path, machine: int) -> Path:
    """A copy of a library whose header names another machine."""
    path = folder / "libpdfium.so"
    shutil.copy(library, path)
    with path.open("r+b") as file:
        file.seek(18)
        file.write(struct.pack("<H", machine))
    return path


def test_it_comes_from_the_package(tool: Renderer) -> None:
    assert tool.library == bundled()
    assert tool.arch == architecture(tool.library) == host_arch()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2_raw", None)
    with pytest.raises(UsageError, match="pypdfium2, which is not installed") as caught:
        bundled()
    assert "pip install 'refbench[pdfium]'" in caught.value.remedy
    assert "library=PATH" in caught.value.remedy


def test_a_package_without_a_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pypdfium2_raw").mkdir()
    (tmp_path / "pypdfium2_raw" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "pypdfium2_raw", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"has no libpdfium\.so for this machine") as caught:
        bundled()
    assert "wheel" in caught.value.remedy


def test_a_machine_that_is_not_measured(tool: Renderer, tmp_path: Path) -> None:
    path = rewritten(tool.library, tmp_path, I386)
    with pytest.raises(UsageError, match="no libpdfium for a machine that refbench") as caught:
        renderer(str(path))
    assert "x86_64 or arm64" in caught.value.remedy


def test_another_machine_s_is_told_from_its_header(tool: Renderer, tmp_path: Path) -> None:
    assert architecture(rewritten(tool.library, tmp_path, ARM64)) == "arm64"


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100)])
def test_what_is_no_library(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "libpdfium.so"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no 64-bit shared object"):
        renderer(str(path))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        renderer(str(tmp_path / "libpdfium.so"))


def test_a_library_that_is_another(tool: Renderer, manual: Path, draw: Draw) -> None:
    libc = next(Path("/").glob("lib*/**/libc.so.6"))
    answer = draw("--pages", "0", library=libc)
    assert answer.code == 13
    assert "FPDF_InitLibraryWithConfig" in answer.stderr
    other = Renderer(tool.program, libc, tool.arch)
    with pytest.raises(UsageError, match="libpdfium cannot be used") as caught:
        other.pages(manual, "0")
    assert "library=PATH" in caught.value.remedy


def test_another_machine_s_document_is_not_looked_at(tool: Renderer, tmp_path: Path) -> None:
    foreign = Renderer(tool.program, tool.library, "another")
    assert foreign.pages(tmp_path / "nothing.pdf", "0") is None


def test_another_machine_s_library_is_refused_by_the_target(
    tool: Renderer, tmp_path: Path, refbench: Callable[..., CompletedProcess[str]]
) -> None:
    if host_arch() == "arm64" or not compiler_probe("arm64").ok:
        pytest.skip("no compiler for arm64")
    library = rewritten(tool.library, tmp_path, ARM64)
    workload = f"pdfium:pages=12,library={library}"
    answer = refbench("run", "-q", "-m", "anon", "-w", workload, "--runs", "1", cwd=tmp_path)
    assert answer.returncode == 5
    assert "is a program for arm64, and the target is x86_64" in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
