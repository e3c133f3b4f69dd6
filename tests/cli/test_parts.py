"""The small parts of the command line that need no process of their own."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from refbench.cli.options import Duration, expand_targets, parse_parameters
from refbench.cli.progress import Forecast
from refbench.cli.screen import duration
from refbench.errors import UsageError
from refbench.plan import Plan, Request, make_plan
from refbench.plugins import registry
from refbench.samples import Failure, Run


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("120s", 120), ("2m", 120), ("1.5h", 5400), ("250ms", 0.25), ("3 min", 180)],
)
def test_times(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "-3s", "0", "3 days", "1,5h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="120s"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "less than 1 s"),
        (45.4, "about 45 s"),
        (130, "about 2 min 10 s"),
        (3900, "about 1 h 05 min"),
    ],
)
def test_how_long_something_takes(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_parameters_are_pairs_and_later_ones_win() -> None:
    assert parse_parameters(["size=1MiB,stride=4", "stride=8,churn"]) == (
        ("size", "1MiB"),
        ("stride", "8"),
        ("churn", "yes"),
    )


@pytest.mark.parametrize("text", ["=", "size=1,size=2", "Size=1"])
def test_what_is_no_parameter(text: str) -> None:
    with pytest.raises(UsageError, match="-p size=64MiB"):
        parse_parameters([text])


def test_targets_are_globs_over_names_and_texts_with_options() -> None:
    known = ["host", "qemu", "simulator"]
    assert expand_targets([], known) == ("host",)
    assert expand_targets(["*m*", "host:cpu=1", "qemu"], known) == (
        "qemu",
        "simulator",
        "host:cpu=1",
    )


class TestForecast:
    """How much is left, while a plan is measured."""

    @pytest.fixture
    def plan(self) -> Plan:
        request = Request(("anon", "memset"), ("dense-touch",), runs=4)
        return make_plan(registry(), 4096, request)

    def test_the_estimate_is_replaced_by_what_was_seen(self, plan: Plan) -> None:
        forecast = Forecast(plan)
        assert forecast.seconds == pytest.approx(plan.seconds)
        for cell in plan.cells:
            forecast.started(0)
            forecast.finished(cell, 0, Run(), 2.0)
        assert forecast.done == 2
        assert forecast.seconds == pytest.approx(3 * 2 * 2.0)

    def test_a_cell_that_failed_for_good_takes_no_more_time(self, plan: Plan) -> None:
        forecast = Forecast(plan)
        anon, memset = plan.cells
        forecast.finished(anon, 0, Run(failure=Failure(kind="unsupported", message="no")), 1.0)
        forecast.finished(memset, 0, Run(), 1.0)
        assert forecast.done == 5
        assert forecast.seconds == pytest.approx(3.0)

    def test_a_failure_of_the_moment_is_tried_again(self, plan: Plan) -> None:
        forecast = Forecast(plan)
        forecast.finished(plan.cells[0], 0, Run(failure=Failure(kind="no-answer", message="")), 1.0)
        assert forecast.done == 1

    def test_runs_of_an_earlier_part_count_as_done(self, plan: Plan) -> None:
        forecast = Forecast(plan)
        forecast.started(3)
        assert forecast.done == 6

    def test_a_budget_bounds_it(self, plan: Plan) -> None:
        assert Forecast(plan, budget=1e-9).seconds == 0.0


def test_the_manual_names_every_command_and_option(repository: Path) -> None:
    """docs/cli.md is complete: what --help shows is in it."""
    from refbench.cli.program import COMMANDS, group

    text = (repository / "docs" / "cli.md").read_text()
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        assert f"`refbench {name}" in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(f"`{option}" in text for option in parameter.opts), (name, parameter)
