"""Programs that are linked when they start: their loader, and the libraries that it will want.

A target may have no C library at all, so a program's loader and libraries travel with it and are
named to the loader one by one: it takes a library that has the wanted SONAME already in place of
looking for it. Only the machine that the libraries come from can say which ones they are.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from refbench.errors import Unsupported

_MACHINES = {62: "x86_64", 183: "arm64"}
"""e_machine of elf(5)."""
_PT_INTERP = 3
_ET_DYN = 3
_FOUND = re.compile(r"\s*(?:(\S+) => )?(/.*?) \(0x[0-9a-f]+\)\Z")
_MISSING = re.compile(r"\s*(\S+) => not found\Z")
_TIMEOUT = 60.0
_HEAD = struct.Struct("<16xHH12xQ14xHH")
_SEGMENT = struct.Struct("<I4xQ16xQ")


@dataclass(frozen=True, slots=True)
class Object:
    """A program or a library: what its headers say."""

    path: Path
    arch: str
    interpreter: Path | None
    """The loader that it asks for; a library and a static program ask for none."""
    shared: bool
    """A library, or a program that may lie anywhere."""


def read_object(path: Path) -> Object | None:
    """The headers of a 64-bit little-endian ELF file; ``None`` for any other file.

    :raises Unsupported: when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
                return None
            kind, machine, table, size, count = _HEAD.unpack_from(head)
            file.seek(table)
            segments = file.read(size * count)
            interpreter = None
            for at in range(0, len(segments) - _SEGMENT.size + 1, size or 1):
                what, offset, length = _SEGMENT.unpack_from(segments, at)
                if what == _PT_INTERP:
                    file.seek(offset)
                    interpreter = Path(os.fsdecode(file.read(length).rstrip(b"\0")))
    except OSError as error:
        raise Unsupported(f"The file {path} cannot be read: {error.strerror}.") from None
    return Object(path, _MACHINES.get(machine, f"machine {machine}"), interpreter, kind == _ET_DYN)


def loader_of(program: Path, arch: str) -> Path:
    """The loader that a program asks for, which is here.

    :raises Unsupported: for what is no program of ``arch`` that is linked when it starts.
    """
    found = read_object(program)
    if found is None:
        raise Unsupported(
            f"{program} is no program of its own, such as a script.",
            remedy="Execute its interpreter, and give the script as an argument.",
        )
    if found.arch != arch:
        raise Unsupported(
            f"{program} is a program for {found.arch}, and the target is {arch}.",
            remedy=f"Bring one that was built for {arch}.",
        )
    if found.interpreter is None:
        raise Unsupported(
            f"{program} is linked statically: no allocator can be put under it.",
            remedy="Build it without -static.",
        )
    if not found.interpreter.exists():
        raise Unsupported(
            f"{program} asks for the loader {found.interpreter}, which is not here.",
            remedy="Install the C library that it was built with.",
        )
    return found.interpreter.resolve()


def libraries(loader: Path, files: Iterable[Path]) -> tuple[Path, ...]:
    """What ``files`` (programs and libraries; others are left out) are linked with, each once, in
    the order in which the loader will want them, without the files and the loader themselves.

    :raises Unsupported: when a library is not here.
    """
    objects = [path for path in files if (found := read_object(path)) and _is_linked(found)]
    mine = {path.resolve() for path in objects} | {loader.resolve()}
    beside = ":".join(dict.fromkeys(str(path.resolve().parent) for path in objects))
    wanted: dict[Path, None] = {}
    for path in objects:
        wanted |= dict.fromkeys(_listed(loader, path, beside))
    return tuple(path for path in wanted if path not in mine)


def _is_linked(found: Object) -> bool:
    return found.interpreter is not None or found.shared


def _listed(loader: Path, path: Path, beside: str) -> list[Path]:
    """What the loader says; nothing of the program itself runs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LD_")}
    argv = [str(loader), "--library-path", beside, "--list", str(path)]
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            env={**environment, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unsupported(f"The loader {loader} cannot be asked: {error}.") from None
    if "statically linked" in done.stdout:
        return []
    found = []
    for line in done.stdout.splitlines():
        if missing := _MISSING.match(line):
            raise Unsupported(
                f"{path} needs the library {missing[1]}, which is not here.",
                remedy="Install it, or put it beside the program.",
            )
        if match := _FOUND.match(line):
            found.append(Path(match[2]).resolve())
    if done.returncode:
        said = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise Unsupported(
            f"The loader {loader} does not take {path}: {said}.",
            remedy="Bring one that was built for this machine's C library.",
        )
    return found
