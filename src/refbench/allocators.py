"""Which allocator an executed program runs on, and how it is told which memory to hand out.

A mechanism with C sources comes by the malloc interposer. Two others come as they are, as
references from outside: Scudo, as Debian's compiler-rt has it, and the C library's own malloc.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from refbench import debian
from refbench.agent import host_arch
from refbench.cache import Cache
from refbench.errors import Unsupported, UsageError
from refbench.grammar import Spec, resolve
from refbench.interposer import LIBRARY, build_interposer
from refbench.plugins import registry
from refbench.words import Mechanism, Pattern

VALUES_FD = 3
"""Where an executed program's numbers go."""
PATTERN_FILE = "refbench-pattern"
"""The name under which the pattern's file travels."""
_SETTINGS = {
    "narenas": re.compile(r"[2-9]|[1-9]\d{1,2}"),
    "dirty_decay_ms": re.compile(r"-1|\d{1,9}"),
    "muzzy_decay_ms": re.compile(r"-1|\d{1,9}"),
    "retain": re.compile(r"true|false"),
    "tcache": re.compile(r"true|false"),
    "lg_tcache_max": re.compile(r"\d|1\d|2[0-3]"),
    "oversize_threshold": re.compile(r"\d{1,12}"),
}
"""The settings of jemalloc(3) that may be changed, and their values."""
_SCUDO_VERSIONS = (19, 18, 17, 16, 15, 14)
"""Of compiler-rt: Debian 12 has 14 to 16 and 19, Debian 13 has 17 to 19."""
_SCUDO_OPTIONS = {"none": "", "zero": "zero_contents=1", "pattern": "pattern_fill_contents=1"}
_SCUDO_ARCH = {"x86_64": "x86_64", "arm64": "aarch64"}
_DEBIAN_ARCH = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Preload:
    """What brings an allocator into a program.

    ``preload`` names those of ``files`` that the loader shall load first; in a value of
    ``environment``, ``@NAME`` stands for the place of a file on the target.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def preload(
    mechanism: Spec,
    pattern: Pattern,
    arch: str,
    *,
    check: bool = False,
    settings: str = "",
    values: int = VALUES_FD,
    cache: Cache | None = None,
) -> Preload:
    """What a program on ``mechanism`` needs; ``check``: it verifies what is handed out.

    ``settings`` are jemalloc's (``dirty_decay_ms:0,narenas:2``); ``values`` is the descriptor
    that the numbers of the allocator are written to when the program ends.

    :raises UsageError: for an option or a setting that does not exist.
    :raises Unsupported: for a mechanism or a pattern that no executed program can have.
    :raises BackendError: when an allocator cannot be built or fetched.
    """
    declared = registry().mechanism(mechanism)
    mechanism = declared.canonical(mechanism)
    cache = cache or Cache.default()
    if mechanism.name == "scudo":
        return _scudo(mechanism, declared, arch, cache)
    if mechanism.name == "glibc":
        return _glibc(mechanism, declared, pattern)
    _check_interposable(declared, pattern)
    files = {LIBRARY: build_interposer(arch, cache=cache).path}
    environment = {
        "REFBENCH_MALLOC": str(mechanism),
        "REFBENCH_MALLOC_PATTERN": pattern.text,
        "REFBENCH_MALLOC_REPORT": str(values),
    }
    if pattern.file is not None:
        files[PATTERN_FILE] = pattern.file
        environment["REFBENCH_MALLOC_PATTERN"] = f"file:@{PATTERN_FILE}"
    if settings:
        environment["REFBENCH_MALLOC_SETTINGS"] = checked_settings(settings)
    if check:
        environment["REFBENCH_MALLOC_CHECK"] = "1"
    return Preload(files, (LIBRARY,), environment)


def checked_settings(text: str) -> str:
    """``key:value,...`` of jemalloc, as given.

    :raises UsageError: for a key or a value that the interposer does not take.
    """
    for item in text.split(","):
        key, _, value = item.partition(":")
        known = _SETTINGS.get(key)
        if known is None:
            raise UsageError(
                f"The allocator has no setting {key!r}.",
                remedy=f"There are {', '.join(sorted(_SETTINGS))}.",
            )
        if not known.fullmatch(value):
            raise UsageError(
                f"The allocator's setting {key} cannot be {value!r}.",
                remedy="jemalloc(3) says what it means, docs/interposer.md which values it takes.",
            )
    return text


def _check_interposable(mechanism: Mechanism, pattern: Pattern) -> None:
    if not mechanism.sources:
        raise Unsupported(
            f"{mechanism.name} has no C source, so that no allocator can be put on it.",
            remedy="Use -b simulator.",
        )
    if mechanism.owns_signals:
        raise Unsupported(
            f"Under {mechanism.name} system calls fail with EFAULT for memory that was not "
            "touched before, and a real program does not expect that.",
            remedy="Use a mechanism that owns no signals, such as uffd.",
        )
    if pattern.tag is not None:
        raise Unsupported(
            f"The pattern {pattern.text} has a memory tag, which no allocator here can set.",
            remedy="Leave the tag out.",
        )


def _scudo(spec: Spec, declared: Mechanism, arch: str, cache: Cache) -> Preload:
    library = f"libclang_rt.scudo_standalone-{_SCUDO_ARCH[arch]}.so"
    packages = [
        debian.Package(
            f"libclang-rt-{version}-dev",
            needed_for="which the allocator Scudo comes from",
            where="Debian 12 and 13 have it.",
            instead="Or leave the mechanism scudo out.",
            arch="" if arch == host_arch() else _DEBIAN_ARCH[arch],
        )
        for version in _SCUDO_VERSIONS
    ]
    kept = debian.keep(
        cache, "scudo", packages, [f"usr/lib/llvm-*/lib/clang/*/lib/linux/{library}"]
    )
    fill = resolve(spec, declared.options, what="mechanism").text("fill")
    environment = {"SCUDO_OPTIONS": _SCUDO_OPTIONS[fill]} if _SCUDO_OPTIONS[fill] else {}
    return Preload({"libscudo.so": kept.path / library}, ("libscudo.so",), environment)


def _glibc(spec: Spec, declared: Mechanism, pattern: Pattern) -> Preload:
    if not resolve(spec, declared.options, what="mechanism").switch("perturb"):
        return Preload()
    if pattern.byte is None or pattern.tag is not None or pattern.byte == 0xFF:
        raise Unsupported(
            f"glibc cannot fill with the pattern {pattern.text}.",
            remedy="Use byte:0x00 to byte:0xFE.",
        )
    # mallopt(3), M_PERTURB: allocated memory gets the complement of the value's lowest byte.
    return Preload(environment={"GLIBC_TUNABLES": f"glibc.malloc.perturb={pattern.byte ^ 0xFF}"})
