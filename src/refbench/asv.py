"""What the asv benchmarks of any later commit call in the refbench that is being measured.

Benchmarks are read from the work tree of today and run against installs of older commits. So
they call :func:`measure`, :func:`cell`, :func:`worked_out` and :func:`patched_kernel` only, each
with the ``version`` of its meaning that they were written for, and the names on the axes (targets,
mechanisms, cases) come from them: a name that this refbench does not know is not measured.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from refbench import journal as journals
from refbench import kernel_costs, metrics
from refbench.errors import RefbenchError, StorageError, UsageError
from refbench.grammar import Spec, suggest
from refbench.journal import Header, Journal
from refbench.plan import Plan, Request, select_mechanisms, select_workloads, split_specs
from refbench.plugins import Registry, registry
from refbench.program import Program, parse
from refbench.runner import execute, open_target
from refbench.samples import Measurement, Run
from refbench.version import VERSION
from refbench.words import Capabilities, Cell, Clock, Pattern

INTERFACE = 1
"""The version of what these four mean."""
RUNS = 3
ITERATIONS = 2
"""Fresh processes a cell, and samples in each beside the warm-up: few, because the history
gains its strength from many commits."""
COUNTED = {"qemu": (1, 1)}
"""The same of targets that take long and say the same again."""
PAGE_SIZE = 4096
"""Of the programs that are only built to see whether they can be."""
MOST_SECONDS = 60.0
"""How long the simulator may work on one program."""
JOURNALS = Path(".asv/journals")
"""Where the journals are kept, under the directory of asv.conf.json."""
TARGETS_VARIABLE = "REFBENCH_TARGETS"
OVERHEAD = "overhead"
"""The one metric that belongs to a run and not to a sample: seconds of wall time from asking
the session to having its answer, less those that the agent itself spent."""

Tracked = dict[str, list[float] | int] | float
"""What asv is given: samples, from which it makes a median, quartiles and an interval; or NaN,
which it shows as n/a."""


def measure(
    targets: Sequence[str],
    mechanisms: Sequence[str],
    cases: Sequence[str],
    *,
    version: int = INTERFACE,
) -> str:
    """Measure every cell of the three axes and return the path of the journal.

    ``REFBENCH_TARGETS`` selects among ``targets`` (default: ``host``); each is opened once. A
    target that cannot be opened, a name that is not known and a cell that fails are recorded
    or left out, never raised: :func:`cell` answers for them.

    :raises UsageError: when ``REFBENCH_TARGETS`` names something that is not on the axis.
    :raises StorageError: when the journal cannot be written.
    :raises NotImplementedError: when this refbench is older than ``version``.
    """
    _check(version)
    known = registry()
    request = Request(
        mechanisms=tuple(_known(known, mechanisms, select_mechanisms)),
        workloads=tuple(_known(known, cases, _programs)),
    )
    chosen = selected(known, targets)
    header = Header(
        refbench=VERSION,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        targets=chosen,
        request=request,
    )
    path = _place()
    with Journal.create(path, header) as journal:
        for target in chosen:
            runs, iterations = COUNTED.get(target, (RUNS, ITERATIONS))
            asked = replace(request, runs=runs, iterations=iterations)
            try:
                prepare(target)
                execute(known, (target,), asked, journal, _Quiet())
            except StorageError:
                raise
            except RefbenchError as error:
                _say(f"{target}: {error}")
    return str(path)


def cell(
    journal: str,
    *,
    target: str,
    mechanism: str,
    case: str,
    metric: str,
    version: int = INTERFACE,
) -> Tracked:
    """The samples of one cell in one metric, from the journal that :func:`measure` returned.

    Seconds, bytes or a count; the warm-up is left out. NaN when the cell failed or the metric
    cannot be read here: the reason is printed, and the journal has it.

    :raises NotImplementedError: when there is nothing to measure: the target is not selected,
        the mechanism does not work there, or this refbench does not know one of the names.
        Call it in ``setup``, where asv takes that for n/a.
    """
    _check(version)
    measurements = _measurements(Path(journal), target, mechanism, case)
    if not measurements:
        raise NotImplementedError(f"{mechanism} was not measured in {case} on {target}.")
    if metric == OVERHEAD and Clock(measurements[-1].environment.clock).counts:
        raise NotImplementedError(f"{target} counts: what the agent spends is no time of ours.")
    failure = measurements[-1].failure
    if failure is not None and failure.kind == "unsupported":
        raise NotImplementedError(f"{failure.message} {failure.remedy}".strip())
    runs = tuple(run for measurement in measurements for run in measurement.good)
    if failure is not None and not runs:
        _say(f"{mechanism} in {case} on {target}: {failure.kind}: {failure.message}")
        return math.nan
    samples = [value for value in _values(runs, metric) if math.isfinite(value)]
    if not samples:
        _say(f"{metric} of {mechanism} in {case} on {target} cannot be read here")
        return math.nan
    return {"samples": samples, "number": 1}


def selected(known: Registry, targets: Sequence[str]) -> tuple[str, ...]:
    """The targets that ``REFBENCH_TARGETS`` selects (commas between them), as on the axis.

    :raises UsageError: for one that is not on the axis.
    """
    wanted = os.environ.get(TARGETS_VARIABLE) or "host"
    names = {*known.backends, *(target.partition(":")[0] for target in targets)}
    chosen = tuple(dict.fromkeys(split_specs((wanted,), names)))
    for name in chosen:
        if name not in targets:
            raise UsageError(
                f"{TARGETS_VARIABLE} selects {name!r}, which the history does not track.",
                remedy=suggest(name, targets),
            )
    return chosen


def prepare(target: str) -> None:
    """Make what ``target`` needs, where it is not there yet: a commit's kernel has the patches and
    the configuration of that commit.

    :raises BackendError: when that fails, with what was said.
    """
    if target.partition(":")[0] == kernel_costs.TARGET:
        kernel_costs.build({})


def _check(version: int) -> None:
    if version > INTERFACE:
        raise NotImplementedError(
            f"This refbench answers version {INTERFACE} of the history's questions, not {version}."
        )


def _known(
    known: Registry,
    names: Sequence[str],
    select: Callable[[Registry, Sequence[str]], object],
) -> Iterator[str]:
    for name in names:
        try:
            select(known, (name,))
        except RefbenchError as error:
            _say(f"{name}: {error}")
        else:
            yield name


def _programs(known: Registry, names: Sequence[str]) -> list[Program]:
    """The programs of cases: what one of them needs and lacks is no other's trouble."""
    return [
        known.workload(spec).program(spec, PAGE_SIZE) for spec, _ in select_workloads(known, names)
    ]


