"""A comparison as people read it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from refbench.compare import Comparison, compare
from refbench.report import comparison
from refbench.samples import Measurement

Make = Callable[..., tuple[Measurement, ...]]


def rendered(found: Comparison, *, everything: bool = False) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    comparison.render(console, found, everything=everything)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def slower(measurements: tuple[Measurement, ...]) -> tuple[Measurement, ...]:
    return tuple(
        replace(
            one,
            runs=tuple(
                replace(
                    run,
                    samples=tuple(
                        replace(
                            s,
                            phases={
                                n: replace(c, ns=c.ns * 2, minor_faults=c.minor_faults + 1)
                                for n, c in s.phases.items()
                            },
                        )
                        for s in run.samples
                    ),
                )
                for run in one.runs
            ),
        )
        for one in measurements
    )


def test_only_what_changed_is_listed_with_its_ratio(make: Make) -> None:
    a = make(runs=12, failures=False)
    b = slower(a[:1]) + a[1:]
    text = rendered(compare(a, b))
    assert "1 of 10 cells changed" in text
    assert "2.000" in text
    assert "1026" in text
    assert "1028" in text
    assert "memset" not in text
    assert "memset" in rendered(compare(a, b), everything=True)


def test_warnings_refusals_and_failures_are_said(make: Make) -> None:
    a = make(runs=12)
    other = tuple(replace(one, environment=replace(one.environment, kernel="7")) for one in a)
    text = rendered(compare(a, other))
    assert "Mind: kernel differs: 6.18.0 against 7." in text
    assert "ksm: both sides failed: unsupported: KSM is off." in text
    model = tuple(replace(one, environment=replace(one.environment, clock="modelled")) for one in a)
    assert "not compared: the clocks differ" in rendered(compare(a, model))
    assert "undecided: time" in rendered(compare(make(runs=2), make(runs=2)))
    assert "only in B" in rendered(compare(a[:1], a[:2]))


def test_markdown_and_json_say_the_same(make: Make) -> None:
    a = make(runs=12, failures=False)
    found = compare(a, slower(a))
    text = comparison.markdown(found)
    assert max(map(len, text.splitlines())) <= 100
    assert "10 of 10 cells changed" in text.replace("\n", " ")
    document = json.loads(comparison.json(found))
    assert document["flagged"] == 10
    effects = document["comparison"]["cells"][0]["effects"]
    assert {e["verdict"] for e in effects if e["metric"] == "time"} == {"more"}


def test_a_change_on_the_clock_alone_is_called_what_it_may_be(make: Make) -> None:
    a = make(runs=12, failures=False)[:1]
    assert "time changed and CPU time did not" in rendered(compare(a, slower(a)))
    assert "CPU time did not" not in rendered(compare(a, a))
