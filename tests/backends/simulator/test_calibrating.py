"""``refbench calibrate``, end to end: on a machine whose costs are known, and on this one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from refbench import journal as journals
from refbench.cli.places import JOURNAL
from refbench.journal import Content, Header, Journal
from refbench.plan import Request, select_mechanisms, select_workloads
from refbench.plugins import registry
from refbench.runner import execute
from refbench.samples import CellId, Environment, Failure, Measurement, Run
from refbench_simulator import calibration_cells as cells
from refbench_simulator.calibration import Observed
from refbench_simulator.cost_files import default, load, save
from refbench_simulator.model.events import Event
from refbench_simulator.observing import LeftOut, cell_of, observe

Refbench = Callable[..., "subprocess.CompletedProcess[str]"]
MECHANISMS = ("anon", "memset", "memfd:block=4", "memfd-full", "uffd-sigbus", "segv")
WORKLOADS = (
    "sparse-touch:size=8MiB,stride=4,access=read",
    "dense-touch:size=4MiB",
    "dense-touch:size=8MiB,access=readwrite",
    "fork-after-alloc:size=8MiB,touched=1,stride=3,access=read",
    "alloc-churn:size=64KiB,count=512,stride=1",
    "calls:count=2000",
    "calls:call=dontneed",
    "calls:call=protect",
)
REQUEST = Request(
    mechanisms=(*MECHANISMS, "memfd:block=16"),
    workloads=(*WORKLOADS, "sparse-random", "calls:call=protect,size=6MiB,count=3"),
    runs=1,
    iterations=1,
)


class Silent:
    """Nobody watches."""

    def opened(self, *_: object) -> None: ...
    def started(self, *_: object) -> None: ...
    def finished(self, *_: object) -> None: ...
    def note(self, _: str) -> None: ...


def recorded(folder: Path, target: str, request: Request) -> Content:
    header = Header(refbench="1", started="2020", targets=(target,), request=request)
    with Journal.create(folder / JOURNAL, header) as journal:
        execute(registry(), (target,), request, journal, Silent())
        return journal.content()


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Event, float]]:
    """A journal of a machine that the model is right about, with costs of its own.

    The simulator plays it: its journal is rewritten to say that the clock is real.
    """
    folder = tmp_path_factory.mktemp("known")
    built_in = default()
    true = {
        event: 5 * cost * (0.7 + 0.1 * (at % 7))
        for at, (event, cost) in enumerate(built_in.ns.items())
    }
    save(replace(built_in, ns=true), folder / "true.toml")
    recorded(folder, f"simulator:costs={folder / 'true.toml'}", REQUEST)
    file = folder / JOURNAL
    text = file.read_text(encoding="utf-8").replace('"clock":"modelled"', '"clock":"real"')
    file.write_text(text, encoding="utf-8")
    return file, true


def test_a_machine_that_the_model_is_right_about_is_modelled_exactly(
    refbench: Refbench, known: tuple[Path, dict[Event, float]], tmp_path: Path
) -> None:
    file, true = known
    table = tmp_path / "lab.toml"
    done = refbench("calibrate", "--journal", file, "--save", table, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    costs = load(table)
    assert costs.error.median < 0.01
    assert costs.error.most < 0.03
    assert costs.error.cells == len(found["held_out"]["cells"]) > 20
    assert found["fitted"]["cells"] >= 40
    for event in (Event.TRAP, Event.SYSCALL, Event.SIGNAL, Event.FILL, Event.PROTECT):
        assert costs.ns[event] == pytest.approx(true[event], rel=0.2), event
    assert {Event.MESSAGE, Event.THREAD, Event.SWAP} <= costs.assumed
    assert (costs.origin.clock, costs.origin.target) == ("real", found["origin"]["target"])


def test_its_output_for_people(
    refbench: Refbench, known: tuple[Path, dict[Event, float]], tmp_path: Path
) -> None:
    env = {"XDG_DATA_HOME": str(tmp_path)}
    done = refbench("calibrate", "--journal", known[0], "--save", "lab", env=env)
    assert done.returncode == 0, done.stderr
    for words in ("Costs", "assumed: no cell exercises it", "memfd:block=16", "phase touch"):
        assert words in done.stdout
    assert "use it with -b simulator:costs=lab" in done.stdout
    run = ("run", "-b", "simulator:costs=lab", "-m", "anon", "-w", "dense-read", "--runs", "1")
    done = refbench(*run, "-o", tmp_path / "run", env=env)
    assert done.returncode == 0, done.stderr
    assert "modelled time: median error" in done.stdout


def test_on_this_machine(refbench: Refbench, tmp_path: Path) -> None:
    """Few short cells and few runs: the full calibration's error is in the built-in table."""
    done = refbench(
        "run", "--runs", "3", "--iterations", "2", "-o", tmp_path,
        *(f"-m{name}" for name in REQUEST.mechanisms),
        *(f"-w{name}" for name in REQUEST.workloads),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = tmp_path / "here.toml"
    done = refbench("calibrate", "--journal", tmp_path, "--save", table)
    assert done.returncode == 0, done.stderr
    costs = load(table)
    assert costs.origin.target == "host"
    # Whatever else runs meanwhile; alone, it is about 5 %.
    assert 0 < costs.error.median < 0.4
    assert 50 < costs.ns[Event.TRAP] + costs.ns[Event.FAULT] < 50_000


def test_without_runs_nothing_is_left_behind(refbench: Refbench, tmp_path: Path) -> None:
    place = tmp_path / "run"
    done = refbench("calibrate", "--runs", "0", "-o", place, "--save", tmp_path / "x.toml")
    assert done.returncode == 2
    assert "0 runs of 3 iterations measure nothing" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-b", "simulator"), "cannot be calibrated on itself"),
        (("-b", "hots"), "Did you mean 'host'"),
        (("-b", "host:cpu=x,y=1"), "has no option 'y'"),
        (("--save", "default"), "cannot be kept under the name 'default'"),
        (("--journal", "/nowhere"), "There is no journal at /nowhere"),
        (("--budget", "soon"), "is no time"),
    ],
)
def test_mistakes_are_named_before_anything_is_measured(
    refbench: Refbench, arguments: tuple[str, ...], said: str
) -> None:
    done = refbench("calibrate", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_modelled_times_teach_nothing(refbench: Refbench, tmp_path: Path) -> None:
    request = Request(mechanisms=("anon",), workloads=("calls",), runs=1, iterations=1)
    recorded(tmp_path, "simulator", request)
    done = refbench("calibrate", "--journal", tmp_path, "--save", tmp_path / "x.toml")
    assert done.returncode == 2
    assert "are modelled" in done.stderr


def test_a_journal_of_few_cells_is_not_enough(refbench: Refbench, tmp_path: Path) -> None:
    recorded(tmp_path, "host", Request(mechanisms=("anon",), workloads=("calls",), runs=1))
    done = refbench("calibrate", "--journal", tmp_path, "--save", tmp_path / "x.toml")
    assert done.returncode == 5
    assert "has 0 cells to fit to" in done.stderr
    assert not (tmp_path / "x.toml").exists()


# -- the design --------------------------------------------------------------------------------


def test_what_is_held_out_is_never_fitted_to() -> None:
    known = registry()
    fitted = {str(spec) for spec, _ in select_workloads(known, cells.WORKLOADS)}
    held = {str(spec) for spec, _ in select_workloads(known, cells.HELD_OUT_WORKLOADS)}
    assert len(fitted) == len(cells.WORKLOADS)
    assert not fitted & held
    # A real program has no model, and its trace is one program of one size.
    specs = [case.workload for case in known.cases.values()]
    cases = {spec for spec in specs if not spec.name.startswith("pdfium")}
    assert {str(known.workload(spec).canonical(spec)) for spec in cases} <= held
    mechanisms = {str(spec) for spec in select_mechanisms(known, cells.MECHANISMS)}
    assert not mechanisms & {str(s) for s in select_mechanisms(known, cells.HELD_OUT_MECHANISMS)}
    pairs = [
        (w, m) for w in ("calls:call=dontneed", "dense-touch") for m in ("anon", "uffd:atfork=yes")
    ]
    given = [Observed(w, m, 1.0, {}) for w, m in pairs]
    one, rest = cells.split(known, given)
    assert [(c.workload, c.mechanism) for c in one] == [("calls:call=dontneed", "anon")]
    assert len(rest) == 3


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_every_cell_fits_every_page_size(page_size: int) -> None:
    known = registry()
    for request in cells.requests(runs=1, iterations=1, seed=0):
        for spec, _ in select_workloads(known, request.workloads):
            assert known.workload(spec).program(spec, page_size).steps


def test_the_model_takes_every_cell_of_the_design(known: tuple[Path, dict[Event, float]]) -> None:
    content = journals.read(known[0])
    assert not [line for line in content.runs if line.run.failure is not None]


# -- observing ---------------------------------------------------------------------------------


def measurement(workload: str, mechanism: str, where: Environment) -> Measurement:
    cell = CellId(key="k", workload=workload, mechanism=mechanism, pattern="byte:0xAA")
    return Measurement(cell=cell, environment=where, runs=())


HERE = Environment(target="host", clock="real", kernel="6.18", arch="x86_64", page_size=4096)


def test_a_cell_is_built_anew_from_its_names(known: tuple[Path, dict[Event, float]]) -> None:
    for found in journals.read(known[0]).measurements():
        assert cell_of(registry(), found).key == found.cell.key


def test_cells_that_cannot_be_used_say_why(known: tuple[Path, dict[Event, float]]) -> None:
    one = journals.read(known[0]).measurements()[0]
    (found,) = observe(registry(), [measurement("dense-touch", "anon", HERE)], lambda _: {})
    assert isinstance(found, LeftOut)
    assert "no time" in found.reason
    (found,) = observe(registry(), [one], lambda _: {})
    assert isinstance(found, LeftOut)
    assert "modelled none" in found.reason
    refused = replace(one, runs=(Run(failure=Failure(kind="limit-hit", message="Too many.")),))
    (found,) = observe(registry(), [refused], lambda _: {})
    assert isinstance(found, LeftOut)
    assert found.reason == "limit-hit: Too many."
