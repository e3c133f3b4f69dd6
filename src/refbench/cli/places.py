"""Where the files of a run are: the directory of a new one, the journal of an old one.

What is missing from a journal that is read for people is said, then it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from refbench import journal
from refbench.cli.screen import complain
from refbench.errors import StorageError, UsageError
from refbench.journal import Content

ROOT = Path("reports")
"""Where runs go when nothing else is said, under the current directory."""
JOURNAL = "journal.jsonl"


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of one run and the files in it."""

    directory: Path

    @property
    def journal(self) -> Path:
        """Every run that was measured."""
        return self.directory / JOURNAL

    @property
    def html(self) -> Path:
        """The report with plots."""
        return self.directory / "report.html"

    @property
    def markdown(self) -> Path:
        """The tables for a mailing list."""
        return self.directory / "report.md"

    @property
    def pyperf(self) -> Path:
        """The samples for pyperf."""
        return self.directory / "pyperf.json"

    def discard(self) -> None:
        """Remove a run in which nothing was measured; what else is in the directory stays."""
        self.journal.unlink(missing_ok=True)
        self._remove_directory()

    def discard_empty(self) -> None:
        """Remove what is left of a run whose journal could not be started."""
        try:
            if not self.journal.stat().st_size:
                self.journal.unlink()
        except OSError:
            pass
        self._remove_directory()

    def _remove_directory(self) -> None:
        """Unless something is in it."""
        try:
            self.directory.rmdir()
        except OSError:
            return


def new_place(output: Path | None) -> Place:
    """A directory for a new run: ``output`` itself, or a new one under :data:`ROOT`.

    :raises StorageError: when it cannot be made.
    """
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(output, error) from None
        return Place(output)
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    number = 1
    while True:
        directory = ROOT / f"{stamp}-{number}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            number += 1
            if not ROOT.is_dir():
                raise _unusable(ROOT, NotADirectoryError(20, "Not a directory")) from None
        except OSError as error:
            raise _unusable(directory, error) from None
        else:
            return Place(directory)


def find_journal(path: Path) -> Path:
    """The journal that a path names: itself, or the one in a run's directory.

    :raises UsageError: when there is none.
    """
    found = path / JOURNAL if path.is_dir() else path
    if not found.is_file():
        raise UsageError(
            f"There is no journal at {path}.",
            remedy=f"Give a {JOURNAL}, or the directory of a run, as `refbench run` names it.",
        )
    return found


def read_journal(path: Path) -> Content:
    """The content of a journal or of the run directory that holds one.

    :raises UsageError: when there is no journal.
    :raises StorageError: when it is damaged, or holds no run at all.
    """
    file = find_journal(path)
    content = journal.read(file)
    if not content.runs:
        raise StorageError(
            f"The journal {file} holds no finished run.",
            remedy=f"Go on with it: refbench run --resume {file}",
        )
    if content.cut:
        complain(
            f"The journal {file} is cut in the middle of its last line ({content.cut} bytes), "
            "as when refbench was killed while it wrote; that run is left out.",
            f"To measure what is missing: refbench run --resume {file}",
        )
    elif not content.complete:
        complain(
            f"The journal {file} is not complete; the {len(content.runs)} runs in it are used.",
            f"To measure what is missing: refbench run --resume {file}",
        )
    return content


def unfinished(root: Path) -> Path:
    """The newest journal in or below ``root`` that is not complete.

    :raises UsageError: when there is none.
    """
    found = [path for path in (root / JOURNAL, *root.glob(f"*/{JOURNAL}")) if path.is_file()]
    for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path), reverse=True):
        try:
            if not journal.read(path).complete:
                return path
        except StorageError:
            continue
    raise UsageError(
        f"There is no unfinished run under {root}.",
        remedy="Name its journal: refbench run --resume PATH; or start one without --resume.",
    )


def _unusable(directory: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The output directory {directory} cannot be made: {error.strerror}.",
        remedy="Choose another place with --output.",
    )
