"""The malloc interposer under real programs, in its checking mode and without it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from refbench.agent import host_arch
from refbench.allocators import Preload, checked_settings, preload
from refbench.cache import Cache
from refbench.errors import BackendError, Unsupported, UsageError
from refbench.grammar import Spec
from refbench.interposer import EXIT_REFUSED, build_interposer
from refbench.words import Pattern

HERE = Path(__file__).parent
MECHANISMS = (
    *("anon", "memset", "memset-malloc", "memfd", "memfd:block=16", "memfd-full"),
    *("uffd", "uffd:atfork=yes", "ksm", "refpage", "refpage-mmap", "refpage-dev"),
)


@pytest.fixture(scope="session")
def exercise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    out = tmp_path_factory.mktemp("exercise") / "exercise"
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-D_GNU_SOURCE"]
    # The compiler would take calls out whose results it knows.
    argv = [compiler, *flags, "-fno-builtin", str(HERE / "exercise.c"), "-o", str(out)]
    subprocess.run(argv, check=True, timeout=100)
    return out


def under(mechanism: str, pattern: str = "byte:0xAA", *, check: bool = True) -> Preload:
    try:
        return preload(Spec.parse(mechanism), Pattern.parse(pattern), host_arch(), check=check)
    except BackendError as error:
        pytest.skip(str(error))


def variables(given: Preload, more: Mapping[str, str]) -> dict[str, str]:
    environment = {**os.environ, **given.environment, **more}
    del environment["REFBENCH_MALLOC_REPORT"]
    environment["LD_PRELOAD"] = ":".join(str(given.files[name]) for name in given.preload)
    return environment


def run(
    argv: Sequence[str | Path], given: Preload, **more: str
) -> subprocess.CompletedProcess[str]:
    """The test is skipped where the mechanism does not work."""
    done = subprocess.run(
        [str(part) for part in argv],
        env=variables(given, more),
        capture_output=True,
        text=True,
        timeout=100,
    )
    if done.returncode == EXIT_REFUSED:
        pytest.skip(done.stderr.strip())
    return done


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("forks", [(), ("fork", "10")])
def test_every_byte_that_is_handed_out_is_the_pattern(
    exercise: Path, mechanism: str, forks: tuple[str, ...]
) -> None:
    promised = "-1" if mechanism == "anon" else str(0xAA)
    done = run([exercise, promised, *forks], under(mechanism))
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_pattern_the_exercise_fails(exercise: Path) -> None:
    done = run([exercise, str(0xAA)], under("anon"))
    assert done.returncode < 0
    assert "not 0xaa" in done.stderr


@pytest.mark.parametrize("mechanism", ["anon", "memset", "memset-malloc", "memfd", "uffd"])
def test_xz_with_two_threads_packs_what_it_unpacks(mechanism: str, tmp_path: Path) -> None:
    xz = shutil.which("xz")
    if xz is None:
        pytest.skip("no xz")
    file = tmp_path / "data"
    file.write_bytes(b"".join(str(i).encode() for i in range(400_000)))
    before = file.read_bytes()
    packed = run([xz, "-T2", "-1", file], under(mechanism))
    assert (packed.returncode, packed.stderr) == (0, "")
    unpacked = subprocess.run([xz, "-dc", f"{file}.xz"], capture_output=True, check=True)
    assert unpacked.stdout == before


@pytest.mark.parametrize("spec", ["segv", "uffd-sigbus"])
def test_what_makes_system_calls_fail_is_refused(spec: str) -> None:
    with pytest.raises(Unsupported, match="EFAULT"):
        preload(Spec.parse(spec), Pattern.parse("byte:0xAA"), host_arch())
    given = under("anon")
    argv = ["/bin/true"]
    done = subprocess.run(
        argv, env=variables(given, {"REFBENCH_MALLOC": spec}), capture_output=True, text=True
    )
    assert done.returncode == EXIT_REFUSED
    assert "EFAULT" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("REFBENCH_MALLOC", "nonsense", "built without the mechanism: nonsense"),
        ("REFBENCH_MALLOC_PATTERN", "blue", "This is no pattern: blue"),
        ("REFBENCH_MALLOC_PATTERN", "file:/nowhere", "cannot be read: /nowhere"),
        ("REFBENCH_MALLOC_SETTINGS", "narenas:1", "leaves the program no arena"),
    ],
)
def test_what_cannot_work_ends_the_program_before_it_begins(
    name: str, value: str, said: str
) -> None:
    environment = variables(under("memset"), {name: value})
    done = subprocess.run(["/bin/true"], env=environment, capture_output=True, text=True)
    assert done.returncode == EXIT_REFUSED
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["junk:true", "narenas:1", "retain:maybe", "tcache"])
def test_settings_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="The allocator"):
        checked_settings(text)


def test_without_objcopy_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "libjemalloc_pic.a"
    archive.write_bytes(b"!<arch>\n")
    monkeypatch.setenv("REFBENCH_JEMALLOC", str(archive))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="no objcopy") as caught:
        build_interposer(cache=Cache(tmp_path / "cache"))
    assert "binutils" in caught.value.remedy


def test_without_jemalloc_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="libjemalloc-dev") as caught:
        build_interposer(cache=Cache(tmp_path / "cache"))
    assert "REFBENCH_JEMALLOC" in caught.value.remedy
    monkeypatch.setenv("REFBENCH_JEMALLOC", str(tmp_path / "absent.a"))
    with pytest.raises(BackendError, match="is not there"):
        build_interposer(cache=Cache(tmp_path / "cache"))


def test_glibc_fills_with_a_byte_only() -> None:
    given = preload(Spec.parse("glibc:perturb=yes"), Pattern.parse("byte:0xAA"), host_arch())
    assert given.environment == {"GLIBC_TUNABLES": "glibc.malloc.perturb=85"}
    with pytest.raises(Unsupported):
        preload(Spec.parse("glibc:perturb=yes"), Pattern.parse("byte:0xFF"), host_arch())
