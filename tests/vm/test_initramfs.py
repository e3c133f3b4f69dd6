"""Initial file systems: the same bytes for the same files, whoever makes them and when."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from refbench.cache import Cache
from refbench.errors import BackendError
from refbench.vm import initramfs


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"first")
    two.write_bytes(b"second" * 1000)
    return {"init": one, "/lib/deep/two": two}


def listing(archive: Path) -> dict[str, list[str]]:
    done = subprocess.run(
        ["cpio", "--list", "--verbose", "--numeric-uid-gid", "--quiet"],
        input=archive.read_bytes(),
        capture_output=True,
        check=True,
    )
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    return {row[-1]: row[:-1] for row in rows}


def test_the_files_are_there_and_belong_to_root(files: dict[str, Path], tmp_path: Path) -> None:
    archive = initramfs.build(files, cache=Cache(tmp_path / "cache"))
    rows = listing(archive)
    assert list(rows) == ["init", "lib", "lib/deep", "lib/deep/two"]
    for words in rows.values():
        assert words[0].endswith("rwxr-xr-x")
        assert words[2:4] == ["0", "0"]
        assert "1970" in words
    subprocess.run(
        ["cpio", "--extract", "--make-directories", "--quiet", "--no-preserve-owner"],
        input=archive.read_bytes(),
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "lib/deep/two").read_bytes() == b"second" * 1000


def test_two_makings_are_the_same_to_the_byte(files: dict[str, Path], tmp_path: Path) -> None:
    first = initramfs.build(files, cache=Cache(tmp_path / "a")).read_bytes()
    for path in files.values():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    backwards = dict(reversed(files.items()))
    assert initramfs.build(backwards, cache=Cache(tmp_path / "longer")).read_bytes() == first


def test_another_content_or_place_is_another_archive(
    files: dict[str, Path], tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    first = initramfs.build(files, cache=cache)
    assert initramfs.build(files, cache=cache) == first
    assert initramfs.build({"init": files["init"]}, cache=cache) != first
    files["init"].write_bytes(b"changed")
    assert initramfs.build(files, cache=cache) != first


def test_without_cpio_the_package_is_named(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="apt-get install cpio"):
        initramfs.build(files, cache=Cache(tmp_path / "cache"))
