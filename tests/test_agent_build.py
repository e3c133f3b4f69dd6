"""The agent is built on demand; what is missing or wrong is said in one paragraph."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from refbench.agent import NATIVE, build, build_launcher, compiler_probe, compilers, host_arch
from refbench.cache import Cache
from refbench.errors import BackendError, StorageError

needs_compiler = pytest.mark.skipif(not compiler_probe().ok, reason="no C compiler here")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


PT_INTERP = 3


def program_headers(elf: bytes) -> list[int]:
    """The types of the program headers of a 64-bit little-endian ELF file (elf(5))."""
    (start,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    return [struct.unpack_from("<I", elf, start + i * size)[0] for i in range(count)]


def source(place: Path, name: str, text: str) -> Path:
    path = place / name
    path.write_text(text)
    return path


@needs_compiler
def test_the_launcher_is_static_and_built_once(cache: Cache) -> None:
    said: list[str] = []
    first = build_launcher(cache=Cache(cache.root, lambda what, _share: said.append(what)))
    assert said[0] == "building launcher"
    said.clear()
    second = build_launcher(cache=Cache(cache.root, lambda what, _share: said.append(what)))
    assert (first, said) == (second, [])
    assert first.arch == host_arch()
    assert len(first.digest) == 64
    assert first.compiler
    assert os.access(first.path, os.X_OK)
    assert PT_INTERP not in program_headers(first.path.read_bytes())


@needs_compiler
def test_two_builds_of_the_same_are_the_same(tmp_path: Path) -> None:
    """The agent's digest keys histories: it must not depend on where it was built."""
    one, two = (build_launcher(cache=Cache(tmp_path / name)) for name in ("a", "a-longer-name"))
    assert one.path != two.path
    assert one.digest == two.digest


@needs_compiler
def test_sources_are_linked_into_one_program_and_their_headers_count(
    cache: Cache, tmp_path: Path
) -> None:
    one = source(tmp_path, "one.c", '#include "value.h"\nint value(void) { return VALUE; }\n')
    two = source(tmp_path, "two.c", "int value(void);\nint main(void) { return value(); }\n")
    source(tmp_path, "value.h", "#define VALUE 7\n")
    first = build("program", [one, two], host_arch(), cache)
    assert subprocess.run([first.path], check=False).returncode == 7
    source(tmp_path, "value.h", "#define VALUE 8\n")
    second = build("program", [one, two], host_arch(), cache)
    assert first.path != second.path
    assert subprocess.run([second.path], check=False).returncode == 8


@needs_compiler
def test_a_plugins_file_finds_the_mechanism_header(cache: Cache, tmp_path: Path) -> None:
    text = '#include "mechanism.h"\nint main(void) { return RB_API_VERSION - 1; }\n'
    binary = build("program", [source(tmp_path, "plugin.c", text)], host_arch(), cache)
    assert subprocess.run([binary.path], check=False).returncode == 0


@needs_compiler
def test_a_compile_error_names_the_file_and_shows_the_compiler(
    cache: Cache, tmp_path: Path
) -> None:
    good = source(tmp_path, "good.c", "int main(void) { return 0; }\n")
    bad = source(tmp_path, "bad.c", "int broken(void) { return nowhere; }\n")
    with pytest.raises(BackendError) as caught:
        build("program", [good, bad], host_arch(), cache)
    assert str(bad) in caught.value.message
    assert "nowhere" in caught.value.message
    assert str(good) not in caught.value.message
    assert "REFBENCH_DISABLE_PLUGINS" in caught.value.remedy
    assert not list((cache.root / "building").iterdir())


@needs_compiler
def test_a_link_error_shows_the_missing_name(cache: Cache, tmp_path: Path) -> None:
    path = source(tmp_path, "a.c", "int missing(void);\nint main(void) { return missing(); }\n")
    with pytest.raises(BackendError, match="linked") as caught:
        build("program", [path], host_arch(), cache)
    assert "missing" in caught.value.message


@needs_compiler
def test_a_missing_header_of_a_plugin_is_not_taken_for_a_missing_libc(
    cache: Cache, tmp_path: Path
) -> None:
    path = source(tmp_path, "a.c", '#include "mine.h"\nint main(void) { return 0; }\n')
    with pytest.raises(BackendError, match=r"mine\.h") as caught:
        build("program", [path], host_arch(), cache)
    assert "libc6-dev" not in caught.value.remedy


def test_a_missing_source_is_named(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"gone\.c"):
        build("program", [tmp_path / "gone.c"], host_arch(), cache)


def without_zig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


def test_no_compiler_says_what_to_install(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_zig(monkeypatch)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError) as caught:
        build_launcher(cache=cache)
    assert "no C compiler" in caught.value.message
    assert "apt install gcc libc6-dev" in caught.value.remedy
    assert "refbench[zig]" in caught.value.remedy
    assert "\n" not in str(caught.value)
    probe = compiler_probe()
    assert (probe.ok, probe.reason, probe.remedy) == (
        False,
        caught.value.message,
        caught.value.remedy,
    )


def test_a_cross_compiler_has_a_remedy_of_its_own(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_zig(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    other = "arm64" if host_arch() == "x86_64" else "x86_64"
    with pytest.raises(BackendError, match=other) as caught:
        build("launcher", sorted((NATIVE / "launcher").glob("*.c")), other, cache)
    assert "apt install gcc-" in caught.value.remedy


def test_cc_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    with pytest.raises(BackendError, match="no-such-compiler"):
        compilers(host_arch())
    assert not compiler_probe().ok


@needs_compiler
def test_cc_goes_first_with_its_arguments(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if real is None:
        pytest.skip("only zig here")
    monkeypatch.setenv("CC", f"{real} -DANSWER=5")
    path = source(tmp_path, "a.c", "int main(void) { return ANSWER; }\n")
    binary = build("program", [path], host_arch(), cache)
    assert subprocess.run([binary.path], check=False).returncode == 5


@needs_compiler
def test_a_compiler_without_libc_is_passed_over(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in that fails as gcc does without libc6-dev: reality has it installed here."""
    stub = source(
        tmp_path,
        "stub",
        "#!/bin/sh\n"
        'case "$*" in *--version*) echo stub 1.0; exit 0;; esac\n'
        "echo 'a.c:1:10: fatal error: stdio.h: No such file or directory' >&2; exit 1\n",
    )
    stub.chmod(0o755)
    monkeypatch.setenv("CC", str(stub))
    assert build_launcher(cache=cache).compiler != "stub 1.0"
    without_zig(monkeypatch)
    for name in ("sh", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="static C program") as caught:
        build_launcher(cache=Cache(tmp_path / "other"))
    assert "libc6-dev" in caught.value.remedy


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs takes root")
def test_a_disk_that_the_compiler_fills_is_a_storage_error(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "refbench-test", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        with pytest.raises(StorageError, match="no room"):
            build_launcher(cache=Cache(place / "cache"))
    finally:
        subprocess.run(["umount", str(place)], check=True)
