"""What the matrix says of itself, and how it is shown."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import msgspec
import pytest
from rich.console import Console

from refbench.semantics.matrix import (
    Examination,
    Matrix,
    Outcome,
    Row,
    markdown,
    render,
    summary,
    symbol,
)
from refbench.words import Verdict


def examined(
    row: str, mechanism: str, verdict: Verdict, outcome: Outcome = Outcome.AS_EXPECTED
) -> Examination:
    return Examination(
        row=row,
        mechanism=mechanism,
        verdict=verdict,
        evidence=f"Seen {row} of {mechanism}.",
        expected=verdict if outcome is Outcome.AS_EXPECTED else Verdict.MET,
        reason="" if verdict is Verdict.MET else "It was foreseen.",
        outcome=outcome,
    )


@pytest.fixture
def matrix() -> Matrix:
    return Matrix(
        kernel="6.1.0",
        arch="x86_64",
        rows=(Row("one", "One holds.", "The first."), Row("two", "Two holds.", "The second.")),
        mechanisms=("good", "bad:a=1", "gone"),
        examinations=(
            examined("one", "good", Verdict.MET),
            examined("two", "good", Verdict.NOT_MET, Outcome.UNEXPECTED),
            examined("one", "bad:a=1", Verdict.REFUSED),
            examined("two", "bad:a=1", Verdict.NOT_MET),
            examined("one", "gone", Verdict.UNAVAILABLE, Outcome.NOT_EXAMINED),
            examined("two", "gone", Verdict.UNAVAILABLE, Outcome.NOT_EXAMINED),
        ),
    )


def shown(matrix: Matrix, *, verbose: bool = False) -> str:
    console = Console(width=120, no_color=True, record=True, quiet=False, file=None)
    with console.capture() as capture:
        render(console, matrix, verbose=verbose)
    return capture.get()


def test_each_outcome_has_its_list(matrix: Matrix) -> None:
    assert [x.row for x in matrix.unexpected] == ["two"]
    assert [x.verdict for x in matrix.expected_failures] == [Verdict.REFUSED, Verdict.NOT_MET]
    assert [x.mechanism for x in matrix.not_examined] == ["gone", "gone"]


def test_a_symbol_tells_the_unexpected_without_colour(matrix: Matrix) -> None:
    assert symbol(matrix.at("two", "good")) == "x!"
    assert symbol(matrix.at("two", "bad:a=1")) == "x"
    assert len({symbol(x).rstrip("!") for x in matrix.examinations}) == 4


def test_a_cell_that_was_not_examined_is_an_error(matrix: Matrix) -> None:
    with pytest.raises(KeyError):
        matrix.at("one", "memset")


def test_the_terminal_shows_expected_failures_with_their_evidence(matrix: Matrix) -> None:
    text = shown(matrix)
    assert "Expected failures" in text
    assert "one: refused. It was foreseen. Seen one of bad:a=1." in text
    assert "Not as expected" in text
    assert "two, good: not met. Seen two of good. (expected met." in text
    assert "Seen one of good." not in text
    assert "Seen one of good." in shown(matrix, verbose=True)
    assert summary(matrix) in text


def test_a_narrow_terminal_gets_letters_and_their_key(matrix: Matrix) -> None:
    console = Console(width=20, record=True, file=io.StringIO())
    render(console, matrix)
    text = console.export_text()
    for letter, name in zip("ABCDEFGHIJKL", matrix.mechanisms, strict=False):
        assert re.search(rf"{letter}\s+{re.escape(name)}", text)


def test_markdown_has_a_row_for_each_property(matrix: Matrix) -> None:
    text = markdown(matrix)
    assert "| one: One holds. | + | r | · |" in text
    assert "| two: Two holds. | x! | x | · |" in text
    assert "Seen two of bad:a=1." in text


def test_it_is_plain_data(matrix: Matrix) -> None:
    again = msgspec.json.decode(msgspec.json.encode(matrix), type=Matrix)
    assert again == matrix


def test_what_is_out_altogether_is_named_alone(matrix: Matrix) -> None:
    assert "- gone: Seen one of gone." in markdown(matrix)
    absent = tuple(
        replace(x, verdict=Verdict.UNAVAILABLE, outcome=Outcome.NOT_EXAMINED, evidence="No swap.")
        if x.row == "two"
        else x
        for x in matrix.examinations
    )
    assert "- two: No swap." in markdown(replace(matrix, examinations=absent))