def _place() -> Path:
    """A journal of its own for this process and commit; it stays for whoever wants to know."""
    base = Path(os.environ.get("ASV_CONF_DIR", ".")).resolve()
    commit = os.environ.get("ASV_COMMIT", "worktree")
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return base / JOURNALS / f"{now}-{commit}-{os.getpid()}.jsonl"


@functools.lru_cache(maxsize=8)
def _measurements(path: Path, target: str, mechanism: str, case: str) -> tuple[Measurement, ...]:
    """The measurements of one cell.

    asv starts a process a cell and metric, so only the lines of that cell are decoded, and
    ``setup`` and the benchmark read them once. A journal that is handed out is finished.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"The journal {path} cannot be read: {error.strerror}.", remedy="Run asv again."
        ) from None
    names = (_text("case", case), _text("mechanism", mechanism))
    found = {0: data[: data.find(b"\n") + 1]}
    found |= _lines(data, b'\n{"type":"session"', ())
    found |= _lines(data, names[1], names)
    lines = [found[at] for at in sorted(found)]
    return tuple(
        measurement
        for measurement in journals.decode(b"".join(lines), str(path)).measurements()
        if measurement.environment.target == target
        and measurement.cell.case == case
        and measurement.cell.mechanism == mechanism
    )


def _lines(data: bytes, needle: bytes, names: Sequence[bytes]) -> dict[int, bytes]:
    """The lines that ``needle`` is in, and all ``names``, by where they begin.

    A search for bytes: splitting all of a journal into lines takes longer than everything else.
    """
    found: dict[int, bytes] = {}
    at = data.find(needle)
    while at >= 0:
        begin = data.rfind(b"\n", 0, at + 1) + 1
        end = data.find(b"\n", begin) + 1 or len(data)
        line = data[begin:end]
        if all(name in line for name in names):
            found[begin] = line
        at = data.find(needle, end - 1)
    return found


def _text(field: str, value: str) -> bytes:
    return msgspec.json.encode({field: value})[1:-1]


def _values(runs: Sequence[Run], metric: str) -> Iterator[float]:
    if metric == OVERHEAD:
        # All are warm: finding out what works here has started the agent already.
        for run in runs:
            yield (run.wall_ns - run.agent_ns) / 1e9
        return
    found = metrics.find(metric)
    for run in runs:
        for sample in run.kept:
            value = found.value(sample)
            if value is not None:
                yield value


def _say(text: str) -> None:
    """For asv's ``--show-stderr``."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"refbench: {text}\n")


