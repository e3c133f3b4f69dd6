"""The files that kernels are made of: an installed refbench has them all."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from refbench.errors import BackendError
from refbench_qemu.kernel import configure, listing
from refbench_qemu.kernel.places import CONFIGS, HERE, MODULES, PATCHES
from refbench_qemu.kernel.recipe import module_folders


def test_a_wheel_has_every_file(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["refbench_qemu.kernel"]
    packed = {path for pattern in patterns for path in HERE.glob(pattern)}
    there = [path for folder in (CONFIGS, PATCHES, MODULES) for path in listing.of_folder(folder)]
    assert there
    assert [path for path in there if path not in packed] == []


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
@pytest.mark.parametrize("name", configure.NAMES)
def test_every_configuration_is_complete(name: str, arch: str) -> None:
    asked = configure.wanted(name, arch)
    for option in ("MEMCG", "USERFAULTFD", "KSM", "SWAP", "VIRTIO_CONSOLE", "HUGETLBFS"):
        assert asked[f"CONFIG_{option}"].value == "y"
    assert asked["CONFIG_DEBUG_VM"].value == ("y" if name == "debug" else "n")


def test_only_what_is_measured_has_no_checks() -> None:
    plain = configure.wanted("minimal", "x86_64")
    distro = configure.wanted("distro", "x86_64")
    assert plain["CONFIG_CPU_MITIGATIONS"].value == "n"
    assert distro["CONFIG_CPU_MITIGATIONS"].value == "y"
    assert distro["CONFIG_INIT_ON_ALLOC_DEFAULT_ON"].value == "y"


def test_modules_are_found_by_their_kbuild_file() -> None:
    assert {"refpage", "testing"} <= {folder.name for folder in module_folders()}


def test_what_another_version_does_not_know_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "mm").mkdir()
    (tmp_path / "mm" / "Kconfig").write_text("menuconfig KNOWN\n\tbool\n")
    (tmp_path / ".config").write_text("# CONFIG_KNOWN is not set\n")
    asked = {"CONFIG_NEWER": configure.Wish("y", "a"), "CONFIG_KNOWN": configure.Wish("n", "a")}
    assert configure.check(tmp_path, asked) == ("CONFIG_NEWER",)
    asked["CONFIG_KNOWN"] = configure.Wish("y", "a")
    with pytest.raises(BackendError, match="CONFIG_KNOWN=y"):
        configure.check(tmp_path, asked)


def test_a_line_that_is_no_option_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.config"
    path.write_text("# fine\n\nCONFIG_A=y\nB=y\n")
    with pytest.raises(BackendError, match=r"Line 4 of bad\.config"):
        configure.wishes([path])


@pytest.mark.parametrize("name", configure.NAMES)
def test_a_configuration_says_everything_once(name: str) -> None:
    for path in configure.fragments(name, "x86_64"):
        lines = [line.partition("=")[0] for line in path.read_text().splitlines() if "=" in line]
        assert sorted(set(lines)) == sorted(lines), path.name
