"""The programs that build a kernel, and what to install when they are not there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refbench.agent import host_arch
from refbench.errors import BackendError

_TRIPLES = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_FOLDERS = {"x86_64": "x86", "arm64": "arm64"}
# What the kernel's build calls beside the compiler, and the Debian package that has it.
_TOOLS = {
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "patch": "patch",
    "tar": "tar",
    "xz": "xz-utils",
    "gzip": "gzip",
    "awk": "mawk",
    "perl": "perl",
    "cmp": "diffutils",
}
_LIBELF = "#include <gelf.h>\nint main(void) { return (int)elf_version(EV_NONE); }\n"
CCACHE_SIZE = "1G"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What builds kernels for one architecture."""

    arch: str
    prefix: str
    """``CROSS_COMPILE``; empty for this machine's own architecture."""
    compiler: str
    """The first line of the compiler's ``--version``."""
    linker: str
    ccache: str
    """Its path; empty where it is not installed."""

    @property
    def folder(self) -> str:
        """The architecture's folder below ``arch/``."""
        return _FOLDERS[self.arch]

    def variables(self) -> tuple[str, ...]:
        """What ``make`` is given on its command line."""
        wrapper = f"{self.ccache} " if self.ccache else ""
        return (
            f"ARCH={self.arch}",
            f"CROSS_COMPILE={self.prefix}",
            f"CC={wrapper}{self.prefix}gcc",
            f"HOSTCC={wrapper}gcc",
        )

    def environment(self, root: Path, directory: Path) -> dict[str, str]:
        """What ``make`` gets instead of the caller's environment, so that a build depends on its
        inputs alone. ``root`` is the artefact cache's, ``directory`` for temporary files."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in {"PATH", "HOME"} or name.startswith("CCACHE_")
        }
        return {
            "CCACHE_DIR": str(root / "ccache"),
            "CCACHE_MAXSIZE": CCACHE_SIZE,
            # Sources lie in another directory in every build; nothing that is built says which.
            "CCACHE_NOHASHDIR": "1",
            "CCACHE_BASEDIR": str(directory),
            # Headers are known by the compiler's list of them, without preprocessing each file
            # once more beforehand.
            "CCACHE_DEPEND": "1",
            **kept,
            "LC_ALL": "C",
            "TMPDIR": str(directory),
            "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
            "KBUILD_BUILD_USER": "refbench",
            "KBUILD_BUILD_HOST": "refbench",
            "KBUILD_BUILD_VERSION": "1",
        }


def toolchain(arch: str, *, libelf: bool) -> Toolchain:
    """The tools for kernels of ``arch``; ``libelf`` where the build compiles objtool.

    :raises BackendError: naming everything that is missing, with the line that installs it.
    """
    prefix = "" if arch == host_arch() else f"{_TRIPLES[arch]}-"
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool)]
    names = [tool for tool in _TOOLS if not shutil.which(tool)]
    for command, package in _compilers(prefix).items():
        if not shutil.which(command):
            names.append(command)
            missing.append(package)
    if libelf and shutil.which("gcc") and not _compiles(_LIBELF):
        names.append("libelf's headers")
        missing.append("libelf-dev")
    if missing:
        packages = " ".join(dict.fromkeys(missing))
        raise BackendError(
            f"Building a kernel for {arch} needs what is not there: {', '.join(names)}.",
            remedy=f"On Debian: sudo apt-get install -y {packages}",
        )
    return Toolchain(
        arch,
        prefix,
        _first_line(f"{prefix}gcc"),
        _first_line(f"{prefix}ld"),
        shutil.which("ccache") or "",
    )


def _compilers(prefix: str) -> Mapping[str, str]:
    found = {"gcc": "gcc libc6-dev", "ld": "binutils"}
    if prefix:
        found[f"{prefix}gcc"] = f"gcc-{prefix.removesuffix('-').replace('_', '-')}"
    return found


def _compiles(source: str) -> bool:
    argv = ["gcc", "-x", "c", "-fsyntax-only", "-"]
    done = subprocess.run(argv, input=source, text=True, capture_output=True, check=False)
    return done.returncode == 0


def _first_line(command: str) -> str:
    try:
        done = subprocess.run(
            [command, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode:
        raise BackendError(
            f"The program {command} that builds kernels does not work.",
            remedy="Install it again; `refbench kernel build` uses the first one in PATH.",
        )
    return done.stdout.partition("\n")[0].strip()
