"""An initial file system from files, the same bytes for the same files.

Nothing in it needs a right that an ordinary user lacks: device nodes come from the kernel's own
``/dev/console`` and devtmpfs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from refbench.cache import Cache, Material, file_digest
from refbench.errors import BackendError

KIND = "initramfs"
"""The artefact cache's word for it."""
_FORMAT = "newc, without compression, mode 755, 1"
"""Changes with what :func:`build` does to the files."""
_NAME = "initramfs.cpio"
_SECONDS = 120.0


def build(files: Mapping[str, Path], *, cache: Cache | None = None) -> Path:
    """An initramfs with ``files`` (a path there to a file here), from the cache or made now.

    The folders above them are made. Everything belongs to root, may be run by everybody and is
    of 1970. It is not compressed, because a guest without hardware virtualisation takes longer
    to unpack it than QEMU to read it.

    :raises BackendError: without ``cpio``, and when it fails.
    :raises StorageError: when the cache cannot be written.
    """
    material: list[Material] = [_FORMAT]
    for there, here in sorted(files.items()):
        material += [str(_relative(there)), file_digest(here)]
    chosen = dict(files)
    return (cache or Cache.default()).get(KIND, material, lambda at: _make(at, chosen)) / _NAME


def _relative(there: str) -> PurePosixPath:
    path = PurePosixPath(there.lstrip("/"))
    assert path.parts
    assert ".." not in path.parts, there
    return path


def _make(directory: Path, files: Mapping[str, Path]) -> None:
    tool = shutil.which("cpio")
    if tool is None:
        raise BackendError(
            "cpio, which makes the guest's initial file system, is not installed.",
            remedy="Install it: apt-get install cpio.",
        )
    with tempfile.TemporaryDirectory(dir=directory) as name:
        root = Path(name)
        for there, here in files.items():
            place = root / _relative(there)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here, place)
        paths = sorted(root.rglob("*"))
        # Deepest first: what is made in a folder changes the folder's time.
        for path in reversed(paths):
            path.chmod(0o755)
            os.utime(path, (0, 0))
        names = "".join(f"{path.relative_to(root)}\0" for path in paths)
        argv = [tool, "--create", "--quiet", "--null", "--format=newc", "--owner=+0:+0"]
        with (directory / _NAME).open("wb") as archive:
            done = subprocess.run(
                [*argv, "--reproducible"],
                input=names.encode(),
                stdout=archive,
                stderr=subprocess.PIPE,
                cwd=root,
                timeout=_SECONDS,
                check=False,
            )
    if done.returncode != 0:
        raise BackendError(
            f"The initial file system cannot be made: {done.stderr.decode(errors='replace')}",
            remedy="Check the room on the disc of the cache.",
        )
