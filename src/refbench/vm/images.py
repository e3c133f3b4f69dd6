"""What the file of a kernel says about itself: architecture and version.

The layouts are those of the kernel's Documentation/arch/x86/boot.rst and
Documentation/arch/arm64/booting.rst, and of ELF.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from refbench.errors import UsageError

_SETUP_MAGIC = (0x202, b"HdrS")
_SETUP_VERSION = 0x20E
"""Where the 16-bit offset of the version string stands, counted from 0x200."""
_ARM64_MAGIC = (56, b"ARM\x64")
_ELF_MACHINES = {62: "x86_64", 183: "arm64"}
_BANNER = re.compile(rb"Linux version (\S+) \(")
_MOST = 256 << 20
"""Bytes: no kernel is larger."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an image is."""

    arch: str
    version: str
    """As ``uname -r`` says it; empty where the image does not tell."""


def look(path: Path) -> Facts:
    """What the image at ``path`` is: a bzImage, an arm64 Image (also gzipped) or a vmlinux.

    :raises UsageError: when it cannot be read, or is no kernel of an architecture that
        refbench boots.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST)
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(
            f"The kernel {path} cannot be read: {reason}.",
            remedy="Name a bzImage, an arm64 Image or a vmlinux, or a kernel of "
            "`refbench kernel list`.",
        ) from None
    if _at(data, *_SETUP_MAGIC):
        offset = 0x200 + int.from_bytes(data[_SETUP_VERSION : _SETUP_VERSION + 2], "little")
        return Facts("x86_64", _word(data[offset : offset + 256]))
    if _at(data, *_ARM64_MAGIC):
        return Facts("arm64", _banner(data))
    if data.startswith(b"\x7fELF"):
        arch = _ELF_MACHINES.get(int.from_bytes(data[18:20], "little"))
        if arch is not None:
            return Facts(arch, _banner(data))
    raise UsageError(
        f"{path} is no kernel that refbench boots.",
        remedy="Name a bzImage or vmlinux for x86_64, or an Image or vmlinux for arm64.",
    )


def tree_of(path: Path) -> Path | None:
    """The build tree that an image lies in, where it was made there."""
    path = path.resolve()
    trees = [path.parent]
    if path.parent.name == "boot" and len(path.parents) > 3:
        trees.append(path.parents[3])
    for tree in trees:
        if (tree / "include" / "generated").is_dir():
            return tree
    return None


def _at(data: bytes, offset: int, magic: bytes) -> bool:
    return data[offset : offset + len(magic)] == magic


def _word(data: bytes) -> str:
    return data.partition(b"\0")[0].partition(b" ")[0].decode("ascii", "replace")


def _banner(data: bytes) -> str:
    found = _BANNER.search(data)
    return found[1].decode("ascii", "replace") if found else ""
