"""A session on the model: every run is worked out from nothing, and comes out the same."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from refbench.closing import Closing
from refbench.errors import BackendError, CellError, NoAnswer, Unsupported
from refbench.grammar import Values, resolve
from refbench.plugins import registry
from refbench.program import Expect, KernelReads, Program, executed
from refbench.protocol import failure_of
from refbench.samples import Run, Sample
from refbench.words import AVAILABLE, Availability, Capabilities, Cell, Clock, Pattern
from refbench_simulator import checking, models, settings
from refbench_simulator.content import Contents
from refbench_simulator.costs import Costs
from refbench_simulator.cutting import FOLD_FROM, LEVELS, Grain, Traits
from refbench_simulator.detail import Detail, Finer
from refbench_simulator.following import Follower
from refbench_simulator.interpreter import Interpreter
from refbench_simulator.knobs import Kernel
from refbench_simulator.mechanism import Model
from refbench_simulator.model import reclaim
from refbench_simulator.model.events import Event, Ledger
from refbench_simulator.model.machine import Machine
from refbench_simulator.model.tables import Layout
from refbench_simulator.numbering import numbered
from refbench_simulator.process import Process
from refbench_simulator.regions import everything
from refbench_simulator.rows import Rows


@dataclass(frozen=True, slots=True)
class Setup:
    """What all samples of a cell share."""

    rows: Rows
    layout: Layout
    model: type[Model]
    options: Values
    detail: Detail


class SimulatorSession(Closing):
    """Works cells out. ``fold_from``: the regular touches from which regions are folded."""

    clock = Clock.MODELLED

    def __init__(self, kernel: Kernel, costs: Costs, *, fold_from: int = FOLD_FROM) -> None:
        self.kernel = kernel
        self.costs = costs
        self._fold_from = fold_from
        self._closed = False

    def capabilities(self) -> Capabilities:
        """What the modelled kernel offers; see :class:`refbench.backend.Session`."""
        self._check_open("capabilities")
        kernel = self.kernel
        found = registry().mechanisms
        return Capabilities(
            kernel=kernel.version,
            arch=kernel.arch,
            page_size=kernel.page_size,
            memory=kernel.memory + kernel.swap,
            mechanisms={name: models.availability(item, kernel) for name, item in found.items()},
            metrics={
                "cgroup": AVAILABLE,
                "slab": AVAILABLE,
                "kernel-log": AVAILABLE,
                "swap": AVAILABLE
                if kernel.swap
                else Availability(False, "The modelled machine has no swap.", "Give swap=SIZE."),
                "ksm": AVAILABLE
                if kernel.ksm
                else Availability(False, "The modelled kernel has no KSM.", "Give ksm=yes."),
            },
            environment={**settings.facts(kernel), **self.costs.facts(kernel)},
        )

    def run(self, cell: Cell, iterations: int, deadline: float) -> Run:
        """Work ``cell`` out; see :class:`refbench.backend.Session`."""
        return self.explained(cell, iterations, deadline, None)

    def explained(
        self, cell: Cell, iterations: int, deadline: float, follower: Follower | None
    ) -> Run:
        """The same, while ``follower`` hears what the kernel does in the first sample and, where
        it differs, in the second, which all others are like. A sample that has to be started
        again begins anew for it, too."""
        self._check_open("run")
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        began = time.monotonic_ns()
        samples: list[Sample] = []
        failure = None
        try:
            # Who follows wants to see where pages really are.
            setup = self._setup(cell, Detail(ordered=follower is not None))
            # All samples behind the warm-up are alike: checks marked `once` are the difference.
            alike = not _checks_once(cell.program)
            for index in range(1 if alike else min(iterations, 1) + 1):
                setup, sample = self._sample(cell, setup, index, follower)
                samples.append(sample)
                _check_deadline(began, deadline)
            last = samples[-1]
            samples += [_numbered(last, index) for index in range(len(samples), iterations + 1)]
        except CellError as error:
            failure, samples = failure_of(error), []
        except MemoryError:
            failure = failure_of(Unsupported("The model ran out of memory."))
        except Exception as error:
            failure, samples = failure_of(models.fault(cell.mechanism, error)), []
        return Run(
            samples=tuple(samples),
            failure=failure,
            wall_ns=time.monotonic_ns() - began,
            agent_ns=time.monotonic_ns() - began,
            started=started,
            boot=1,
            facts={"uffd": "full" if self.kernel.serves_kernel_faults else "user-mode-only"},
        )

    def counted(self, cell: Cell) -> dict[str, Counter[Event]]:
        """What happens in a sample of ``cell`` behind the warm-up, by phase: what times are
        made of.

        :raises CellError: when the cell fails.
        """
        self._check_open("counted")
        interpreter = self._interpreted(cell, self._setup(cell), 1, None)[1]
        return {name: total.events for name, total in interpreter.phases.totals.items()}

    def close(self) -> None:
        """There is nothing to give back."""
        self._closed = True

    def _setup(self, cell: Cell, detail: Detail = Detail()) -> Setup:  # noqa: B008 - it is frozen
        if next(executed(cell.program.steps), None) is not None:
            raise Unsupported(
                "The model works out what memory costs and cannot execute a program.",
                remedy="Take a target that runs programs (-b host, -b qemu), or replay a trace.",
            )
        mechanism = registry().mechanism(cell.mechanism)
        options = resolve(cell.mechanism, mechanism.options, what="mechanism")
        model = models.model_of(mechanism)
        kernel = self.kernel
        huge = kernel.huge if cell.thp else 0
        most = reclaim.grain(kernel)
        grain = Grain(kernel.page_size, kernel.around, kernel.entries, huge, most)
        traits = _met(model.traits(options, kernel), cell.program)
        rows = Rows(cell.program, grain, traits, self._fold_from, detail)
        return Setup(rows, Layout(rows, kernel.entries, LEVELS), model, options, detail)

    def _sample(
        self, cell: Cell, setup: Setup, index: int, follower: Follower | None
    ) -> tuple[Setup, Sample]:
        setup, interpreter, observer = self._interpreted(cell, setup, index, follower)
        return setup, Sample(
            index=index,
            phases=interpreter.phases.counters(self.costs, self.kernel.page_size),
            memory=interpreter.memory,
            observations=tuple(observer.observations),
        )

    def _interpreted(
        self, cell: Cell, setup: Setup, index: int, follower: Follower | None
    ) -> tuple[Setup, Interpreter, checking.Observer]:
        """A machine of its own that the program has run through, told apart as finely as needed."""
        while True:
            try:
                return setup, *self._run_through(cell, setup, index, follower)
            except Finer as wish:
                setup = self._setup(cell, setup.detail.finer(wish))

    def _run_through(
        self, cell: Cell, setup: Setup, index: int, follower: Follower | None
    ) -> tuple[Interpreter, checking.Observer]:
        contents = Contents(self.kernel.page_size, image(cell.pattern, self.kernel.page_size))
        machine = Machine(
            self.kernel, setup.rows, contents, setup.layout, ledger=Ledger(listener=follower)
        )
        model = setup.model(machine, setup.options)
        process = Process(machine.first_space(), model)
        observer = checking.Observer(machine, cell.program)
        interpreter = Interpreter(machine, process, observer, index=index, follower=follower)
        interpreter.run(numbered(cell.program))
        return interpreter, observer

    def _check_open(self, call: str) -> None:
        if self._closed:
            raise BackendError(
                f"The session is closed and cannot do {call}().", remedy="Open the target again."
            )


def _checks_once(program: Program) -> bool:
    return any(isinstance(step, Expect) and step.once for step in everything(program.steps))


def _check_deadline(began: int, deadline: float) -> None:
    if time.monotonic_ns() - began > deadline * 1e9:
        raise NoAnswer(
            f"The model did not finish within {deadline:g} seconds.",
            remedy="Use fewer steps, or a later deadline.",
        )


def _numbered(sample: Sample, index: int) -> Sample:
    return Sample(
        index=index,
        phases=sample.phases,
        memory=sample.memory,
        observations=sample.observations,
    )


def image(pattern: Pattern, page_size: int) -> bytes:
    """One page of a pattern.

    :raises Unsupported: for memory tags, which the model does not have.
    """
    if pattern.tag is not None:
        raise Unsupported(
            f"The model has no memory tags, which {pattern.text} asks for.",
            remedy="Use a pattern of bytes.",
        )
    unit = pattern.file.read_bytes() if pattern.file else bytes([pattern.byte or 0])
    return (unit * (-(-page_size // len(unit))))[:page_size]


def _met(traits: Traits, program: Program) -> Traits:
    """The traits that a program makes something of."""
    loads = any(isinstance(step, KernelReads) for step in everything(program.steps))
    return replace(traits, apart=True) if traits.pageless and loads else traits
