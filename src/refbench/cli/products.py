"""What is made of a journal: the table, the HTML and Markdown reports, pyperf's JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from refbench.cli.places import Place
from refbench.cli.screen import Screen
from refbench.errors import StorageError, UsageError
from refbench.samples import Measurement


def show(screen: Screen, measurements: Sequence[Measurement]) -> None:
    """The ranked tables."""
    from refbench.report import table

    table.render(screen.out, measurements)


def raw(measurements: Sequence[Measurement]) -> msgspec.Raw:
    """The report as JSON, to be put into a larger document."""
    from refbench.report import as_json

    return msgspec.Raw(as_json.text(measurements).encode())


def write(place: Place, measurements: Sequence[Measurement], before: str = "") -> dict[str, Path]:
    """Write every report of a run beside its journal; the paths by what they are.

    ``before`` is HTML that stands before the tables of the HTML report.
    pyperf has no form for a run without a result, nor for one whose time and memory are zero, as
    of a program without phases: then that file is left out.

    :raises StorageError: when one cannot be written; the journal has everything.
    """
    files = {"html": place.html, "markdown": place.markdown}
    write_html(place.html, measurements, before)
    write_markdown(place.markdown, measurements)
    with contextlib.suppress(UsageError):
        write_pyperf(place.pyperf, measurements)
        files["pyperf"] = place.pyperf
    return files


def write_html(path: Path, measurements: Sequence[Measurement], before: str = "") -> None:
    """One self-contained HTML file with plots; errors as for :func:`write`."""
    from refbench.report import html

    _folder(path)
    html.write(path, measurements, before)


def write_markdown(path: Path, measurements: Sequence[Measurement]) -> None:
    """Tables for a mailing list; errors as for :func:`write`."""
    from refbench.report import markdown

    _folder(path)
    try:
        path.write_text(markdown.text(measurements), encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from None


def write_pyperf(path: Path, measurements: Sequence[Measurement]) -> None:
    """A pyperf suite.

    :raises StorageError: when it cannot be written.
    :raises UsageError: when there is nothing to export.
    """
    from refbench.report import pyperf_export

    _folder(path)
    pyperf_export.write(path, measurements)


def _folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The report {path} cannot be written: {error.strerror}.",
        remedy="Free some space or choose another place; `refbench report JOURNAL` makes the "
        "reports again from the journal.",
    )
