"""Stories: every entry of the ledger is in one, they add up, and they say what happened where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from refbench import program as p
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.samples import Run
from refbench.words import Cell, Pattern
from refbench_simulator import cost_files, rules
from refbench_simulator.cutting import Grain, Traits
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanisms import MODELS
from refbench_simulator.model.events import Event
from refbench_simulator.phases import FIELDS
from refbench_simulator.rows import Rows
from refbench_simulator.session import SimulatorSession
from refbench_simulator.spans import Span, spans_of
from refbench_simulator.telling import MOST_TOLD, Action, Teller, Told
from refbench_simulator.work import KINDS, bar, by_kind

PAGE = 4096
SMALL = {
    "sparse-touch": ("size=1MiB", "size=1MiB,access=readwrite,order=random"),
    "dense-touch": ("size=256KiB,access=read", "size=256KiB,order=backward,threads=2,churn"),
    "fork-after-alloc": ("size=256KiB", "size=256KiB,depth=2,access=read"),
    "alloc-churn": ("size=64KiB,count=3",),
    "v4-microbench": ("count=2", "count=2,touch=half"),
    "pressure": ("size=256KiB,rounds=2", "size=256KiB,reclaim=none"),
    "calls": tuple(
        f"size=64KiB,count=2,call={call}" for call in ("dontneed", "populate", "protect", "remap")
    ),
}
COUNTERS = ("minor_faults", "major_faults", "syscalls", "sigbus", "sigsegv", "uffd_messages")


def session(kernel: Kernel | None = None) -> SimulatorSession:
    return SimulatorSession(kernel or Kernel(), cost_files.default())


def told(
    text: str, mechanism: str = "anon", kernel: Kernel | None = None
) -> tuple[Teller, Run, SimulatorSession]:
    """The story of a program."""
    program = p.parse(f"refbench-program 1\nname test\n{text}")
    return run_of(Cell("program:test", Spec.parse(mechanism), Pattern(), program), kernel)


def run_of(cell: Cell, kernel: Kernel | None = None) -> tuple[Teller, Run, SimulatorSession]:
    simulator = session(kernel)
    teller = Teller(cell.program, simulator.costs)
    return teller, simulator.explained(cell, 1, 60, teller), simulator


def everything(steps: Sequence[Told], times: int = 1) -> Iterator[tuple[int, Action]]:
    """Every action with how often it happened."""
    for step in steps:
        yield from ((times, action) for action in (*step.actions, *step.after))
        for block in step.blocks:
            yield from everything(block.steps, times * block.times)


def only(teller: Teller, rule: rules.Rule) -> Action:
    """The one action by a rule."""
    (found,) = [action for _, action in everything(teller.steps) if action.rule is rule]
    return found


CELLS = [
    (mechanism, f"{workload}:{options}")
    for mechanism in (*MODELS, "memfd:block=16", "uffd:atfork", "uffd-sigbus:atfork")
    for workload, several in SMALL.items()
    for options in several
] + [("memset", "pdfium-trace")]


def test_no_workload_is_left_out() -> None:
    # What executes a real program cannot be told, and a trace is told by the one that comes along.
    assert set(SMALL) == set(registry().workloads) - {"pdfium", "pdfium-trace", "trace"}


@pytest.mark.parametrize(("mechanism", "workload"), CELLS)
def test_what_is_told_adds_up_to_the_sample(mechanism: str, workload: str) -> None:
    plugins = registry()
    spec = Spec.parse(workload)
    program = plugins.workload(spec).program(spec, PAGE)
    teller, run, simulator = run_of(Cell(workload, Spec.parse(mechanism), Pattern(), program))
    if run.failure is not None:
        assert run.failure.kind in {"wrong-content", "unsupported", "limit-hit"}
        return
    events: dict[str, Counter[Event]] = {}
    counters: dict[str, Counter[str]] = {}
    for times, action in everything(teller.steps):
        mine = events.setdefault(action.phase, Counter())
        mine.update({event: times * n for event, n in action.events.items()})
        counted = counters.setdefault(action.phase, Counter())
        counted.update({name: times * n for name, n in action.counters.items()})
    for name, phase in run.samples[-1].phases.items():
        told_events = events.get(name, Counter())
        assert simulator.costs.time(told_events, PAGE).ns == phase.ns, name
        mine_counted = [counters.get(name, Counter())[field] for field in FIELDS]
        assert mine_counted == [getattr(phase, field) for field in COUNTERS], name
        assert by_kind(told_events, simulator.costs, PAGE).keys() == {kind.name for kind in KINDS}


def test_listening_changes_nothing() -> None:
    text = "phase a\nmap 0 1048576\ntouch 0 0 1048576 readwrite 8192\nphase -\nmeasure a\n"
    for mechanism in ("anon", "memfd", "segv"):
        _, run, simulator = told(text, mechanism)
        program = p.parse(f"refbench-program 1\nname test\n{text}")
        alone = simulator.run(Cell("x", Spec.parse(mechanism), Pattern(), program), 1, 60)
        assert run.samples == alone.samples


def test_a_first_store_says_where_it_was() -> None:
    teller, _, _ = told("map 0 1048576\nphase a\ntouch 0 0 1048576 write 65536\n")
    action = only(teller, rules.FIRST_STORE)
    assert action.spans == (Span(0, 0, 15 * 65536 + PAGE, 16, 16, 1),)
    assert action.spans[0].text == "region 0, 0 to 964KiB: every 16th page, 16 pages"
    assert action.events[Event.CLEAR] == 16
    assert action.counters == {"minor": 16}
    assert action.phase == "a"


def test_a_load_allocates_nothing_and_a_store_behind_it_does() -> None:
    teller, _, _ = told(
        "map 0 8192\nphase a\ntouch 0 0 8192 read 4096\ntouch 0 0 4096 write 4096\n"
    )
    assert Event.ALLOC not in only(teller, rules.LOAD_ZERO).events
    assert only(teller, rules.FIRST_STORE).events[Event.ALLOC] == 1
    assert only(teller, rules.FLUSH).spans == (Span(0, 0, PAGE, 1, 1, 1),)


def test_pictures_show_what_changed() -> None:
    teller, _, _ = told("map 0 65536\ntouch 0 0 65536 read 8192\ntouch 0 4096 8192 write 4096\n")
    mapped, read, written = (step.picture for step in teller.steps if step.line)
    assert mapped is not None
    assert read is not None
    assert written is not None
    assert mapped.regions[0].strip == "." * 16
    assert read.regions[0].strip == "0." * 8
    assert written.regions[0].strip == "0oo." + "0." * 6
    assert dict(written.regions[0].kinds) == {"no entry": 7, "zero page": 7, "own page": 2}
    assert (written.rss, written.pss) == (2 * PAGE, 2 * PAGE)


def test_a_strip_begins_where_entries_are() -> None:
    teller, _, _ = told("map 0 1048576\ntouch 0 819200 8192 write 4096\n")
    picture = teller.steps[-2].picture
    assert picture is not None
    assert (picture.regions[0].first, picture.regions[0].strip) == (192, "." * 8 + "oo" + "." * 54)


def test_a_huge_page_is_one_entry() -> None:
    program = p.parse("refbench-program 1\nname test\nmap 0 2097152\ntouch 0 0 4096 write 4096\n")
    cell = Cell("program:test", Spec("anon"), Pattern(), program, thp=True)
    teller, _, _ = run_of(cell, Kernel(thp="always"))
    assert only(teller, rules.HUGE_STORE).events[Event.PTE] == 1
    picture = teller.steps[-2].picture
    assert picture is not None
    assert picture.regions[0].kinds == (("huge page", 512),)


def test_a_fork_shares_pages_and_a_store_unshares_them() -> None:
    teller, _, _ = told(
        "map 0 16384\ntouch 0 0 16384 write 8192\nfork\n  touch 0 0 4096 write 4096\nparent\nend\n"
    )
    fork = next(step for step in teller.steps if step.text == "fork")
    child, parent = fork.blocks
    assert (child.part, parent.part) == ("child", "parent")
    assert child.steps[0].depth == 1
    picture = child.steps[0].picture
    assert picture is not None
    assert picture.regions[0].strip == "o.s."
    assert only(teller, rules.STORE_UNSHARES).spans == (Span(0, 0, PAGE, 1, 1, 1),)
    assert next(action.rule for action in fork.after) is rules.EXIT


def test_entries_that_fork_leaves_out_are_told() -> None:
    teller, _, _ = told("map 0 16384\ntouch 0 0 16384 read 4096\nfork\nparent\nend\n")
    action = only(teller, rules.FORK_LEAVES)
    assert (action.spans[0].pages, action.ns) == (4, 0)


def test_equal_repetitions_are_told_once() -> None:
    teller, _, _ = told(
        "repeat 50\n  map 0 65536\n  touch 0 0 0x10000 write 4096\n  unmap 0 0 0\nend\n"
    )
    (repeat,) = [step for step in teller.steps if step.blocks]
    assert [block.times for block in repeat.blocks] == [50]
    assert sum(t * a.events.get(Event.CLEAR, 0) for t, a in everything(teller.steps)) == 800


def test_repetitions_that_differ_are_bounded_and_still_counted() -> None:
    # Every repetition moves the content down by one page, and loses one.
    size, body = 32 * PAGE, "  remap 0 4096 126976 1 0\n  unmap 0 0 0\n  remap 1 0 126976 0 0\n"
    text = f"phase a\nmap 0 {size}\ntouch 0 0 {size} write 4096\nrepeat 20\n{body}end\n"
    teller, run, simulator = told(text)
    assert run.failure is None, run.failure
    phase = run.samples[-1].phases["a"]
    assert simulator.costs.time(teller.totals["a"].events, PAGE).ns == phase.ns
    (repeat,) = [step for step in teller.steps if step.blocks]
    assert [block.times for block in repeat.blocks] == [1] * MOST_TOLD
    assert repeat.untold == 20 - MOST_TOLD


def test_a_failure_is_told_up_to_where_it_happened() -> None:
    kernel = Kernel(max_map_count=30)
    teller, run, _ = told("map 0 1048576\n", "memfd", kernel)
    assert run.failure is not None
    assert run.failure.kind == "limit-hit"
    assert [step.text for step in teller.steps if step.failed] == ["map 0 1048576"]


def test_a_lost_pattern_is_told_in_the_child() -> None:
    teller, run, _ = told(
        "map 0 8192\nfork\n  expect 0 0 8192 pattern stride=4096\nparent\nend\n", "uffd"
    )
    assert run.failure is not None
    assert run.failure.kind == "wrong-content"
    fork = next(step for step in teller.steps if step.text == "fork")
    assert fork.failed
    assert fork.blocks[0].steps[-1].failed


def rows_of(text: str, fold_from: int) -> tuple[p.Program, Rows]:
    program = p.parse(f"refbench-program 1\nname test\n{text}")
    return program, Rows(program, Grain(PAGE, 16, 512), Traits(), fold_from)


@pytest.mark.parametrize("size", [1 << 26, 1 << 40])
def test_folded_rows_are_told_like_others(size: int) -> None:
    program, rows = rows_of(
        f"map 0 {size}\ntouch 0 0 {size} write 65536\ntouch 0 0 {size} read 65536 size=8192\n", 4
    )
    assert (rows.copies > 1).any()
    spans: list[Span] = []
    for step in program.steps[1:]:
        assert isinstance(step, p.Touch)
        spans += spans_of(rows, np.sort(rows.visit(step).rows))
    last = size - 65536
    assert spans == [
        Span(0, 0, last + PAGE, size // 65536, 16, 1),
        Span(0, 0, last + 2 * PAGE, size // 32768, 16, 2),
    ]
    (whole,) = spans_of(rows, np.arange(len(rows)))
    assert whole.pages == size // PAGE
    assert whole.every == whole.run > 0
    assert (whole.start, whole.end) == (0, size)


def test_irregular_pages_are_here_and_there() -> None:
    program, rows = rows_of("map 0 1048576\ntouch 0 0 1048576 write 4096 order=random count=9\n", 9)
    step = program.steps[1]
    assert isinstance(step, p.Touch)
    (span,) = spans_of(rows, np.sort(rows.visit(step).rows))
    assert (span.pages, span.every) == (9, 0)
    assert span.text.endswith("9 pages here and there")


def test_every_event_is_of_one_kind_of_work() -> None:
    met = Counter(event for kind in KINDS for event in kind.events)
    assert met == Counter(Event)
    assert len({kind.sign for kind in KINDS}) == len(KINDS)


def test_a_bar_is_as_long_as_asked_for() -> None:
    times = {kind.name: number for number, kind in enumerate(KINDS)}
    assert len(bar(times, 26)) == 26
    assert bar(dict.fromkeys(times, 0), 26) == ""
    assert bar({**dict.fromkeys(times, 0), KINDS[1].name: 3, KINDS[3].name: 1}, 8) == "PPPPPPVV"


def test_rules_have_names_of_their_own_and_are_used() -> None:
    assert len({rule.id for rule in rules.RULES}) == len(rules.RULES)
    code = "".join(
        path.read_text(encoding="utf-8")
        for path in Path(rules.__file__).parent.rglob("*.py")
        if path.name != "rules.py"
    )
    for name, rule in vars(rules).items():
        if isinstance(rule, rules.Rule):
            assert f"rules.{name}" in code, f"no entry names the rule {rule.id}"
            assert rule.sentence.endswith(".")
            assert "." in rule.file
