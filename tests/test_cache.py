"""The artefact cache: built once, whole or not at all, and never by two at a time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refbench.cache import Cache, default_root, digest
from refbench.errors import StorageError
from refbench.processes import Identity

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def write(text: str) -> object:
    return lambda directory: (directory / "artefact").write_text(text)


def test_builds_once_and_returns_the_same_place(cache: Cache) -> None:
    built: list[Path] = []

    def build(directory: Path) -> None:
        built.append(directory)
        (directory / "artefact").write_text("made")

    first = cache.get("thing", ["a", b"b"], build)
    second = cache.get("thing", ["a", b"b"], build)
    assert first == second
    assert (first / "artefact").read_text() == "made"
    assert len(built) == 1
    assert not built[0].exists()


def test_other_inputs_are_another_artefact(cache: Cache, tmp_path: Path) -> None:
    source = tmp_path / "source.c"
    source.write_text("one")
    before = cache.get("thing", [source], lambda _d: None)
    source.write_text("two")
    after = cache.get("thing", [source], lambda _d: None)
    assert before != after


def test_the_boundary_between_inputs_counts() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["a"]) != digest([b"a"])


def test_a_directory_counts_by_names_and_content(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("x")
    before = digest([tree])
    (tree / "sub" / "file").rename(tree / "sub" / "other")
    assert digest([tree]) != before


def test_a_failed_build_leaves_nothing(cache: Cache) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("half")
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        cache.get("thing", ["a"], fail)
    assert cache.find("thing", ["a"]) is None
    assert not list((cache.root / "building").iterdir())
    place = cache.get("thing", ["a"], lambda d: (d / "whole").write_text("whole"))
    assert [path.name for path in place.iterdir()] == ["whole"]


def test_progress_is_told(tmp_path: Path) -> None:
    said: list[str] = []
    cache = Cache(tmp_path, lambda what, _share: said.append(what))
    cache.get("kernel", ["a"], lambda _d: None)
    assert said == ["building kernel"]


def test_the_environment_chooses_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path / "mine"))
    assert default_root() == tmp_path / "mine"
    monkeypatch.delenv("REFBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_root() == tmp_path / "xdg" / "refbench"


TWO = """
import pathlib, sys
from refbench.cache import Cache
def build(directory):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    (directory / "artefact").write_text("x" * 1000000)
print(Cache(pathlib.Path(sys.argv[1])).get("thing", ["a"], build))
"""


def test_processes_that_want_the_same_build_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-c", TWO, str(tmp_path / "cache"), str(log)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    both = [subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) for _ in range(3)]
    places = {process.communicate(timeout=60)[0] for process in both}
    assert len(places) == 1
    assert log.read_text() == "built\n"


KILLED = """
import os, pathlib, signal, sys
from refbench.cache import Cache
def build(directory):
    (directory / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
Cache(pathlib.Path(sys.argv[1])).get("thing", ["a"], build)
"""


def test_a_killed_builder_is_swept_and_replaced(cache: Cache) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    argv = [sys.executable, "-c", KILLED, str(cache.root)]
    assert subprocess.run(argv, env=environment, timeout=60, check=False).returncode == -9
    left = list((cache.root / "building").iterdir())
    assert len(left) == 1
    assert cache.sweep() == (str(left[0]),)
    assert not left[0].exists()
    place = cache.get("thing", ["a"], lambda d: (d / "whole").write_text("whole"))
    assert (place / "whole").exists()


def gone_within(path: Path, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while path.exists() or list(path.parent.iterdir()):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_what_is_large_goes_in_the_background(cache: Cache) -> None:
    with cache.temporary("thing", large=True) as directory:
        (directory / "-rf a b").mkdir()
        (directory / "-rf a b" / "file").write_text("much")
    assert not directory.exists()  # at once, under this name
    assert gone_within(directory)


STOPPED = """
import os, pathlib, signal, subprocess, sys
from refbench.cache import Cache
start = subprocess.Popen
def stopped(*arguments, **options):
    remover = start(*arguments, **options)
    os.kill(remover.pid, signal.SIGSTOP)
    return remover
subprocess.Popen = stopped
with Cache(pathlib.Path(sys.argv[1])).temporary("thing", large=True) as directory:
    (directory / "file").write_text("much")
"""


def test_what_a_killed_remover_left_is_swept(cache: Cache) -> None:
    """The remover is stopped before it begins; whoever started it has ended."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    argv = [sys.executable, "-c", STOPPED, str(cache.root)]
    subprocess.run(argv, env=environment, timeout=60, check=True)
    (left,) = (cache.root / "building").iterdir()
    remover = Identity.parse(left.name)
    assert remover is not None
    assert remover.alive
    assert cache.sweep() == ()
    assert (left / "file").exists()
    os.kill(remover.pid, signal.SIGKILL)
    while not (gone := cache.sweep()):
        time.sleep(0.01)
    assert gone == (str(left),)
    assert not left.exists()


def test_without_a_process_to_remove_it_in_it_is_removed_at_once(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(cache.root))
    with cache.temporary("thing", large=True) as directory:
        (directory / "file").write_text("much")
    assert not list((cache.root / "building").iterdir())


def test_the_build_of_a_live_process_is_not_swept(cache: Cache) -> None:
    def build(directory: Path) -> None:
        assert cache.sweep() == ()
        assert directory.exists()

    cache.get("thing", ["a"], build)


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        Cache(tmp_path / "file").get("thing", ["a"], lambda _d: None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_closed_directory_is_a_storage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StorageError, match="cannot be written") as caught:
        Cache(tmp_path / "cache").get("thing", ["a"], lambda _d: None)
    assert "REFBENCH_CACHE" in caught.value.remedy


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs takes root")
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "refbench-test", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_a_storage_error_and_leaves_nothing(small_disk: Path) -> None:
    cache = Cache(small_disk / "cache")
    with pytest.raises(StorageError, match="no room") as caught:
        cache.get("device", ["a"], lambda d: (d / "image").write_bytes(bytes(1 << 20)))
    assert "REFBENCH_CACHE" in caught.value.remedy
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert not list((cache.root / "building").iterdir())
    small = cache.get("device", ["a"], lambda d: (d / "image").write_bytes(bytes(1 << 10)))
    assert (small / "image").stat().st_size == 1 << 10
