"""Builds the malloc interposer: one shared library with every registered mechanism's C file.

The allocator underneath is jemalloc, as Debian's package has it: its extent hooks let a mechanism
supply the memory, and its records lie elsewhere, so that only the program touches that memory.
objcopy gives its public names a prefix; malloc and its family are ours (``native/interposer/``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from refbench import debian
from refbench.agent import DYNAMIC, NATIVE, Binary, build, host_arch, mechanism_sources
from refbench.cache import Cache
from refbench.errors import BackendError
from refbench.words import Mechanism

LIBRARY = "librefbench-malloc.so"
"""The name of its file."""
EXIT_REFUSED = 125
"""``RB_EXIT_REFUSED`` of ``interposer.h``: it could not begin, and the last line on stderr says
why."""
OWN_JEMALLOC = "REFBENCH_JEMALLOC"
"""The variable that names a ``libjemalloc_pic.a`` to use instead of Debian's."""
_ARCHIVE = "libjemalloc_pic.a"
_NEEDS = "5.3"
_PREFIX = "rbje_"
_DEBIAN_ARCH = {"x86_64": "amd64", "arm64": "arm64"}
_PUBLIC = (
    *("malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "memalign"),
    *("valloc", "malloc_usable_size", "mallocx", "rallocx", "xallocx", "sallocx", "dallocx"),
    *("sdallocx", "nallocx", "mallctl", "mallctlnametomib", "mallctlbymib"),
    *("malloc_stats_print", "malloc_message", "malloc_conf", "malloc_conf_2_conf_harder"),
)
"""jemalloc(3), and what 5.3 has besides."""
_FLAGS = (
    *DYNAMIC,
    *("-fPIC", "-shared", "-fvisibility=hidden"),
    *("-Wl,--exclude-libs,ALL", "-Wl,-z,defs", "-Wl,-z,start-stop-visibility=hidden"),
    f"-Wl,-soname,{LIBRARY}",
    # The archive comes before the objects that need it.
    f"-Wl,-u,{_PREFIX}malloc",
)


def build_interposer(
    arch: str | None = None,
    *,
    cache: Cache | None = None,
    mechanisms: Iterable[Mechanism] | None = None,
) -> Binary:
    """The library for ``arch`` (this machine's by default) with all registered mechanisms.

    :raises BackendError: without jemalloc, objcopy or a compiler, and when a source does not
        compile.
    :raises StorageError: when the cache cannot be written.
    """
    if mechanisms is None:
        from refbench.plugins import registry

        mechanisms = registry().mechanisms.values()
    arch = arch or host_arch()
    cache = cache or Cache.default()
    sources = (
        *sorted((NATIVE / "interposer").glob("*.c")),
        NATIVE / "library.c",
        NATIVE / "spec.c",
        *mechanism_sources(mechanisms),
    )
    flags = (*_FLAGS, str(_prefixed(arch, cache)), "-lm", "-static-libgcc")
    return build(LIBRARY, sources, arch, cache, flags)


def _package(arch: str) -> debian.Package:
    return debian.Package(
        "libjemalloc-dev",
        needed_for="which the malloc interposer is built on",
        where=f"Debian 12 and newer have jemalloc {_NEEDS}.",
        instead=f"Or set {OWN_JEMALLOC} to a libjemalloc_pic.a of jemalloc {_NEEDS}.",
        arch="" if arch == host_arch() else _DEBIAN_ARCH[arch],
    )


def _archive(arch: str, cache: Cache) -> Path:
    if own := os.environ.get(OWN_JEMALLOC):
        path = Path(own).expanduser()
        if not path.is_file():
            raise BackendError(
                f"The file that the variable {OWN_JEMALLOC} names, {own}, is not there.",
                remedy=f"Unset it, or set it to a libjemalloc_pic.a of jemalloc {_NEEDS}.",
            )
        return path
    kept = debian.keep(cache, "jemalloc", [_package(arch)], [f"usr/lib/*/{_ARCHIVE}"])
    if not kept.revision.startswith(f"{_NEEDS}."):
        raise BackendError(
            f"The malloc interposer needs jemalloc {_NEEDS}, and {kept.package} is "
            f"{kept.revision}.",
            remedy=f"Set {OWN_JEMALLOC} to a libjemalloc_pic.a of jemalloc {_NEEDS}.",
        )
    return kept.path / _ARCHIVE


def _prefixed(arch: str, cache: Cache) -> Path:
    """The archive of jemalloc with the prefix before its public names."""
    archive = _archive(arch, cache)
    tool = _objcopy(arch)
    renamed = [f"--redefine-sym={name}={_PREFIX}{name}" for name in _PUBLIC]

    def rename(directory: Path) -> None:
        done = subprocess.run(
            [tool, *renamed, str(archive), str(directory / _ARCHIVE)],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise BackendError(
                f"{tool} cannot rename the names of {archive}: {done.stderr.strip()}",
                remedy=f"It must be an archive of objects for {arch}; install binutils.",
            )

    place = cache.get("jemalloc-prefixed", [arch, archive, *renamed], rename)
    return place / _ARCHIVE


def _objcopy(arch: str) -> str:
    names = ["llvm-objcopy"]
    names.insert(0, "objcopy" if arch == host_arch() else "aarch64-linux-gnu-objcopy")
    for name in names:
        if found := shutil.which(name):
            return found
    raise BackendError(
        f"There is no objcopy for {arch} here, which the malloc interposer is built with.",
        remedy="Install it: apt install binutils"
        + ("." if arch == host_arch() else "-aarch64-linux-gnu."),
    )
