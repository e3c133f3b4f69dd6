"""Cost tables: what time is made of, what is kept in files, what a session says of its times."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from refbench.errors import StorageError, UsageError
from refbench.plan import Request, make_plan
from refbench.plugins import registry
from refbench.report import units
from refbench.runner import open_target
from refbench.samples import CLOCK_NOTE, PhaseCounters
from refbench_simulator import cost_files
from refbench_simulator.cost_files import default, dump, find, load, parse, save
from refbench_simulator.costs import BY_SIZE, Costs
from refbench_simulator.knobs import Kernel
from refbench_simulator.model.events import USER, Event
from refbench_simulator.session import SimulatorSession

Refbench = Callable[..., "subprocess.CompletedProcess[str]"]
PAGE = 4096


def priced(factor: float = 1.0, **ns: float) -> Costs:
    """The built-in table with all costs times ``factor``, and some replaced."""
    built_in = default()
    costs = {event: factor * built_in.ns[event] for event in Event}
    return replace(built_in, ns=costs | {Event[name.upper()]: cost for name, cost in ns.items()})


@contextmanager
def opened(target: str) -> Iterator[SimulatorSession]:
    _, session = open_target(registry(), target)
    assert isinstance(session, SimulatorSession)
    with session:
        yield session


def phases(
    target: str, mechanism: str = "memset", workload: str = "fork-child-write"
) -> dict[str, PhaseCounters]:
    request = Request(mechanisms=(mechanism,), workloads=(workload,))
    with opened(target) as session:
        (cell,) = make_plan(registry(), session.kernel.page_size, request).cells
        run = session.run(cell, 1, 60.0)
    assert run.failure is None, run.failure
    return dict(run.samples[-1].phases)


# -- time --------------------------------------------------------------------------------------


def test_time_is_every_event_times_its_cost() -> None:
    costs = priced(trap=700.0, clear=120.5, fill=300.0, touch=10.0)
    counts = Counter({Event.TRAP: 3, Event.CLEAR: 2, Event.FILL: 5, Event.TOUCH: 1})
    found = costs.time(counts, PAGE)
    assert found.ns == 3 * 700 + 2 * 120.5 + 5 * 300 + 10
    assert found.user_ns == 5 * 300 + 10
    assert found.user_ns + found.system_ns == found.ns
    assert costs.time({}, PAGE).ns == 0


def test_the_order_of_events_makes_no_difference() -> None:
    costs = priced(**{event.name: 0.1 + 1e9 * at for at, event in enumerate(Event)})
    forward = costs.time(dict.fromkeys(Event, 3), PAGE)
    assert forward == costs.time(dict.fromkeys(reversed(Event), 3), PAGE)


def test_what_goes_through_all_bytes_of_a_page_grows_with_it() -> None:
    costs = priced()
    for event in Event:
        small, large = (costs.time({event: 10**6}, size).ns for size in (PAGE, 16 * PAGE))
        grows = costs.ns[event] and event in BY_SIZE
        assert large == pytest.approx(16 * small if grows else small, rel=1e-6), event
    assert Event.TRAP not in BY_SIZE


def test_phases_scale_with_the_table_and_user_time_is_a_part(tmp_path: Path) -> None:
    save(priced(3.0), tmp_path / "slow.toml")
    plain, slow = phases("simulator"), phases(f"simulator:costs={tmp_path / 'slow.toml'}")
    assert set(plain) == set(slow)
    for name, counters in plain.items():
        assert slow[name].ns == pytest.approx(3 * counters.ns, abs=3)
        assert counters.user_ns + counters.system_ns == counters.ns
        assert replace(slow[name], ns=0, user_ns=0, system_ns=0) == replace(
            counters, ns=0, user_ns=0, system_ns=0
        ), "a cost changes times and nothing else"
    assert plain["map"].user_ns >= 4096 * default().ns[Event.FILL] - 1, "memset fills 4096 pages"


def test_the_time_of_a_phase_is_that_of_what_was_counted_in_it() -> None:
    request = Request(mechanisms=("memfd-full", "segv", "uffd"), workloads=("fork-parent-read",))
    with opened("simulator") as session:
        for cell in make_plan(registry(), PAGE, request).cells:
            counts = session.counted(cell)
            run = session.run(cell, 1, 60.0)
            for name, counters in run.samples[-1].phases.items():
                assert counters.ns == default().time(counts[name], PAGE).ns
                assert counters.ns or not counts[name]


def test_no_cost_knows_a_mechanism_or_a_workload() -> None:
    """Times follow from events alone: no name of either is in any code between them."""
    known = registry()
    names = {*known.mechanisms, *known.workloads, *known.cases}
    folder = Path(cost_files.__file__).parent
    for file in ("costs", "cost_files", "calibration", "observing", "phases"):
        tree = ast.parse((folder / f"{file}.py").read_text(encoding="utf-8"))
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not texts & names, file


# -- the built-in table ------------------------------------------------------------------------


def test_the_built_in_table_is_calibrated_and_says_where_and_how_well() -> None:
    costs = default()
    assert set(costs.ns) == set(Event)
    assert costs.error.cells >= 100
    assert 0 < costs.error.median <= 0.15
    assert costs.error.median < costs.error.most < 0.3
    assert (costs.origin.clock, costs.origin.page_size) == ("real", PAGE)
    exercised = set(Event) - costs.assumed
    assert {Event.TRAP, Event.ALLOC, Event.MMAP, Event.FORK_PTE, *USER} <= exercised
    assert "unchecked" not in costs.note(Kernel())


def test_a_session_says_what_its_times_are_worth() -> None:
    costs = default()
    with opened("simulator") as session:
        facts = session.capabilities().environment
    assert facts["costs"] == f"default {costs.digest}"
    assert facts["costs-error"] == f"{costs.error.median:.1%}"
    assert f"median error {costs.error.median:.1%}" in facts[CLOCK_NOTE]
    assert costs.origin.date in facts[CLOCK_NOTE]
    with opened("simulator:page=64KiB,arch=arm64") as session:
        note = session.capabilities().environment[CLOCK_NOTE]
    assert "unchecked: arm64 instead of x86_64, 64KiB instead of 4KiB" in note


def test_equal_costs_have_equal_digests() -> None:
    assert priced().digest == replace(default(), name="other").digest
    assert priced().digest != priced(trap=1.0).digest


def test_every_report_of_a_simulated_run_states_the_error(
    refbench: Refbench, tmp_path: Path
) -> None:
    done = refbench(
        "run", "-b", "simulator", "-m", "anon", "-w", "sparse-write", "-o", tmp_path, "--runs", "1"
    )
    assert done.returncode == 0, done.stderr
    for text in (done.stdout, (tmp_path / "report.md").read_text(encoding="utf-8")):
        assert f"median error {default().error.median:.1%}" in " ".join(text.split())
    assert "median error" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_manual_has_the_costs_and_the_error_of_the_built_in_table(repository: Path) -> None:
    text = (repository / "docs" / "simulator.md").read_text(encoding="utf-8")
    costs = default()
    for event in Event:
        assumed = " (assumed)" if event in costs.assumed else ""
        row = f"| `{event.value}` | {units.seconds(costs.ns[event] / 1e9)}{assumed} | "
        assert row in text, f"docs/simulator.md needs the line\n{row}"
    median, most = (f"{100 * share:.1f} %" for share in (costs.error.median, costs.error.most))
    assert f"median error of a cell's time is {median}" in text
    assert f"less than {most} off" in text


# -- files -------------------------------------------------------------------------------------


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    costs = priced(1 / 3, swap=1e-9, merge=1e12)
    path = tmp_path / "deep" / "lab.toml"
    save(costs, path)
    assert load(path) == replace(costs, name="lab")
    save(priced(2), path)
    assert load(path).ns == priced(2).ns
    assert [file.name for file in path.parent.iterdir()] == ["lab.toml"]


def test_tables_are_kept_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert cost_files.names() == ("default",)
    save(priced(5), cost_files.place("lab"))
    assert cost_files.names() == ("default", "lab")
    assert find("lab").ns == priced(5).ns
    assert find("default") == default()
    with pytest.raises(UsageError, match="no cost table 'lub'") as caught:
        find("lub")
    assert "Did you mean 'lab'" in caught.value.remedy


@pytest.mark.parametrize("name", ["default", "", "../up", "A", "a b", ".hidden"])
def test_what_can_be_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be kept"):
        cost_files.place(name)


GOOD = dump(priced())


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("format = 1", "format = 2", "format 1"),
        ("trap = ", "trapp = ", "unknown key 'trapp'"),
        ("\ntrap = ", "\n# trap = ", "ns.trap"),
        ("\ntrap = ", "\ntrap = -", "ns.trap"),
        ("\nzap = ", "\nzap = nan #", "ns.zap"),
        ("\nzap = ", "\nzap = inf #", "ns.zap"),
        ("\nzap = ", "\nzap = true #", "ns.zap"),
        ("\nzap = ", '\nzap = "1" #', "ns.zap"),
        ("[ns]", "[ns", "is no cost table"),
        ("page_size = 4096", "page_size = 0", "origin.page_size"),
        ("page_size = 4096", "page_size = 4096.5", "origin.page_size"),
        ("\nmedian = ", "\nmedien = ", "unknown key 'medien'"),
        ("assumed = [", 'assumed = ["nonsense", ', "assumed"),
    ],
)
def test_a_damaged_table_is_named_with_the_key_that_is_wrong(was: str, now: str, said: str) -> None:
    assert was in GOOD
    with pytest.raises(UsageError) as caught:
        parse(GOOD.replace(was, now, 1), "x", "x.toml")
    assert said in caught.value.message
    assert "x.toml" in caught.value.message
    assert caught.value.remedy


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        find(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        load(tmp_path / "bytes.toml")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        save(priced(), tmp_path / "file" / "lab.toml")


def test_a_wrong_table_is_the_users_mistake(refbench: Refbench) -> None:
    done = refbench("run", "-b", "simulator:costs=nowhere", "-m", "anon", "-w", "sparse-write")
    assert done.returncode == 2
    assert "There is no cost table 'nowhere'." in done.stderr
    assert "Traceback" not in done.stderr
