"""The matrix of verdicts: as data, in the terminal, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from string import ascii_uppercase

from rich.columns import Columns
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from refbench.words import Verdict


class Outcome(str, Enum):
    """A verdict beside the expectation that was committed beforehand."""

    AS_EXPECTED = "as expected"
    UNEXPECTED = "unexpected"
    NOT_EXAMINED = "not examined"
    """It could not be examined on this target, so nothing was learnt."""


@dataclass(frozen=True, slots=True)
class Examination:
    """One property of one mechanism on one target."""

    row: str
    mechanism: str
    verdict: Verdict
    evidence: str
    """What was seen, in a sentence."""
    expected: Verdict
    reason: str
    """Why that was expected; empty where the property is simply to be met."""
    outcome: Outcome

    @property
    def expected_failure(self) -> bool:
        """Not met or refused, just as foreseen."""
        shortcoming = self.verdict in (Verdict.NOT_MET, Verdict.REFUSED)
        return shortcoming and self.outcome is Outcome.AS_EXPECTED


@dataclass(frozen=True, slots=True)
class Row:
    """A property as the matrix names it."""

    name: str
    title: str
    answers: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """All examinations of a session; plain data, for msgspec to write as JSON."""

    kernel: str
    arch: str
    rows: tuple[Row, ...]
    mechanisms: tuple[str, ...]
    examinations: tuple[Examination, ...]

    def at(self, row: str, mechanism: str) -> Examination:
        """One cell of the matrix.

        :raises KeyError: when it was not part of the session.
        """
        for item in self.examinations:
            if item.row == row and item.mechanism == mechanism:
                return item
        raise KeyError((row, mechanism))

    @property
    def unexpected(self) -> tuple[Examination, ...]:
        """Where the verdict is another than the one committed to."""
        return tuple(x for x in self.examinations if x.outcome is Outcome.UNEXPECTED)

    @property
    def expected_failures(self) -> tuple[Examination, ...]:
        """Not met or refused, as foreseen."""
        return tuple(x for x in self.examinations if x.expected_failure)

    @property
    def not_examined(self) -> tuple[Examination, ...]:
        """What this target could not show."""
        return tuple(x for x in self.examinations if x.outcome is Outcome.NOT_EXAMINED)


SYMBOLS = {
    Verdict.MET: ("+", "green"),
    Verdict.NOT_MET: ("x", "yellow"),
    Verdict.REFUSED: ("r", "yellow"),
    Verdict.UNAVAILABLE: ("·", "dim"),
    Verdict.FAILED: ("?", "red"),
}
"""The character of each verdict, and its style in a terminal."""
LEGEND = (
    "+ met   x not met   r refused by the kernel   · unavailable   ? no answer   ! not as expected"
)


def symbol(examination: Examination) -> str:
    """One or two characters: the verdict, and ``!`` where it was not expected."""
    mark = "!" if examination.outcome is Outcome.UNEXPECTED else ""
    return SYMBOLS[examination.verdict][0] + mark


def summary(matrix: Matrix) -> str:
    """One sentence of counts."""
    met = sum(x.verdict is Verdict.MET for x in matrix.examinations)
    unavailable = sum(x.verdict is Verdict.UNAVAILABLE for x in matrix.examinations)
    return (
        f"{len(matrix.examinations)} examined: {met} met, "
        f"{len(matrix.expected_failures)} expected failures, "
        f"{unavailable} unavailable, {len(matrix.unexpected)} not as expected."
    )


def render(console: Console, matrix: Matrix, *, verbose: bool = False) -> None:
    """Print the matrix, what was not as expected, and the evidence of the expected failures.

    ``verbose`` adds the evidence of what was met and why something is unavailable.
    """
    names = tuple(name.replace(":", ":\n") for name in matrix.mechanisms)
    table = _table(matrix, names)
    wanted = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    if wanted <= console.width or len(names) > len(ascii_uppercase):
        console.print(table)
    else:
        letters = ascii_uppercase[: len(names)]
        console.print(_table(matrix, letters))
        key = (
            f"{letter}\N{NO-BREAK SPACE}{name}"
            for letter, name in zip(letters, matrix.mechanisms, strict=True)
        )
        console.print(Columns(key, padding=(0, 3)))
    console.print(Text(LEGEND, style="dim"))
    if matrix.unexpected:
        console.print("\n[bold red]Not as expected[/]")
        for item in matrix.unexpected:
            _print(console, item, f"expected {item.expected.value}. {item.reason}".strip())
    if matrix.expected_failures:
        console.print("\n[bold]Expected failures[/]")
        _print_grouped(console, matrix.expected_failures)
    unavailable = _unavailable(matrix)
    if unavailable:
        console.print("\n[bold]Unavailable[/]")
        for what, why in unavailable:
            console.print(Text(f"  {what}: {why}"))
    if verbose:
        console.print("\n[bold]Met[/]")
        for item in matrix.examinations:
            if item.verdict is Verdict.MET and item.outcome is Outcome.AS_EXPECTED:
                _print(console, item, "")
    console.print("\n" + summary(matrix))


def _table(matrix: Matrix, headings: Sequence[str]) -> Table:
    table = Table(title=f"Semantics on Linux {matrix.kernel}, {matrix.arch}", pad_edge=False)
    table.add_column("property", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="center", no_wrap=True)
    for row in matrix.rows:
        cells = [_cell(matrix.at(row.name, name)) for name in matrix.mechanisms]
        table.add_row(row.name, *cells)
    return table


def markdown(matrix: Matrix) -> str:
    """The matrix as a Markdown table with the evidence of all that was not simply met."""
    head = ["property", *matrix.mechanisms]
    lines = [
        f"Linux {matrix.kernel}, {matrix.arch}. {LEGEND}",
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
    ]
    for row in matrix.rows:
        cells = [symbol(matrix.at(row.name, name)) for name in matrix.mechanisms]
        lines.append("| " + " | ".join([f"{row.name}: {row.title}", *cells]) + " |")
    for title, items in (
        ("Not as expected", matrix.unexpected),
        ("Expected failures", matrix.expected_failures),
    ):
        if items:
            lines += ["", f"**{title}**", ""]
            lines += [
                f"- {x.row}, {x.mechanism}: {x.verdict.value}. {x.reason} {x.evidence}"
                for x in items
            ]
    unavailable = _unavailable(matrix)
    if unavailable:
        lines += ["", "**Unavailable**", ""]
        lines += [f"- {what}: {why}" for what, why in unavailable]
    lines += ["", summary(matrix)]
    return "\n".join(lines) + "\n"


def _cell(item: Examination) -> Text:
    style = SYMBOLS[item.verdict][1]
    return Text(symbol(item), style="bold red" if item.outcome is Outcome.UNEXPECTED else style)


def _print(console: Console, item: Examination, comment: str) -> None:
    text = Text(f"  {item.row}, {item.mechanism}: ", style="bold")
    text.append(f"{item.verdict.value}. {item.evidence}", style="not bold")
    if comment:
        text.append(f" ({comment})", style="not bold")
    console.print(text)


def _print_grouped(console: Console, items: tuple[Examination, ...]) -> None:
    for name, group in groupby(items, key=lambda item: item.mechanism):
        console.print(Text(f"  {name}", style="bold"))
        for item in group:
            text = Text(f"    {item.row}: ")
            text.append(f"{item.verdict.value}. {item.reason} ")
            text.append(item.evidence, style="dim")
            console.print(text)


def _unavailable(matrix: Matrix) -> list[tuple[str, str]]:
    """Why, once a reason: a mechanism or a property that is out altogether is named alone."""
    reasons: dict[str, list[Examination]] = {}
    for item in matrix.examinations:
        if item.verdict is Verdict.UNAVAILABLE and item.outcome is not Outcome.UNEXPECTED:
            why = item.reason if item.outcome is Outcome.AS_EXPECTED else item.evidence
            reasons.setdefault(why, []).append(item)
    seen = {(item.mechanism, item.verdict) for item in matrix.examinations}
    gone = {name for name, verdict in seen if verdict is Verdict.UNAVAILABLE} - {
        name for name, verdict in seen if verdict is not Verdict.UNAVAILABLE
    }
    return [(_what(matrix, items, gone), why) for why, items in reasons.items()]


def _what(matrix: Matrix, items: list[Examination], gone: set[str]) -> str:
    """The properties and mechanisms of ``items``, in as few names as tell all.

    ``gone`` are the mechanisms of which nothing could be examined.
    """
    rows = ", ".join(dict.fromkeys(item.row for item in items))
    mechanisms = tuple(dict.fromkeys(item.mechanism for item in items))
    if gone.issuperset(mechanisms):
        return ", ".join(mechanisms)
    if gone.union(mechanisms) == set(matrix.mechanisms):
        return rows
    return f"{rows} ({', '.join(mechanisms)})"
