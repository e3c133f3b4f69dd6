"""System settings that sessions change for a while, and that get their old values back.

A setting belongs to the machine, so what is known of it does too: whatever cache the sessions
use, those of root find each other's claims in one place. A claim is written *before* the setting
is changed; after a kill the next command undoes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from filelock import FileLock

from refbench.errors import BackendError
from refbench.processes import Identity, boot_id

MACHINE = Path("/run/refbench/knobs")
"""Where root's claims are; whoever is not root keeps his below his cache."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting under /sys or /proc that a session changed from ``old`` to ``new``."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class _Claim:
    boot: str
    knobs: tuple[Knob, ...] = ()


class Knobs:
    """The claims of all sessions that share ``place`` (by default the machine's)."""

    def __init__(self, cache: Path, place: Path | None = None) -> None:
        own = MACHINE if os.geteuid() == 0 else cache / "knobs"
        self._place = place or own

    def set(self, session: str, path: Path, value: str) -> None:
        """Write a setting for ``session``, a name that starts with its process's identity.

        :raises BackendError: when it cannot be read or written.
        """
        with self._lock():
            try:
                old = path.read_text().strip()
                held = self._held(but=session)
                if old != value or str(path) in held:
                    knob = Knob(str(path), held.get(str(path), old), value)
                    claim = self._read(session) or _Claim(boot_id())
                    self._write(session, _Claim(claim.boot, (*claim.knobs, knob)))
                    path.write_text(value)
            except OSError as error:
                raise BackendError(
                    f"The setting {path} cannot be changed to {value}: {error.strerror}.",
                    remedy="Run as root, or change it yourself beforehand.",
                ) from error

    def release(self, session: str, done: list[str], problems: list[str]) -> None:
        """Give back what ``session`` changed, but for what other live sessions still want."""
        if self._file(session).exists():
            with self._lock():
                self._undo(session, done, problems)

    def sweep(self, done: list[str], problems: list[str]) -> None:
        """Give back what dead sessions changed."""
        for session in self._sessions():
            claim = self._read(session)
            if not _lives(session, claim):
                with self._lock():
                    self._undo(session, done, problems)

    def _undo(self, session: str, done: list[str], problems: list[str]) -> None:
        claim = self._read(session)
        if claim is not None and claim.boot == boot_id():
            held = self._held(but=session)
            for knob in reversed(claim.knobs):
                if knob.path not in held:
                    _restore(knob, done, problems)
        try:
            self._file(session).unlink(missing_ok=True)
        except OSError as error:
            problems.append(f"{self._file(session)} cannot be removed: {error.strerror}.")

    def _held(self, *, but: str) -> dict[str, str]:
        """The old values of the settings that live sessions other than ``but`` hold."""
        held: dict[str, str] = {}
        for session in self._sessions():
            claim = self._read(session)
            if session != but and claim is not None and _lives(session, claim):
                held |= {knob.path: knob.old for knob in claim.knobs}
        return held

    def _file(self, session: str) -> Path:
        return self._place / f"{session}.json"

    def _sessions(self) -> list[str]:
        return sorted(path.stem for path in self._place.glob("*.json"))

    def _read(self, session: str) -> _Claim | None:
        try:
            return msgspec.json.decode(self._file(session).read_bytes(), type=_Claim)
        except (OSError, msgspec.DecodeError):
            return None

    def _write(self, session: str, claim: _Claim) -> None:
        draft = self._place / f"{session}.draft"
        draft.write_bytes(msgspec.json.encode(claim))
        draft.rename(self._file(session))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._place / "lock")
            lock.acquire()
        except OSError:
            # A directory that cannot be written has no claims of ours to protect.
            yield
            return
        try:
            yield
        finally:
            lock.release()


def _lives(session: str, claim: _Claim | None) -> bool:
    owner = Identity.parse(session)
    return bool(claim and owner and owner.alive and claim.boot == boot_id())


def _restore(knob: Knob, done: list[str], problems: list[str]) -> None:
    path = Path(knob.path)
    try:
        now = path.read_text().strip()
        if now == knob.new and now != knob.old:
            path.write_text(knob.old)
            done.append(f"set {knob.path} back to {knob.old}")
    except OSError as error:
        problems.append(f"{knob.path} could not be set back to {knob.old}: {error.strerror}.")
