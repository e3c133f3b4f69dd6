"""Planning: which cells, in which order, and about how long they will take."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from refbench.errors import UsageError
from refbench.estimate import Pace, run_seconds
from refbench.grammar import Spec, suggest
from refbench.plugins import Registry
from refbench.program import Program, parse
from refbench.samples import CellId
from refbench.words import Availability, Case, Cell, Clock, Pattern

BENCH_MECHANISMS = (
    "anon",
    "memset",
    "memfd",
    "memfd:block=16",
    "memfd:block=512",
    "memfd-full",
    "uffd",
    "uffd:events=fork",
    "uffd-sigbus",
    "uffd-sigbus:atfork",
    "segv",
    "ksm",
)
"""What ``refbench run`` compares when nothing else is asked for."""

AHEAD_OF_KERNELS = ("refpage", "refpage-mmap", "refpage-dev", "refpage-dev:handler=naive")
"""Mechanisms that no stock kernel carries: compared, too, on targets where they work."""

DEFAULT_RUNS = 30
"""Runs a cell that ``refbench compare`` needs on both sides to find a slowdown of 10 % in at
least 95 of 100 cells; measured by scripts/compare_acceptance.py, see docs/statistics.md."""
DEFAULT_ITERATIONS = 3
COUNTED_RUNS = {Clock.INSTRUCTIONS: 3, Clock.MODELLED: 1}
"""The same of clocks that count. Instructions are counted three times, because three runs that
agree show that nothing else was in the count. A model is asked once."""
COUNTED_ITERATIONS = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for, as texts. Empty tuples mean the bench preset."""

    mechanisms: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    """Cases, workloads, or globs of either."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Put over the options of every workload selected; cases then count as plain workloads."""
    program: str = ""
    """The text of a program of the user's own, instead of workloads."""
    files: tuple[tuple[str, str], ...] = ()
    """Names and paths of the files that this program brings along."""
    pattern: str = "byte:0xAA"
    thp: bool = False
    runs: int | None = None
    """``None``: as many as the clock of the target calls for."""
    real_runs: int | None = None
    """As many, instead, where ``runs`` is ``None`` and the clock is the real one."""
    iterations: int | None = None
    """As ``runs``."""
    seed: int = 0
    boots: int = 1
    """How many boots a guest's runs are spread over, as evenly as rounds allow."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Cells and how often each is measured.

    ``runs`` fresh processes a cell, each with one warm-up sample and ``iterations`` more.
    """

    cells: tuple[Cell, ...]
    runs: int
    iterations: int
    seed: int
    page_size: int = 4096
    pace: Pace = field(compare=False, default=Pace.NATIVE)

    @property
    def seconds(self) -> float:
        """A rough estimate of all of it, known before anything ran; the first round corrects it."""
        return self.runs * sum(map(self.run_seconds, self.cells))

    def run_seconds(self, cell: Cell) -> float:
        """The estimate for one run of one of the cells."""
        return run_seconds(
            cell.program, cell.mechanism, self.page_size, self.iterations, pace=self.pace
        )

    def rounds(self) -> Iterator[tuple[int, tuple[Cell, ...]]]:
        """Each round measures every cell once, in an order of its own drawn from the seed.

        Whatever drifts during a session (frequency, neighbours, fragmentation) is spread over
        all cells instead of falling on the last ones.
        """
        for index in range(self.runs):
            order = list(self.cells)
            random.Random(f"{self.seed}/{index}").shuffle(order)
            yield index, tuple(order)


def cell_id(cell: Cell) -> CellId:
    """The cell as journals name it."""
    return CellId(
        key=cell.key,
        workload=cell.workload,
        mechanism=str(cell.mechanism),
        pattern=cell.pattern.text,
        case=cell.case,
        thp=cell.thp,
    )


def make_plan(
    registry: Registry,
    page_size: int,
    request: Request,
    offered: Mapping[str, Availability] | None = None,
    *,
    clock: Clock = Clock.REAL,
    pace: Pace = Pace.NATIVE,
) -> Plan:
    """The plan for ``request`` on a target with ``page_size`` and ``clock``.

    ``offered``: which mechanisms work there, by name; it decides whether those of
    :data:`AHEAD_OF_KERNELS` are compared when nobody names any. ``pace`` is how fast the target
    works, for the estimate.

    :raises UsageError: for a name, option or pattern that does not exist or fit.
    """
    runs, iterations = repetitions(request, clock)
    if runs < 1 or iterations < 1:
        raise UsageError(
            f"{runs} runs of {iterations} iterations measure nothing.",
            remedy="Ask for at least one of each.",
        )
    pattern = Pattern.parse(request.pattern)
    texts = request.mechanisms or (*BENCH_MECHANISMS, *ahead(registry, offered or {}))
    mechanisms = select_mechanisms(registry, texts)
    named: list[tuple[str, str, Program]]
    if request.program:
        program = parse(request.program, files=files_of(request))
        named = [(f"program:{program.name}", "", program)]
    else:
        named = [
            (str(spec), case, registry.workload(spec).program(spec, page_size))
            for spec, case in select_workloads(registry, request.workloads, request.parameters)
        ]
    cells = tuple(
        Cell(label, mechanism, pattern, program, case, request.thp)
        for label, case, program in named
        for mechanism in mechanisms
    )
    return Plan(cells, runs, iterations, request.seed, page_size, pace)


