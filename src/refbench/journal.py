"""The journal: every run, appended and fsynced before the next one starts.

JSON lines. The first says what the file is and what was planned; ``session`` lines hold the
environment of the ``run`` lines that name them; an ``end`` line says that nothing is missing.
A process that dies in the middle of a line leaves a cut last line: it is measured again on
resume and never read as a result. Nothing that was written is ever rewritten.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
import msgspec

from refbench.closing import Closing
from refbench.errors import StorageError, UsageError
from refbench.plan import Request
from refbench.samples import CellId, Environment, Measurement, Run

VERSION = 1


class Header(msgspec.Struct, frozen=True, tag="journal", tag_field="type", kw_only=True):
    """The first line."""

    version: int = VERSION
    refbench: str
    started: str
    """UTC, ISO 8601."""
    targets: tuple[str, ...]
    request: Request
    """What was asked for, enough to go on with it."""


class SessionLine(msgspec.Struct, frozen=True, tag="session", tag_field="type", kw_only=True):
    """A target was opened."""

    session: int
    environment: Environment


class RunLine(msgspec.Struct, frozen=True, tag="run", tag_field="type", kw_only=True):
    """One run of one cell."""

    session: int
    round: int
    cell: CellId
    run: Run


class EndLine(msgspec.Struct, frozen=True, tag="end", tag_field="type", kw_only=True):
    """Everything planned was measured or failed for good."""

    runs: int


Line = Header | SessionLine | RunLine | EndLine
_decoder = msgspec.json.Decoder(Line, strict=True)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Content:
    """What a journal holds. ``cut`` is the number of bytes of an unfinished last line."""

    header: Header
    sessions: tuple[SessionLine, ...]
    runs: tuple[RunLine, ...]
    complete: bool
    cut: int = 0

    def measurements(self) -> tuple[Measurement, ...]:
        """The runs by cell and target, in the order in which they first appear.

        Sessions of one target in equal environments are one measurement; the number of the
        session takes the place of :attr:`Run.boot`.
        """
        environments = {line.session: line.environment for line in self.sessions}
        groups: dict[tuple[str, str], list[RunLine]] = {}
        for line in self.runs:
            environment = _encode(environments[line.session]).decode()
            groups.setdefault((line.cell.key, environment), []).append(line)
        return tuple(
            Measurement(
                cell=lines[0].cell,
                environment=environments[lines[0].session],
                runs=tuple(replace(line.run, boot=line.session) for line in lines),
            )
            for lines in groups.values()
        )


def read(path: Path) -> Content:
    """What is in a journal; a cut last line is left out and counted.

    :raises StorageError: when the file cannot be read or is damaged elsewhere.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"The journal {path} cannot be read: {error.strerror}.",
            remedy="Give the path of a journal.jsonl that `refbench run` wrote.",
        ) from None
    return decode(data, str(path))


def decode(data: bytes, source: str) -> Content:
    """As :func:`read`, of bytes."""
    whole, newline, rest = data.rpartition(b"\n")
    lines = list(_lines(whole.split(b"\n") if newline else [], source))
    if not lines or not isinstance(lines[0], Header):
        raise StorageError(
            f"{source} is not a journal of refbench: it does not start with a journal line.",
            remedy="Give the path of a journal.jsonl that `refbench run` wrote.",
        )
    if lines[0].version != VERSION:
        raise StorageError(
            f"{source} is a journal of version {lines[0].version}, this refbench reads {VERSION}.",
            remedy="Read it with the refbench that wrote it: its first line says which.",
        )
    sessions = tuple(line for line in lines if isinstance(line, SessionLine))
    runs = tuple(line for line in lines if isinstance(line, RunLine))
    unknown = {line.session for line in runs} - {line.session for line in sessions}
    if unknown:
        raise StorageError(
            f"{source} has runs of session {min(unknown)}, whose line is missing.",
            remedy="The file was edited or damaged; measure again.",
        )
    return Content(lines[0], sessions, runs, isinstance(lines[-1], EndLine), len(rest))