class _Quiet:
    """asv shows its own progress."""

    def opened(self, target: Spec, capabilities: Capabilities, plan: Plan) -> None:
        pass

    def started(self, cell: Cell, round_: int) -> None:
        pass

    def finished(self, cell: Cell, round_: int, run: Run) -> None:
        pass

    def note(self, text: str) -> None:
        _say(text)


def worked_out(
    program: str, mechanism: str, *, runs: int = RUNS, version: int = INTERFACE
) -> tuple[tuple[float, ...], int] | None:
    """What the simulator itself costs: seconds of each of ``runs`` runs of the text ``program``,
    and the most bytes that Python and NumPy had allocated in one more.

    A mechanism that meets a limit of the modelled kernel has been worked out up to there. None
    when there is no simulator, when it does not carry the mechanism, or when
    ``REFBENCH_TARGETS`` selects nothing that a real clock measures.

    :raises NotImplementedError: when this refbench is older than ``version``.
    """
    _check(version)
    if "host" not in (os.environ.get(TARGETS_VARIABLE) or "host").split(","):
        return None
    found, parsed = registry(), parse(program)
    try:
        text = Spec.parse(mechanism, what="mechanism")
        spec = found.mechanism(text).canonical(text)
        _, session = open_target(found, "simulator")
    except RefbenchError as error:
        _say(f"{mechanism} in {parsed.name} on the simulator: {error}")
        return None
    cell = Cell(f"program:{parsed.name}", spec, Pattern(), parsed)
    with session:
        seconds = []
        for _ in range(runs):
            began = time.perf_counter()
            run = session.run(cell, 1, MOST_SECONDS)
            seconds.append(time.perf_counter() - began)
            if run.failure is not None and run.failure.kind != "limit-hit":
                _say(f"{mechanism} in {parsed.name} on the simulator: {run.failure.message}")
                return None
        tracemalloc.start()
        session.run(cell, 1, MOST_SECONDS)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return tuple(seconds), peak


def patched_kernel(*, version: int = INTERFACE) -> dict[str, tuple[float, ...]] | None:
    """What the patched kernel costs here, see :func:`refbench.kernel_costs.measured`.

    None when there is no QEMU or the kernel cannot be built, or when ``REFBENCH_TARGETS`` selects
    nothing that a real clock measures.

    :raises NotImplementedError: when this refbench is older than ``version``.
    """
    _check(version)
    if "host" not in (os.environ.get(TARGETS_VARIABLE) or "host").split(","):
        return None
    try:
        prepare(kernel_costs.TARGET)
        return dict(kernel_costs.measured(registry()))
    except RefbenchError as error:
        _say(f"the patched kernel: {error}")
        return None
