"""Reading journals for people: what is missing from one is said, then it is used."""

from __future__ import annotations

from pathlib import Path

from refbench import journal
from refbench.cli.places import find_journal
from refbench.cli.screen import complain
from refbench.errors import StorageError
from refbench.journal import Content


def read(path: Path) -> Content:
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