def _lines(raw: list[bytes], source: str) -> Iterator[Line]:
    for number, line in enumerate(raw, 1):
        try:
            yield _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(
                f"{source}, line {number}, is damaged: {error}.",
                remedy="Remove that line to use the others, or measure again.",
            ) from None


class Journal(Closing):
    """A journal open for appending, locked against other writers. A context manager."""

    def __init__(self, path: Path, file: int, lock: filelock.BaseFileLock, content: Content):
        self.path = path
        self._file = file
        self._lock = lock
        self.before = content
        """What was in it when it was opened."""
        self._sessions = len(content.sessions)
        self._runs = len(content.runs)

    @classmethod
    def create(cls, path: Path, header: Header) -> Journal:
        """Start a new journal.

        :raises StorageError: when it exists or cannot be written.
        """
        lock = _lock(path)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except OSError as error:
            _unlock(lock)
            raise _unwritable(path, error, 0) from None
        journal = cls(path, file, lock, Content(header, (), (), False))
        try:
            journal._append(header)
        except StorageError:
            journal.close()
            raise
        return journal

    @classmethod
    def resume(cls, path: Path) -> Journal:
        """Open an unfinished journal to go on with it; a cut last line is dropped first.

        :raises StorageError: as :func:`read`, and when it cannot be written.
        :raises UsageError: when nothing is left to do.
        """
        lock = _lock(path)
        try:
            content = _unfinished(path)
            file = os.open(path, os.O_WRONLY | os.O_APPEND)
            if content.cut:
                os.ftruncate(file, os.fstat(file).st_size - content.cut)
        except OSError as error:
            _unlock(lock)
            raise _unwritable(path, error, 0) from None
        except BaseException:
            _unlock(lock)
            raise
        return cls(path, file, lock, content)

    def session(self, environment: Environment) -> int:
        """Note that a target was opened; the number that its runs are appended under."""
        number = self._sessions
        self._append(SessionLine(session=number, environment=environment))
        self._sessions += 1
        return number

    def append(self, session: int, round_: int, cell: CellId, run: Run) -> None:
        """Keep a run: it is on the disk when this returns.

        :raises StorageError: when it cannot be written.
        """
        self._append(RunLine(session=session, round=round_, cell=cell, run=run))
        self._runs += 1

    def finish(self) -> None:
        """Note that nothing is missing."""
        self._append(EndLine(runs=self._runs))

    def content(self) -> Content:
        """Everything that is in it now."""
        return read(self.path)

    def close(self) -> None:
        """Close and unlock; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            _unlock(self._lock)

    def _append(self, line: Line) -> None:
        data = memoryview(_encode(line) + b"\n")
        end = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            # What was written of this line is taken back, so that the next one starts afresh.
            os.ftruncate(self._file, end)
            raise _unwritable(self.path, error, self._runs) from None


def _unfinished(path: Path) -> Content:
    content = read(path)
    if content.complete:
        raise UsageError(
            f"The journal {path} is complete: nothing is left to resume.",
            remedy="Start a new one with `refbench run`.",
        )
    return content


def _lock(path: Path) -> filelock.BaseFileLock:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UsageError(
            f"The journal {path} is being written by another process.",
            remedy="Wait for it, or write to another place with --output.",
        ) from None
    except OSError as error:
        raise _unwritable(path, error, 0) from None
    return lock


def _unlock(lock: filelock.BaseFileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def _unwritable(path: Path, error: OSError, kept: int) -> StorageError:
    saved = f" The {kept} runs before are kept." if kept else ""
    if isinstance(error, FileExistsError):
        remedy = "Choose another place with --output, or go on with it with --resume."
    else:
        remedy = "Free some space or choose another place with --output"
        remedy += "; then go on with `refbench run --resume`." if kept else "."
    return StorageError(
        f"The journal {path} cannot be written: {error.strerror}.{saved}", remedy=remedy
    )
