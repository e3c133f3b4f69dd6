"""Kernels to boot: what a built one is, and where it is found.

``refbench kernel build`` puts kernels into the artefact cache, one directory each, with a record
of what it is made of. Any other image is a kernel too: what a boot needs is read off the file and
the build tree around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from refbench.agent import host_arch
from refbench.cache import Cache, file_digest
from refbench.errors import BackendError, UsageError
from refbench.vm import images

KIND = "kernel"
"""The artefact cache's word for a built kernel."""
RECORD = "kernel.json"
DEFAULT = "patched"
IMAGES = {"x86_64": "bzImage", "arm64": "Image"}
"""What the file to boot is called, by architecture."""
COMMANDS = {
    "patched": "refbench kernel build",
    "patched-distro": "refbench kernel build --config distro",
    "patched-debug": "refbench kernel build --config debug",
    "stock": "refbench kernel build --patches none",
    "v1": "refbench kernel build --patches v1",
}
"""The kernels that refbench knows by name, and what builds each."""
_DEFINE = re.compile(r"^#define\s+__NR_(\w+)\s+(\d+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch that a kernel was built with."""

    name: str
    digest: str
    """SHA-256 of the file."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted."""

    name: str
    """As it is asked for: ``patched``, or the path of an image."""
    version: str
    """As ``uname -r`` says it; empty where the image does not tell."""
    arch: str
    """``x86_64`` or ``arm64``."""
    config: str
    """``minimal``, ``distro``, ``debug``; empty for an image that refbench did not build."""
    patches: tuple[Patch, ...]
    """In the order in which they were applied."""
    image: Path
    modules: Path | None
    """A directory with ``NAME.ko`` files that this kernel loads."""
    syscalls: Mapping[str, int] = field(compare=False)
    """Numbers of the system calls by name; empty where no build tree tells them."""
    digest: str
    """SHA-256 in hexadecimal: of the image, and of the modules where there are any."""
    source: str = ""
    """What it was built from, for people: package, version, SHA-256."""
    compiler: str = ""
    """The first line of the compiler's ``--version``."""
    build_id: str = ""
    """The GNU build ID of its vmlinux, in hexadecimal."""
    recipe: str = ""
    """SHA-256 of what refbench itself put into it: patches, configuration, modules."""

    def module(self, name: str) -> Path:
        """The file of a module.

        :raises UsageError: when this kernel came without it.
        """
        path = None if self.modules is None else self.modules / f"{name}.ko"
        if path is None or not path.is_file():
            raise UsageError(
                f"The kernel {self.name} has no module {name!r}.",
                remedy="Kernels that `refbench kernel build` makes have refbench's modules; "
                "--source TREE takes your own.",
            )
        return path


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept beside a built kernel: everything about it but its place."""

    name: str
    version: str
    arch: str
    config: str
    patches: tuple[Patch, ...]
    syscalls: dict[str, int]
    digest: str
    source: str
    compiler: str
    build_id: str
    recipe: str = ""

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """The record of a kernel's directory; None when there is none that can be read."""
        try:
            return msgspec.json.decode((directory / RECORD).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, directory: Path) -> None:
        """Write it, for people to read as well."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=2)
        (directory / RECORD).write_bytes(text + b"\n")

    def kernel(self, directory: Path) -> Kernel:
        """The kernel in its directory."""
        modules = directory / "modules"
        return Kernel(
            name=self.name,
            version=self.version,
            arch=self.arch,
            config=self.config,
            patches=self.patches,
            image=directory / IMAGES[self.arch],
            modules=modules if modules.is_dir() else None,
            syscalls=self.syscalls,
            digest=self.digest,
            source=self.source,
            compiler=self.compiler,
            build_id=self.build_id,
            recipe=self.recipe,
        )


def built(cache: Cache | None = None) -> tuple[Kernel, ...]:
    """The kernels that ``refbench kernel build`` made, the one last asked for first."""
    root = (cache or Cache.default()).root / KIND
    found = []
    for directory in root.glob("*/"):
        record = Record.read(directory)
        if record is not None:
            kernel = record.kernel(directory)
            found.append((-directory.stat().st_mtime_ns, kernel.name, str(directory), kernel))
    return tuple(kernel for *_, kernel in sorted(found, key=lambda item: item[:3]))


def find(name: str = DEFAULT, arch: str | None = None, cache: Cache | None = None) -> Kernel:
    """A built kernel by its name, or any image by its path (a name with a slash in it).

    Of several with one name it is one for this machine's architecture, and of those, as after the
    patches changed, the one last built or asked for.

    :raises UsageError: when ``name`` is a path and no kernel is there, or one of another
        architecture.
    :raises BackendError: when no kernel of that name has been built.
    """
    if "/" in name or name.startswith("~"):
        return _own(Path(name).expanduser(), name, arch)
    kernels = built(cache)
    named = [kernel for kernel in kernels if kernel.name == name and arch in {None, kernel.arch}]
    if named:
        return min(named, key=lambda kernel: kernel.arch != host_arch())
    command = COMMANDS.get(name, "")
    suffix = "" if arch in {None, "x86_64"} else f" --arch {arch}"
    if command:
        remedy = f"Build it: `{command}{suffix}`."
    else:
        there = ", ".join(sorted({kernel.name for kernel in kernels} | set(COMMANDS)))
        remedy = f"`refbench kernel list` shows what there is; the names are {there}, or a path."
    where = f" for {arch}" if arch else ""
    raise BackendError(f"No kernel {name!r}{where} has been built.", remedy=remedy)


def syscall_numbers(tree: Path, arch: str) -> dict[str, int]:
    """The numbers of the system calls by name, from the headers that a build generated.

    ``tree`` is where the kernel was built; the result is empty when it was not built there.
    """
    folder = {"x86_64": "x86", "arm64": "arm64"}[arch]
    header = tree / "arch" / folder / "include" / "generated" / "uapi" / "asm" / "unistd_64.h"
    try:
        text = header.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    return {name: int(number) for name, number in _DEFINE.findall(text)}


def _own(path: Path, name: str, arch: str | None) -> Kernel:
    """A kernel that somebody else built; one out of the cache keeps its record."""
    record = Record.read(path.parent)
    if record is not None and path.name == IMAGES[record.arch]:
        kernel = record.kernel(path.parent)
    else:
        facts = images.look(path)
        tree = images.tree_of(path)
        kernel = Kernel(
            name=name,
            version=facts.version,
            arch=facts.arch,
            config="",
            patches=(),
            image=path.resolve(),
            modules=None,
            syscalls=syscall_numbers(tree, facts.arch) if tree else {},
            digest=file_digest(path).hex(),
        )
    if arch not in {None, kernel.arch}:
        raise UsageError(
            f"The kernel {path} is one for {kernel.arch}, not for {arch}.",
            remedy="Name an image of the right architecture.",
        )
    return kernel
