"""Which files of a source tree count: what git knows of it, or all but what builds leave."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from refbench.errors import UsageError

_BUILT = (".o", ".a", ".ko", ".cmd", ".mod", ".mod.c", ".order", ".symvers", ".d")
"""Endings of what a build leaves beside the sources (the kernel's own .gitignore)."""


def files(tree: Path) -> tuple[str, ...]:
    """The relative names of a tree's files and symbolic links, sorted."""
    names = _git(tree)
    if "Makefile" not in names:  # no repository, or one around it that does not know it
        names = _walk(tree)
    return tuple(sorted(name for name in names if os.path.lexists(tree / name)))


def of_folder(folder: Path) -> tuple[Path, ...]:
    """The files below a small folder, in a stable order, without what builds leave."""
    return tuple(folder / name for name in sorted(_walk(folder)))


def digest(tree: Path, names: Sequence[str]) -> str:
    """SHA-256 over names, kinds and contents of ``names`` below ``tree``.

    :raises UsageError: when one cannot be read.
    """
    total = hashlib.sha256()
    try:
        for name in names:
            path = tree / name
            if path.is_symlink():
                kind, content = "link", hashlib.sha256(os.fsencode(path.readlink())).digest()
            else:
                kind = "program" if path.stat().st_mode & 0o100 else "file"
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            total.update(b"%s\0%s\0" % (os.fsencode(name), kind.encode()) + content)
    except OSError as error:
        raise UsageError(
            f"The source {error.filename} cannot be read: {error.strerror}.",
            remedy="Make the tree readable, or name another.",
        ) from None
    return total.hexdigest()


def _git(tree: Path) -> list[str]:
    """What git would carry into a commit of everything; empty where it does not know the tree."""
    if not shutil.which("git"):
        return []
    argv = ["git", "-C", str(tree), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode:
        return []
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _walk(tree: Path) -> list[str]:
    found = []
    for folder, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        relative = os.path.relpath(folder, tree)
        found += [
            name if relative == "." else f"{relative}/{name}"
            for name in (*names, *links)
            if not name.endswith(_BUILT)
        ]
    return found
