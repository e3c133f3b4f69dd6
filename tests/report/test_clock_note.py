"""Modelled times: their error stands with each of them, and no measured time beside them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from refbench.compare import compare
from refbench.report import as_json, comparison, html, markdown, pyperf_export, table
from refbench.report.summary import summarise
from refbench.samples import CLOCK_NOTE, Environment, Measurement

Make = Callable[..., tuple[Measurement, ...]]
NOTE = "modelled time: median error 9 % on 300 held-out cells, calibrated on host"
MODEL = Environment(
    target="simulator",
    clock="modelled",
    kernel="6.18",
    arch="x86_64",
    page_size=4096,
    facts={"costs": "host, 2020-07-31", CLOCK_NOTE: NOTE},
)


def rendered(measurements: tuple[Measurement, ...]) -> str:
    out = io.StringIO()
    table.render(Console(file=out, width=160, color_system=None), measurements)
    return out.getvalue()


@pytest.mark.parametrize("show", [rendered, markdown.text, html.text])
def test_every_block_of_modelled_times_says_how_wrong_they_are(
    make: Make, show: Callable[[tuple[Measurement, ...]], str]
) -> None:
    text = " ".join(show(make() + make(where=MODEL)).split())
    # Two blocks; the HTML report also lists it among the facts of the environment.
    assert text.count(NOTE) - text.count(f"<dd>{NOTE}") == 2
    assert NOTE not in show(make())


def test_a_block_without_times_needs_no_note(make: Make) -> None:
    failed = tuple(one for one in make(where=MODEL) if one.failure)
    assert NOTE not in rendered(failed)


def test_programs_read_it_too(make: Make) -> None:
    document = json.loads(as_json.text(make(where=MODEL)))
    assert [block["clock_note"] for block in document["sections"][0]["blocks"]] == [NOTE] * 2
    suite = pyperf_export.suite(make(where=MODEL))
    benchmark = suite.get_benchmark("sparse-write memset byte:0xAA modelled time")
    assert benchmark.get_metadata()[f"refbench_{CLOCK_NOTE}"] == NOTE


def test_modelled_and_measured_times_share_no_column(make: Make) -> None:
    both = make() + make(where=MODEL)
    for section in summarise(both):
        (clock,) = {section.environment.clock}
        assert clock in {"real", "modelled"}
    text = rendered(both)
    at = text.index("simulator · ")
    headings = [line for line in text.splitlines() if line.startswith("mechanism ")]
    assert any("time " in line and "(model)" not in line for line in headings)
    assert "time (model)" in text[at:]
    assert "time (model)" not in text[:at]
    assert not [
        line
        for line in text[at:].splitlines()
        if line.startswith("mechanism ") and "time" in line.replace("time (model)", "")
    ]


def test_compare_shows_it_for_two_models_and_refuses_a_model_against_a_machine(make: Make) -> None:
    models = compare(make(where=MODEL), make(where=MODEL))
    assert f"Mind: {NOTE}." in comparison.notes(models)
    mixed = compare(make(), make(where=MODEL))
    assert {cell.refused for cell in mixed.cells} == {"the clocks differ: real against modelled"}
    assert all(not cell.effects for cell in mixed.cells)


def test_times_of_two_cost_tables_are_not_compared(make: Make) -> None:
    other = replace(MODEL, facts={**MODEL.facts, "costs": "another"})
    found = compare(make(where=MODEL), make(where=other))
    assert {cell.refused for cell in found.cells} == {
        "on the modelled clock costs differs: host, 2020-07-31 against another"
    }
