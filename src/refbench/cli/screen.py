"""What commands write on: tables for people, JSON for programs, complaints on standard error."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refbench.errors import RefbenchError

PLAIN_WIDTH = 160
"""Columns where standard output is no terminal and COLUMNS does not say: tables of reports
must not be cut where nobody asked for it."""


class Interrupted(RefbenchError):
    """Somebody pressed Ctrl-C; the message says what is kept."""

    kind: ClassVar[str] = "interrupted"
    exit_code: ClassVar[int] = 130
    """128 + SIGINT."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a command's output goes."""

    out: Console
    err: Console
    json: bool
    quiet: bool

    def emit(self, value: object) -> None:
        """A value as indented JSON: the only thing on standard output under ``--json``."""
        text = msgspec.json.format(msgspec.json.encode(value), indent=2)
        click.echo(text)

    def say(self, text: str = "", style: str = "") -> None:
        """A line for people; never wrapped where it is no terminal, so that paths stay whole."""
        if not self.json:
            self.out.print(Text(text, style=style), soft_wrap=True)

    def table(self, table: Table) -> None:
        """A table for people."""
        if not self.json:
            self.out.print(table)

    def note(self, text: str, style: str = "") -> None:
        """Something beside the result: on standard error, left out when quiet."""
        if not self.quiet:
            self.err.print(Text(text, style=style), soft_wrap=not self.err.is_terminal)

    @property
    def live(self) -> bool:
        """Whether progress can be drawn over itself."""
        return self.err.is_terminal and not self.quiet


def with_screen(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json``, ``--quiet`` and ``--no-color``, and a :class:`Screen` as its
    first argument."""

    @click.option("--json", "as_json", is_flag=True, help="Write JSON to standard output.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress, no remarks.")
    @click.option("--no-color", is_flag=True, help="No colours; the variable NO_COLOR does it too.")
    @functools.wraps(function)
    def command(*args: Any, as_json: bool, quiet: bool, no_color: bool, **kwargs: Any) -> Any:
        screen = Screen(
            console(no_color=no_color), console(stderr=True, no_color=no_color), as_json, quiet
        )
        return function(screen, *args, **kwargs)

    return command


def console(*, stderr: bool = False, no_color: bool = False) -> Console:
    """A console for one of the standard streams."""
    made = Console(stderr=stderr, no_color=no_color or None, highlight=False)
    if not made.is_terminal and "COLUMNS" not in made._environ:  # noqa: SLF001  # rich's own view
        made.width = PLAIN_WIDTH
    return made


def complain(message: str, remedy: str = "") -> None:
    """One paragraph on standard error: what happened, to what, and the remedy."""
    paragraph = f"refbench: {message.strip()} {remedy.strip()}".strip()
    where = console(stderr=True)
    where.print(Text(paragraph), soft_wrap=not where.is_terminal)


def grid(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """A plain table: one header line, no lines between the columns, long texts folded."""
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for column in columns:
        table.add_column(column, overflow="fold", header_style="bold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def duration(seconds: float) -> str:
    """``about 45 s``, ``about 2 min 10 s``, ``about 1 h 05 min``, ``less than 1 s``."""
    whole = round(seconds)
    if whole < 1:
        return "less than 1 s"
    if whole < 60:
        return f"about {whole} s"
    if whole < 3600:
        return f"about {whole // 60} min {whole % 60:02d} s"
    return f"about {whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
