"""A small ext2 file system, the same bytes every time: where a guest can write past its page cache.

Only what is not zero is kept, which fits a disk in memory that is zero to begin with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from refbench.cache import Cache
from refbench.errors import BackendError

KIND = "disk"
"""The artefact cache's word for it."""
SIZE = 4 << 20
"""Bytes of the file system: what a RAM disk of Linux has unless its kernel was built otherwise."""
_NAME = "ext2.img"
_BLOCK = 4096
_UUID = "6a1c5b5e-0000-4000-8000-00000000000"
_OPTIONS = (
    *("-t", "ext2", "-b", str(_BLOCK), "-I", "256", "-N", "16", "-m", "0"),
    *("-O", "none,sparse_super,filetype", "-U", f"{_UUID}0"),
    *("-E", f"root_owner=0:0,nodiscard,hash_seed={_UUID}1"),
)
_ENVIRONMENT = {"LC_ALL": "C", "E2FSPROGS_FAKE_TIME": "1"}
_SECONDS = 60.0
_SYSTEM = ("/usr/sbin", "/sbin")
"""Where the tool is, which an ordinary user's PATH may leave out."""


def build(*, cache: Cache | None = None) -> Path:
    """An empty ext2 file system of :data:`SIZE` bytes, cut behind its last block that is not zero.

    :raises BackendError: without ``mke2fs``, and when it fails.
    :raises StorageError: when the cache cannot be written.
    """
    path = os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM))
    tool = shutil.which("mke2fs", path=path)
    if tool is None:
        raise BackendError(
            "mke2fs, which makes a guest's disk, is not installed.",
            remedy="Install it: apt-get install e2fsprogs.",
        )
    version = _run([tool, "-V"])
    inputs = [version.splitlines()[0] if version else "", *_OPTIONS, str(SIZE)]
    return (cache or Cache.default()).get(KIND, inputs, lambda at: _make(tool, at)) / _NAME


def _make(tool: str, directory: Path) -> None:
    image = directory / _NAME
    with image.open("wb") as file:
        file.truncate(SIZE)
    _run([tool, "-q", "-F", *_OPTIONS, str(image), f"{SIZE >> 10}k"])
    used = len(image.read_bytes().rstrip(b"\0"))
    os.truncate(image, -(-used // _BLOCK) * _BLOCK)


def _run(argv: list[str]) -> str:
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        errors="replace",
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise BackendError(
            f"A guest's disk cannot be made: {done.stderr.strip()}",
            remedy="Check the room on the disc of the cache.",
        )
    return done.stderr
