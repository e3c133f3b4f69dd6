"""Recording real programs: what is in the trace, what the recorder survives, what it refuses."""

from __future__ import annotations

import signal
import stat
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.trace.conftest import Record

from refbench.agent import host_arch
from refbench.backend import Session
from refbench.errors import UsageError
from refbench.grammar import Spec
from refbench.plugins import registry
from refbench.program import Execute, Phase, Program
from refbench.runner import open_target
from refbench.samples import Run, Sample
from refbench.trace import Kind, Trace, compile_trace
from refbench.trace.recording import record
from refbench.trace.summary import summarise
from refbench.words import Cell, Pattern

PATTERN = Pattern.parse("byte:0xAA")


def kinds(trace: Trace) -> Counter[Kind]:
    found: Counter[Kind] = Counter()
    for events in trace.read():
        found.update(Kind(kind) for kind in events.kind.tolist())
    return found


def test_blocks_and_touches_are_in_it(recorded: Record) -> None:
    trace = recorded("both").trace
    summary = summarise(trace)
    assert summary.blocks > 12000
    assert summary.freed > 12000
    assert summary.classes[24].count == 3
    assert summary.zero >= 5 << 20
    pages = (16 << 20) // trace.page_size
    assert summary.stores > pages
    assert trace.ending["minor-faults"]


def test_a_page_that_is_loaded_from_first_is_told_apart(recorded: Record) -> None:
    """use() loads from the middle of a block before it stores anywhere."""
    found = kinds(recorded("large").trace)
    assert found[Kind.READ] >= 3
    assert found[Kind.WRITE] > found[Kind.READ]


def test_ten_thousand_threads(recorded: Record) -> None:
    found = recorded("threads")
    assert found.status == 0
    count = kinds(found.trace)
    assert count[Kind.THREAD_BEGIN] == 10001
    assert count[Kind.THREAD_END] >= 10000
    assert summarise(found.trace).threads == 10001


def test_fork_without_exec(recorded: Record) -> None:
    found = recorded("fork")
    assert found.status == 0
    assert kinds(found.trace)[Kind.FORK] == 20
    # What the children handed out is not the recorded program's.
    assert summarise(found.trace).blocks < 1000


def test_threads_at_once(recorded: Record) -> None:
    summary = summarise(recorded("together").trace)
    assert summary.threads == 5
    assert summary.blocks >= 4 * 12000


def test_a_killed_program_leaves_a_whole_trace(recorded: Record) -> None:
    found = recorded("killed")
    assert found.status == -signal.SIGKILL
    assert summarise(found.trace).blocks >= 12000
    assert "minor-faults" not in found.trace.ending


def test_a_program_that_ends_without_exit_handlers(recorded: Record) -> None:
    found = recorded("leaves")
    assert found.status == 7
    assert summarise(found.trace).blocks >= 12000


def test_what_a_program_executes_in_its_place_is_recorded_instead(recorded: Record) -> None:
    trace = recorded("exec", "churn").trace
    assert trace.facts["command"].endswith(" churn")
    assert summarise(trace).blocks >= 12000


def test_what_a_program_starts_is_not_recorded(
    heaps: Path, tmp_path: Path, may_record: None
) -> None:
    argv = ["sh", "-c", f"{heaps} churn; {heaps} churn; true"]
    trace = record(argv, tmp_path / "heap.trace").trace
    assert trace.facts["command"].startswith("sh ") or "/sh " in trace.facts["command"]
    assert summarise(trace).blocks < 12000


