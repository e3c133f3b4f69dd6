"""Disks for guests: the same bytes, whoever makes them and when."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from refbench.cache import Cache
from refbench.errors import BackendError
from refbench.vm import disks


def has(tool: str) -> str:
    path = shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"needs {tool} (apt-get install e2fsprogs)")
    return path


def test_two_makings_are_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has("mke2fs")
    first = disks.build(cache=Cache(tmp_path / "a")).read_bytes()
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert disks.build(cache=Cache(tmp_path / "longer")).read_bytes() == first
    assert len(first) < 1 << 16


def test_what_was_cut_off_is_an_empty_file_system_again(tmp_path: Path) -> None:
    tool = has("e2fsck")
    has("mke2fs")
    image = tmp_path / "disk"
    image.write_bytes(disks.build(cache=Cache(tmp_path / "cache")).read_bytes())
    os.truncate(image, disks.SIZE)
    done = subprocess.run(
        [tool, "-f", "-n", str(image)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_without_the_tool_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(disks, "_SYSTEM", ())
    with pytest.raises(BackendError, match="mke2fs") as caught:
        disks.build(cache=Cache(tmp_path / "cache"))
    assert "apt-get install e2fsprogs" in caught.value.remedy
