"""What programs are linked with: real ones, and files that are none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from refbench.agent import host_arch
from refbench.errors import Unsupported
from refbench.linking import libraries, loader_of, read_object

ARCH = host_arch()
Compile = Callable[..., Path]


@pytest.fixture
def compile_c(tmp_path: Path) -> Compile:
    """``compile_c("name", "int main(void) { return 0; }", *flags)``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")

    def run(name: str, text: str, *flags: str) -> Path:
        source, out = tmp_path / f"{name}.c", tmp_path / name
        source.write_text(text)
        subprocess.run([compiler, str(source), "-o", str(out), *flags], check=True, timeout=60)
        return out

    return run


MAIN = "int main(void) { return 0; }"


def test_a_program_names_its_loader_and_its_libraries(compile_c: Compile) -> None:
    program = compile_c("program", MAIN)
    found = read_object(program)
    assert found is not None
    assert found.arch == ARCH
    loader = loader_of(program, ARCH)
    assert loader.name.startswith("ld")
    names = [path.name for path in libraries(loader, [program])]
    assert any(name.startswith("libc") for name in names)
    assert loader not in libraries(loader, [program])


def test_the_libraries_of_several_files_come_once(compile_c: Compile, tmp_path: Path) -> None:
    program = compile_c("program", MAIN)
    library = compile_c(
        "libsine.so", "#include <math.h>\ndouble f(double x) { return sin(x); }",
        *("-shared", "-fPIC", "-Wl,--no-as-needed", "-lm"),
    )  # fmt: skip
    data = tmp_path / "data"
    data.write_bytes(b"\x7fELF, but no more")
    loader = loader_of(program, ARCH)
    found = libraries(loader, [program, data, library])
    assert sum(path.name.startswith("libc.") for path in found) == 1
    assert any(path.name.startswith("libm.") for path in found)
    assert all(path.is_file() for path in found)


def test_a_library_beside_the_program_is_one_of_the_files(compile_c: Compile) -> None:
    library = compile_c("libmine.so", "int f(void) { return 0; }", "-shared", "-fPIC")
    program = compile_c(
        "program", "int f(void); int main(void) { return f(); }", str(library),
    )  # fmt: skip
    loader = loader_of(program, ARCH)
    assert library not in libraries(loader, [program, library])
    library.unlink()
    compile_c("libother.so", "int g;", "-shared", "-fPIC", "-Wl,-soname,libmine.so.1")
    with pytest.raises(Unsupported, match=r"libmine\.so"):
        libraries(loader, [program])


def test_a_real_program_is_taken_apart() -> None:
    python = Path(sys.executable).resolve()
    loader = loader_of(python, ARCH)
    said = subprocess.run(["ldd", str(python)], capture_output=True, text=True).stdout
    named = {Path(word).resolve() for word in said.split() if word.startswith("/")}
    assert set(libraries(loader, [python])) == named - {loader}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"#!/bin/sh\n", "no program of its own"),
        (b"", "no program of its own"),
        (b"\x7fELF\x02\x01", "no program of its own"),
        (b"\x7fELF\x01\x01" + b"\0" * 80, "no program of its own"),
    ],
)
def test_what_is_no_program_is_unsupported(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(Unsupported, match=why):
        loader_of(file, ARCH)


def test_static_foreign_and_missing_programs_are_unsupported(
    compile_c: Compile, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match="statically"):
        loader_of(compile_c("static", MAIN, "-static"), ARCH)
    program = compile_c("program", MAIN)
    other = {"x86_64": "arm64", "arm64": "x86_64"}[ARCH]
    with pytest.raises(Unsupported, match=f"is a program for {ARCH}"):
        loader_of(program, other)
    with pytest.raises(Unsupported, match="cannot be read"):
        loader_of(tmp_path / "none", ARCH)
    elsewhere = compile_c("elsewhere", MAIN, "-Wl,--dynamic-linker=/none/ld.so")
    with pytest.raises(Unsupported, match=r"/none/ld\.so, which is not here"):
        loader_of(elsewhere, ARCH)


def test_a_loader_that_refuses_is_told(compile_c: Compile) -> None:
    program = compile_c("program", MAIN)
    loader = loader_of(program, ARCH)
    data = bytearray(program.read_bytes())
    del data[4096:]
    cut = program.with_name("cut")
    cut.write_bytes(data)
    with pytest.raises(Unsupported, match="does not take"):
        libraries(loader, [cut])