def files_of(request: Request) -> dict[str, Path]:
    """Where the files of the user's own program are."""
    return {name: Path(path) for name, path in request.files}


def repetitions(request: Request, clock: Clock) -> tuple[int, int]:
    """Runs a cell and samples a run: what is asked for, else what ``clock`` calls for."""
    runs, iterations = request.runs, request.iterations
    if runs is None:
        runs = COUNTED_RUNS.get(clock, request.real_runs or DEFAULT_RUNS)
    if iterations is None:
        iterations = COUNTED_ITERATIONS if clock.counts else DEFAULT_ITERATIONS
    return runs, iterations


def ahead(registry: Registry, offered: Mapping[str, Availability]) -> tuple[str, ...]:
    """Those of :data:`AHEAD_OF_KERNELS` that work where ``offered`` comes from."""
    names = {name for name, found in offered.items() if found.ok and name in registry.mechanisms}
    return tuple(text for text in AHEAD_OF_KERNELS if text.partition(":")[0] in names)


def split_specs(texts: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Specs separated by commas, although a comma also separates the options of one spec.

    A piece starts a new spec when it has a colon, is a known name or is a glob; otherwise it
    is one more option of the spec before it: ``memfd:block=16,anon`` are two.
    """
    names = set(known)
    for text in texts:
        current = ""
        for piece in text.split(","):
            starts = ":" in piece or piece.strip() in names or _is_glob(piece)
            if current and not starts and ":" in current:
                current += "," + piece
                continue
            if current:
                yield current
            current = piece.strip()
        if current:
            yield current


def select_mechanisms(registry: Registry, texts: Sequence[str]) -> tuple[Spec, ...]:
    """The mechanisms that texts such as ``anon,memfd:block=16`` or ``uffd*`` name.

    :raises UsageError: for a name or option that does not exist.
    """
    known = registry.mechanisms
    chosen: dict[Spec, None] = {}
    for text in split_specs(texts or BENCH_MECHANISMS, known):
        names = _matching(text, known) if _is_glob(text) else [text]
        for name in names:
            spec = Spec.parse(name, what="mechanism")
            chosen[registry.mechanism(spec).canonical(spec)] = None
    return tuple(chosen)


def select_workloads(
    registry: Registry, texts: Sequence[str], parameters: Sequence[tuple[str, str]] = ()
) -> list[tuple[Spec, str]]:
    """``(workload, case or "")`` pairs that texts such as ``sparse-*`` or ``dense-read`` name;
    without any, the cases that are for the bench.

    :raises UsageError: for a name or option that does not exist.
    """
    both = sorted({*registry.cases, *registry.workloads})
    chosen: dict[tuple[Spec, str], None] = {}
    bench = [case.name for case in registry.cases.values() if case.bench]
    for text in split_specs(texts or bench, both):
        if _is_glob(text):
            # A glob stands for cases; for workloads only where it matches no case.
            try:
                names = _matching(text, registry.cases)
            except UsageError:
                names = _matching(text, both)
        else:
            names = [text]
        for name in names:
            chosen[_workload(registry, name, parameters)] = None
    return list(chosen)


def _workload(
    registry: Registry, name: str, parameters: Sequence[tuple[str, str]]
) -> tuple[Spec, str]:
    case: Case | None = registry.cases.get(name)
    spec = case.workload if case else Spec.parse(name, what="workload")
    if spec.name not in registry.workloads:
        known = sorted({*registry.cases, *registry.workloads})
        raise UsageError(
            f"There is no workload or case {spec.name!r}.", remedy=suggest(spec.name, known)
        )
    spec = registry.workload(spec).canonical(spec.with_options(dict(parameters)))
    return spec, case.name if case and not parameters else ""


def _is_glob(text: str) -> bool:
    return any(character in text for character in "*?[") and ":" not in text


def _matching(pattern: str, known: Iterable[str]) -> list[str]:
    names = fnmatch.filter(sorted(known), pattern.strip())
    if not names:
        raise UsageError(f"Nothing matches {pattern!r}.", remedy=suggest(pattern, known))
    return names
