"""What sessions leave behind, and how it goes away: files, cgroups, processes, changed knobs.

Every session keeps a small directory named after its process. What it changes outside is
written there *before* it is changed, so that after a kill the next command can undo it.
"""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import msgspec

from refbench.cache import Cache, default_root
from refbench.errors import StorageError
from refbench.knobs import Knobs
from refbench.processes import Identity, boot_id, kill, kill_marked

_SESSIONS = "sessions"
_STATE = "state.json"
_EMPTY_WITHIN = 10.0
_LOOK_AGAIN = 0.002
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Record:
    """What a session has to give back."""

    boot: str
    cgroups: tuple[str, ...] = ()
    mark: str = ""
    """What its processes carry in their environment."""


class SessionState:
    """The directory of one open session. :meth:`close` gives everything back.

    ``files`` is a directory on disk for temporary files of the session.
    """

    def __init__(self, directory: Path, record: Record) -> None:
        self._directory = directory
        self._record = record
        self._knobs = Knobs(directory.parent.parent)
        self.files = directory / "files"

    @classmethod
    def create(cls, root: Path | None = None) -> Self:
        """Begin a session under a cache root (the user's by default).

        :raises StorageError: when the directory cannot be made.
        """
        place = (root or default_root()) / _SESSIONS
        directory = place / f"{Identity.current()}-{next(_numbers)}"
        state = cls(directory, Record(boot_id(), mark=secrets.token_hex(8)))
        try:
            state.files.mkdir(parents=True)
            state._write()
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise StorageError(
                f"The session's directory {directory} cannot be made: {error.strerror}.",
                remedy="Set REFBENCH_CACHE to a directory that you may write to and has room.",
            ) from error
        return state

    @property
    def name(self) -> str:
        """A name that no other session on this machine has while it lives."""
        return self._directory.name

    @property
    def mark(self) -> str:
        """What the processes of the session are to carry as
        :data:`refbench.processes.MARK`; always 16 characters, because the environment's
        size moves a program's stack."""
        return self._record.mark

    def remember_cgroup(self, directory: Path) -> None:
        """``directory`` is about to be made, and goes with the session."""
        known = self._record.cgroups
        self._update(replace(self._record, cgroups=(*known, str(directory))))

    def set_knob(self, path: Path, value: str) -> None:
        """Write a system setting; it gets its old value back when the last session that
        wants the new one ends.

        :raises BackendError: when it cannot be read or written.
        """
        self._knobs.set(self.name, path, value)

    def close(self) -> tuple[str, ...]:
        """Give everything back; may be called twice. What could not be undone, as sentences."""
        if not self._directory.exists():
            return ()
        problems: list[str] = []
        self._knobs.release(self.name, [], problems)
        return (*problems, *_undo(self._directory, self._record, ours=True))

    def _update(self, record: Record) -> None:
        self._record = record
        self._write()

    def _write(self) -> None:
        handle, name = tempfile.mkstemp(dir=self._directory)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(self._record))
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(self._directory / _STATE)


@dataclass(frozen=True, slots=True)
class Swept:
    """What :func:`sweep` did, as sentences for people."""

    done: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def sweep(root: Path | None = None) -> Swept:
    """Undo what dead sessions left: processes, cgroups, knobs, files. Never raises.

    Every command calls it when it starts; without leftovers it costs one directory listing.
    """
    root = root or default_root()
    done: list[str] = []
    problems: list[str] = []
    for directory in _sessions(root / _SESSIONS):
        owner = Identity.parse(directory.name)
        record = _read(directory) or Record("")
        if owner is not None and owner.alive and record.boot in ("", boot_id()):
            continue
        problems += _undo(directory, record, ours=False)
        done.append(f"removed what the dead session {directory.name} left")
    Knobs(root).sweep(done, problems)
    try:
        done += [f"removed {path}" for path in Cache(root).sweep()]
    except OSError as error:
        problems.append(f"The cache {root} cannot be swept: {error.strerror}.")
    return Swept(tuple(done), tuple(problems))


def _undo(directory: Path, record: Record, *, ours: bool) -> list[str]:
    """Give back what a session has outside its directory, then that; what did not work."""
    problems: list[str] = []
    if record.boot == boot_id():
        if record.mark and not ours and not kill_marked(record.mark, _EMPTY_WITHIN):
            problems.append(f"Processes of the session {directory.name} could not be killed.")
        problems += [
            f"The cgroup {cgroup} could not be removed."
            for cgroup in record.cgroups
            if not remove_cgroup(Path(cgroup))
        ]
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        problems.append(f"The directory {directory} could not be removed.")
    return problems


def remove_cgroup(directory: Path) -> bool:
    """Kill what runs in a cgroup and remove it; true when it is gone."""
    end = time.monotonic() + _EMPTY_WITHIN
    while directory.exists():
        _kill_members(directory)
        try:
            directory.rmdir()
        except OSError as error:
            # Busy until the last of its processes has given back its memory.
            if error.errno != errno.EBUSY or time.monotonic() > end:
                return not directory.exists()
            time.sleep(_LOOK_AGAIN)
    return True


def _kill_members(directory: Path) -> None:
    try:
        members = (directory / "cgroup.procs").read_text().split()
    except OSError:
        return
    for pid in members:
        kill(int(pid))


def _sessions(place: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in place.iterdir() if path.is_dir())
    except OSError:
        return


def _read(directory: Path) -> Record | None:
    """The record of a session; ``None`` while there is none, or when it is broken."""
    try:
        return msgspec.json.decode((directory / _STATE).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None
