"""The summary behind all reports: sections, ranks, notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from refbench.report.summary import Row, summarise
from refbench.samples import Environment, Failure, Measurement, Run

Make = Callable[..., tuple[Measurement, ...]]


def rows(measurements: tuple[Measurement, ...]) -> dict[str, Row]:
    (section,) = summarise(measurements)
    return {row.cell.mechanism: row for row in section.blocks[0].rows}


def test_rows_are_ranked_by_memory_and_by_time(make: Make) -> None:
    (section,) = summarise(make())
    block = section.blocks[0]
    found = [(r.cell.mechanism, r.rank("lost"), r.rank("time")) for r in block.rows]
    assert found[:5] == [
        ("anon", "1=", "1"),
        ("uffd-sigbus", "1=", "2"),
        ("memfd", "3", "4"),
        ("memset", "4", "5"),
        ("memfd-full", "5", "3"),
    ]
    assert [(name, lost, time) for name, lost, time in found[5:]] == [
        ("ksm", "", ""),
        ("memfd:block=3", "", ""),
        ("uffd", "", ""),
    ]


def test_each_case_is_a_block_and_each_environment_a_section(make: Make) -> None:
    model = Environment(target="simulator", clock="modelled", kernel="-", arch="-", page_size=4096)
    sections = summarise(make() + make(where=model))
    assert [s.environment.clock for s in sections] == ["real", "modelled"]
    assert [b.label for b in sections[0].blocks] == ["sparse-read", "sparse-write"]
    assert any("model" in note for note in sections[1].notes)


def test_two_patterns_never_share_a_block(make: Make) -> None:
    one = make()[0]
    other = replace(one, cell=replace(one.cell, key="x", pattern="byte:0x55"))
    (section,) = summarise((one, other))
    assert [block.pattern for block in section.blocks] == ["byte:0x55", "byte:0xAA"]


def test_the_source_of_lost_is_named(make: Make) -> None:
    assert rows(make())["memset"].figures["lost"].source == "cgroup"
    (section,) = summarise(make(cgroup=False))
    lost = section.blocks[0].rows[0].figures["lost"]
    assert lost.source == "process"
    assert lost.text.endswith("†")
    assert any(note.startswith("† No memory cgroup") for note in section.notes)


def test_counters_that_vary_show_their_range_and_never_a_mean(make: Make) -> None:
    faults = rows(make(wobble=True))["anon"].figures["faults"]
    assert faults.varies
    assert faults.text == "1026..1027~"
    assert rows(make())["anon"].figures["faults"].text == "1026"


def test_some_failed_runs_are_counted_and_noted(make: Make) -> None:
    one = make()[0]
    failed = Run(failure=Failure(kind="no-answer", message="The deadline passed."))
    (section,) = summarise((replace(one, runs=(*one.runs, failed)),))
    row = section.blocks[0].rows[0]
    assert (row.runs, row.failed_runs, row.failure) == (8, 1, None)
    assert "sparse-write, anon: 1 of 9 runs failed and are left out." in section.notes


def test_what_cannot_be_read_has_no_figure(make: Make) -> None:
    figures = rows(make(cgroup=False))["anon"].figures
    assert "cgroup-current" not in figures
    assert "uss" not in figures


def test_what_a_batched_counter_cannot_tell_is_shown_as_less_than_its_resolution(
    make: Make,
) -> None:
    one = make()[0]
    small = tuple(
        replace(
            run,
            samples=tuple(
                replace(
                    s,
                    memory={
                        label: replace(m, cgroup_current=(2 << 20) - 4096 * (label != "start"))
                        for label, m in s.memory.items()
                    },
                )
                for s in run.samples
            ),
        )
        for run in one.runs
    )
    lost = rows((replace(one, runs=small),))["anon"].figures["lost"]
    assert (lost.text, lost.value) == ("<256 KiB", -4096)


def test_rows_whose_growths_may_both_be_off_share_a_rank(make: Make) -> None:
    page = 4096
    near = {"anon": 0, "memfd": 100, "memset": 300}
    measurements = []
    for one in make():
        if one.cell.mechanism not in near:
            continue
        runs = tuple(
            replace(
                run,
                samples=tuple(
                    replace(
                        s,
                        memory={
                            label: replace(
                                m,
                                cgroup_current=page
                                * (0 if label == "start" else 1000 + near[one.cell.mechanism]),
                            )
                            for label, m in s.memory.items()
                        },
                    )
                    for s in run.samples
                ),
            )
            for run in one.runs
        )
        measurements.append(replace(one, runs=runs))
    ranks = {name: row.rank("lost") for name, row in rows(tuple(measurements)).items()}
    assert ranks == {"anon": "1=", "memfd": "1=", "memset": "3"}


def test_setup_stands_behind_the_phases_that_make_up_the_time(make: Make) -> None:
    one = make()[0]
    runs = tuple(
        replace(
            run,
            samples=tuple(
                replace(s, phases={"setup": s.phases["map"], **s.phases}) for s in run.samples
            ),
        )
        for run in one.runs
    )
    (section,) = summarise((replace(one, runs=runs),))
    block = section.blocks[0]
    assert block.times == ("time", "time.map", "time.touch", "time.setup", "cpu")
    figures = block.rows[0].figures
    whole = figures["time.map"].value + figures["time.touch"].value
    assert abs(figures["time"].value / whole - 1) < 0.05
