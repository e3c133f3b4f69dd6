"""``bootstrap`` on machines that lack things: what it asks for, and of whom."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

TOOLS = ("sh", "cat", "cksum", "dirname", "find", "sort", "rm")

Bootstrap = Callable[..., "subprocess.CompletedProcess[str]"]


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The programs of a machine that has nothing but the basic ones and apt-get."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (programs / tool).symlink_to(found)
    script(programs / "apt-get", f'echo "$@" >>{tmp_path}/apt-get.log; exit 100')
    return programs


@pytest.fixture
def bootstrap(machine: Path, repository: Path, tmp_path: Path) -> Bootstrap:
    """Run it in a folder of its own, as user number ``uid``."""
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("bootstrap", "pyproject.toml"):
        shutil.copy(repository / name, clone)

    def run(*arguments: str, uid: int, **env: str) -> subprocess.CompletedProcess[str]:
        script(machine / "id", f"echo {uid}")
        return subprocess.run(
            ["sh", "./bootstrap", *arguments],
            cwd=clone,
            env={"PATH": os.fspath(machine), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_an_ordinary_user_gets_the_one_line(bootstrap: Bootstrap, tmp_path: Path) -> None:
    answer = bootstrap(uid=1000, PYTHON="/nonexistent/python3")
    assert answer.returncode == 1
    line = answer.stderr.splitlines()[-1].split()
    assert line[:4] == ["sudo", "apt-get", "install", "-y"]
    assert {"python3-venv", "python3-dev", "make", "git", "gcc", "libc6-dev"} <= set(line)
    assert not (tmp_path / "apt-get.log").exists()
    assert not (tmp_path / "clone" / ".venv").exists()


def test_root_installs_and_still_says_what_is_missing_when_that_fails(
    bootstrap: Bootstrap, tmp_path: Path
) -> None:
    answer = bootstrap(uid=0, PYTHON="/nonexistent/python3")
    assert answer.returncode == 1
    assert "update" in (tmp_path / "apt-get.log").read_text()
    assert "sudo apt-get install -y" in answer.stderr


def test_a_compiler_from_pypi_makes_one_of_the_system_unnecessary(bootstrap: Bootstrap) -> None:
    answer = bootstrap(uid=1000, PYTHON="/nonexistent/python3", EXTRAS="zig")
    assert "python3-venv" in answer.stderr
    assert "gcc" not in answer.stderr


def test_a_missing_browser_stops_nothing(bootstrap: Bootstrap) -> None:
    answer = bootstrap("test", uid=1000, PYTHON="/nonexistent/python3")
    line = answer.stderr.splitlines()[-1]
    assert "chromium" not in line


def test_tools_for_kernels_that_are_missing_stop_nothing(
    bootstrap: Bootstrap, machine: Path, tmp_path: Path
) -> None:
    answer = bootstrap("test", uid=1000, PYTHON="/nonexistent/python3")
    assert "qemu" not in answer.stderr.splitlines()[-1]
    script(machine / "apt-get", f'echo "$@" >>{tmp_path}/apt-get.log; [ "$1" = update ]')
    bootstrap("test", uid=0, PYTHON="/nonexistent/python3")
    asked = (tmp_path / "apt-get.log").read_text()
    for package in ("qemu-system-x86", "flex", "libelf-dev", "gcc-i686-linux-gnu", "ccache"):
        assert f" {package}" in asked


def test_without_apt_get_it_names_what_debian_calls_them(
    bootstrap: Bootstrap, machine: Path
) -> None:
    (machine / "apt-get").unlink()
    answer = bootstrap(uid=0, PYTHON="/nonexistent/python3")
    assert answer.returncode == 1
    assert "libc6-dev" in answer.stderr
    assert "sudo" not in answer.stderr


def test_an_unknown_level_is_refused(bootstrap: Bootstrap) -> None:
    answer = bootstrap("everything", uid=0)
    assert answer.returncode == 2
    assert "'everything'" in answer.stderr
