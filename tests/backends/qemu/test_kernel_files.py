"""The files that kernels are made of: an installed refbench has them all."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

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
    asked = configure.wanted(name, arch, "stock")
    for option in ("MEMCG", "USERFAULTFD", "KSM", "SWAP", "VIRTIO_CONSOLE", "HUGETLBFS"):
        assert asked[f"CONFIG_{option}"].value == "y"
    assert asked["CONFIG_LOCALVERSION"].value == '"-stock"'
    assert asked["CONFIG_DEBUG_VM"].value == ("y" if name == "debug" else "n")


def test_only_what_is_measured_has_no_checks() -> None:
    plain = configure.wanted("minimal", "x86_64", "stock")
    distro = configure.wanted("distro", "x86_64", "stock")
    assert plain["CONFIG_CPU_MITIGATIONS"].value == "n"
    assert distro["CONFIG_CPU_MITIGATIONS"].value == "y"
    assert distro["CONFIG_INIT_ON_ALLOC_DEFAULT_ON"].value == "y"


def test_modules_are_found_by_their_kbuild_file() -> None:
    assert {"refpage", "testing"} <= {folder.name for folder in module_folders()}
