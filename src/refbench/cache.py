"""The artefact cache: what is expensive to make and is the same for the same inputs.

An artefact is a directory that a builder filled: an agent, a kernel, a device image. Its place
follows from the hash of everything that it depends on, so it is never stale and never changed.
It appears in one rename after its files are on the disk; a build that fails leaves nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import platformdirs
from filelock import FileLock, Timeout

from refbench.errors import StorageError
from refbench.processes import Identity

Material = str | bytes | Path
"""What an artefact depends on: a text, bytes, or the content of a file or a directory."""
Progress = Callable[[str, float | None], None]
"""Told what is going on, and which share of it is done (0 to 1) where that is known."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def silent(what: str, share: float | None) -> None:
    """The progress callback that says nothing."""


def default_root() -> Path:
    """``REFBENCH_CACHE``, else ``refbench`` in the user's cache directory (XDG)."""
    chosen = os.environ.get("REFBENCH_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("refbench"))


def digest(inputs: Iterable[Material]) -> str:
    """SHA-256 over the inputs in their order, in hexadecimal.

    A file counts by its name and content, a directory by its files' relative names and content.
    """
    total = hashlib.sha256()
    for item in inputs:
        for kind, data in _parts(item):
            total.update(f"{kind}:{len(data)}:".encode())
            total.update(data)
    return total.hexdigest()


def _parts(item: Material) -> Iterator[tuple[str, bytes]]:
    match item:
        case str():
            yield "text", item.encode()
        case bytes():
            yield "bytes", item
        case _ if item.is_dir():
            for path in sorted(path for path in item.rglob("*") if path.is_file()):
                yield "name", path.relative_to(item).as_posix().encode()
                yield "file", file_digest(path)
        case _:
            yield "name", item.name.encode()
            yield "file", file_digest(item)


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache under ``root``; ``progress`` is also for builders to report with."""

    root: Path
    progress: Progress = silent

    @classmethod
    def default(cls, progress: Progress = silent) -> Self:
        """The user's cache."""
        return cls(default_root(), progress)

    def get(self, kind: str, inputs: Iterable[Material], build: Callable[[Path], object]) -> Path:
        """The directory of an artefact, built now if it is not there.

        ``build`` gets an empty directory on the cache's file system and fills it. While it runs
        no other process builds the same artefact. What it raises goes to the caller.

        :raises StorageError: when the cache cannot be written.
        """
        key = digest(inputs)[:32]
        place = self.root / kind / key
        if place.is_dir():
            return place
        with self._storage(kind):
            place.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(kind, key):
                if not place.is_dir():
                    self._build(kind, key, place, build)
        return place

    def find(self, kind: str, inputs: Iterable[Material]) -> Path | None:
        """The directory of an artefact if it is there."""
        place = self.root / kind / digest(inputs)[:32]
        return place if place.is_dir() else None

    def sweep(self) -> tuple[str, ...]:
        """Remove what builds of dead processes left half-done; the paths that are gone."""
        gone = []
        for path in sorted(self._temporary.glob("*")):
            owner = Identity.parse(path.name)
            if owner is None or not owner.alive:
                shutil.rmtree(path, ignore_errors=True)
                if not path.exists():
                    gone.append(str(path))
        return tuple(gone)

    @contextmanager
    def temporary(self, kind: str, key: str = "", *, large: bool = False) -> Iterator[Path]:
        """An empty directory on the cache's file system that is gone afterwards; where it becomes
        ``large`` it goes in the background, and nobody waits for it.

        :raises StorageError: when the cache cannot be written.
        """
        with self._storage(kind):
            self._temporary.mkdir(parents=True, exist_ok=True)
            prefix = f"{Identity.current()}-{kind}-{key}-"
            directory = Path(tempfile.mkdtemp(prefix=prefix, dir=self._temporary))
            try:
                yield directory
            finally:
                if not (large and _remove_aside(directory)):
                    shutil.rmtree(directory, ignore_errors=True)

    @property
    def _temporary(self) -> Path:
        return self.root / "building"

    def _build(self, kind: str, key: str, place: Path, build: Callable[[Path], object]) -> None:
        with self.temporary(kind, key) as directory:
            self.progress(f"building {kind}", None)
            build(directory)
            _sync(directory)
            directory.chmod(0o755)
            directory.rename(place)
            _sync_entry(place.parent)

    @contextmanager
    def _locked(self, kind: str, key: str) -> Iterator[None]:
        locks = self.root / "locks"
        locks.mkdir(exist_ok=True)
        lock = FileLock(locks / f"{kind}-{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.progress(f"waiting for another process that builds {kind}", None)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _storage(self, kind: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                message = f"There is no room for {kind} in the cache {self.root}: {error.strerror}."
                remedy = "Free some space, or set REFBENCH_CACHE to a directory that has it."
            elif error.errno in _CLOSED:
                message = f"The cache {self.root} cannot be written: {error.strerror}."
                remedy = "Set REFBENCH_CACHE to a directory that you may write to."
            else:
                raise
            raise StorageError(message, remedy=remedy) from error


def _remove_aside(directory: Path) -> bool:
    """Leave a directory to a process that removes it and outlives this one; false where none can
    be started.

    Its name says that the remover owns it, so that it is swept when that is killed. The remover
    waits for its name: until then the directory is this process's, and is swept with it.
    """
    argv = ["sh", "-c", 'IFS= read -r name && exec rm -rf -- "$name"']
    try:
        remover = subprocess.Popen(
            argv,
            cwd=directory.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    # Reaped where this process goes on; where it ends, by whoever adopts orphans.
    threading.Thread(target=remover.wait, daemon=True).start()
    assert remover.stdin is not None
    try:
        with remover.stdin as told:
            name = f"{Identity.of(remover.pid)}-removing"
            directory.rename(directory.with_name(name))
            told.write(f"{name}\n".encode())
    except OSError:
        return False
    return True


def _sync(directory: Path) -> None:
    """Bring every file below ``directory`` to the disk."""
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            _sync_entry(path)
    _sync_entry(directory)


def _sync_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
