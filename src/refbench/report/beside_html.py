"""A reproduction as a section of the HTML report."""

from __future__ import annotations

from collections.abc import Sequence

from refbench import metrics
from refbench.published import Experiment
from refbench.report import beside_text, html, palette, units
from refbench.report.beside import BASES, Reproduction


def section(experiment: Experiment, reproductions: Sequence[Reproduction]) -> str:
    """The section; everything in it is escaped."""
    return (
        html.templates()
        .get_template("beside.html.j2")
        .render(
            experiment=experiment,
            reproductions=reproductions,
            bases=BASES,
            find=metrics.find,
            heading=units.title,
            colour=palette.mechanism,
            method=beside_text.method,
            uncertainty=beside_text.uncertainty,
            figure=beside_text.figure,
            number=beside_text.number,
            ratio=beside_text.interval,
            said=beside_text.said,
            program=beside_text.of_the_program,
            verdict=beside_text.verdict,
        )
    )
