"""``refbench report``: the reports of a journal, made again."""

from __future__ import annotations

from pathlib import Path

import click

from refbench.cli import products
from refbench.cli.places import Place, find_journal, read_journal
from refbench.cli.screen import Screen, with_screen

_EPILOG = """\b
Examples:
  refbench report reports/20260731T120000Z-1            the table
  refbench report reports/20260731T120000Z-1 --write    the files too, beside the journal
  refbench report journal.jsonl -o /tmp/report          the files, elsewhere
  refbench report journal.jsonl --markdown | mail ...
"""


@click.command(epilog=_EPILOG, short_help="Make the reports of a run again from its journal.")
@click.argument("journal", type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Write the files beside the journal again.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the HTML, Markdown and pyperf files to this directory.",
)
@click.option("--markdown", is_flag=True, help="Write Markdown to standard output, no table.")
@with_screen
def command(
    screen: Screen, journal: Path, write: bool, output: Path | None, markdown: bool
) -> None:
    """Report on JOURNAL, a journal or the directory of a run; nothing is measured."""
    measurements = read_journal(journal).measurements()
    files: dict[str, Path] = {}
    if write or output is not None:
        place = Place(output or find_journal(journal).parent)
        files = products.write(place, measurements)
    if screen.json:
        paths = {what: str(path) for what, path in files.items()}
        screen.emit({**paths, "report": products.raw(measurements)})
        return
    if markdown:
        from refbench.report import markdown as as_markdown

        click.echo(as_markdown.text(measurements), nl=False)
    else:
        products.show(screen, measurements)
    for what, path in files.items():
        screen.note(f"{what + ':':10}{path}")