def test_no_process_of_ours_stays_behind(recorded: Record, tmp_path: Path) -> None:
    recorded("churn")
    ours = subprocess.run(
        ["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert not ours.stdout


def test_a_static_program_is_refused(static_heaps: Path, tmp_path: Path, may_record: None) -> None:
    with pytest.raises(UsageError, match="left no trace"):
        record([str(static_heaps), "large"], tmp_path / "heap.trace")


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no command 'no-such-thing'"):
        record(["no-such-thing"], tmp_path / "heap.trace")


def test_an_ordinary_user_is_told_what_to_do(
    heaps: Path, user_folder: Path, user_prefix: Sequence[str]
) -> None:
    """Unless the machine lets everybody watch: then the trace is whole."""
    from refbench.allocators import preload

    library = preload(Spec("anon"), PATTERN, host_arch()).files["librefbench-malloc.so"]
    for path in (library, heaps):
        copy = user_folder / path.name
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o755)
    trace = user_folder / "heap.trace"
    done = subprocess.run(
        [
            *user_prefix,
            "env",
            "REFBENCH_MALLOC=anon",
            "REFBENCH_MALLOC_PATTERN=byte:0x00",
            f"REFBENCH_TRACE={trace}",
            f"LD_PRELOAD={user_folder / library.name}",
            str(user_folder / heaps.name),
            "large",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    everybody = Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "1"
    device = Path("/dev/userfaultfd")
    if everybody or (device.exists() and device.stat().st_mode & stat.S_IWOTH):
        assert trace.exists()
        return
    assert done.returncode == 125
    assert "vm.unprivileged_userfaultfd=1" in done.stderr


@pytest.mark.parametrize("name", ["anon", "memset"])
def test_replayed_it_costs_what_the_run_did(heaps: Path, recorded: Record, name: str) -> None:
    """Peak and faults of the replay within 2 % of those of the program itself, run without a
    recorder. Faults outside the heap are those of a program that does nothing, and one for each
    page that the allocator's records take up beyond those of that program."""
    with (
        open_target(registry(), "host")[1] as host,
        open_target(registry(), "simulator:like=host")[1] as model,
    ):
        idle, both = (costs(host, model, recorded(what).trace, heaps, what, name) for what in WHAT)
    elsewhere = idle.run - idle.replay + both.records - idle.records
    assert both.replay == pytest.approx(both.run - elsewhere, rel=0.02)
    assert both.replay_peak == pytest.approx(both.run_peak, rel=0.02)


WHAT = ("idle", "both")


class Costs(NamedTuple):
    """Faults of a run and of its replay, pages of the allocator's records, peaks of the heap."""

    run: int
    replay: int
    records: int
    run_peak: int
    replay_peak: int


def costs(host: Session, model: Session, trace: Trace, heaps: Path, what: str, name: str) -> Costs:
    """Of one program; the model's faults are those of the replay."""
    replay = cell(compile_trace(trace, trace.page_size, name="replay"), name)
    real = the_sample(host.run(program(heaps, what, name), 1, 60.0))
    ours = the_sample(host.run(replay, 1, 60.0))
    assert all_faults(the_sample(model.run(replay, 1, 60.0))) == all_faults(ours)
    supplied = real.values["private-supplied-bytes"]
    records = (real.values["private-bytes"] - supplied) // trace.page_size
    there = real.memory["exit"]
    assert there.hwm is not None
    assert there.rss is not None
    heap_peak = there.hwm - (there.rss - supplied)
    return Costs(all_faults(real), all_faults(ours), records, heap_peak, peak(ours))


def program(heaps: Path, what: str, mechanism: str) -> Cell:
    steps = (Phase("run"), Execute("heaps", (what,)), Phase())
    return cell(Program("heaps", steps, files={"heaps": heaps}), mechanism)


def cell(program: Program, mechanism: str) -> Cell:
    return Cell(f"program:{program.name}", Spec(mechanism), PATTERN, program)


def the_sample(run: Run) -> Sample:
    assert run.failure is None, run.failure
    return run.samples[-1]


def all_faults(sample: Sample) -> int:
    return sum(
        phase.minor_faults + phase.major_faults
        for name, phase in sample.phases.items()
        if name not in ("setup", "unmap")
    )


def peak(sample: Sample) -> int:
    found = [sample.memory[label].rss_anon for label in ("start", "peak")]
    assert found[0] is not None
    assert found[1] is not None
    return found[1] - found[0]
