"""A session on any machine that a channel reaches and that runs the agent.

Written once for this machine, a QEMU guest, a device behind adb and whatever a plugin adds. A
backend of one's own is a channel and a probe; what it knows about its machine beyond what
the agent says, it adds by overriding the methods of :class:`AgentSession` that are named so.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from refbench.agent import Binary, build_agent
from refbench.backend import Answer, Channel
from refbench.cache import file_digest
from refbench.closing import Closing
from refbench.errors import BackendError, CellError, NoAnswer, Transient, Unsupported
from refbench.execution import (
    AGENT_MECHANISM,
    Execution,
    executes,
    plan_execution,
    refuse_other_memory,
)
from refbench.housekeeping import SessionState
from refbench.plugins import registry
from refbench.program import Program
from refbench.program.executing import hands_out
from refbench.protocol import AgentInfo, MechanismInfo, Report, failure_of, parse
from refbench.samples import Run
from refbench.words import AVAILABLE, Availability, Capabilities, Cell, Clock

RETRIES = 2
"""How often a run that met a :class:`~refbench.errors.Transient` failure is tried again."""
PROBE_SECONDS = 120.0
_NO_SOURCE = Availability(
    False,
    "It has no C source: only a model knows it.",
    "Use -b simulator.",
)
_NO_CGROUP = Availability(
    False,
    "This target has no memory cgroup for its agents.",
    "Rank by the process's own memory (RSS, PSS) here.",
)


class AgentSession(Closing):
    """Measures cells with the agent behind ``channel``.

    ``agent`` is the binary for the machine there; without it, it is built for ``arch`` (this
    machine's by default). ``state`` keeps the session's files; without it, one is made.

    :raises BackendError: when the agent cannot be built or brought over.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        agent: Binary | None = None,
        arch: str | None = None,
        clock: Clock = Clock.REAL,
        arguments: tuple[str, ...] = (),
        state: SessionState | None = None,
    ) -> None:
        self._channel = channel
        self._clock = clock
        self._arguments = arguments
        self._agent = agent or build_agent(arch)
        self._state = state or SessionState.create()
        self._sent: dict[bytes, str] = {}
        self._programs: dict[int, tuple[Program, str]] = {}
        self._executions: dict[str, Execution] = {}
        self._capabilities: Capabilities | None = None
        self._closed = False
        self._boot = 1

    # What a backend may know better.

    def environment(self, info: AgentInfo) -> Mapping[str, str]:
        """Facts of the machine that the numbers depend on. To override."""
        return {}

    def memory(self, info: AgentInfo) -> int:
        """Bytes of memory that a cell may hope for. To override."""
        return int(info.facts.get("memory", "0"))

    def metrics(self, info: AgentInfo) -> Mapping[str, Availability]:
        """Which groups of metrics there are. To override."""
        return {"cgroup": _NO_CGROUP}

    def explain(self, mechanism: MechanismInfo) -> Availability:
        """What the agent's probe said of a mechanism, in the user's terms. To override."""
        return Availability(mechanism.ok, mechanism.reason, mechanism.remedy)

    def prepare(self, cell: Cell) -> None:
        """Called before a cell is run. To override.

        :raises CellError: when it must not run here.
        """

    def judge(self, answer: Answer) -> None:
        """Look at an answer before it is read. To override.

        :raises CellError: when the backend knows better than the agent why it failed.
        """

    # The session.

    @property
    def clock(self) -> Clock:
        """What the nanoseconds of this session are."""
        return self._clock

    @property
    def channel(self) -> Channel:
        """The way to the target; :mod:`refbench.testing` examines it."""
        return self._channel

    @property
    def arch(self) -> str:
        """What the agent was built for: ``x86_64`` or ``arm64``."""
        return self._agent.arch

    def capabilities(self) -> Capabilities:
        """What works there, from the agent's own probe; asked for once.

        :raises BackendError: when the agent does not run there.
        """
        if self._capabilities is None:
            self._capabilities = self._probe()
        return self._capabilities

    def run(self, cell: Cell, iterations: int, deadline: float) -> Run:
        """Measure ``cell`` in one fresh process; see :class:`refbench.backend.Session`.

        :raises BackendError: when the target does not answer any more, or the session is closed.
        """
        self._check_open("run")
        started = datetime.now(UTC).isoformat(timespec="milliseconds")
        end = time.monotonic() + deadline
        retried: list[str] = []
        while True:
            run = self._attempt(cell, iterations, end, retried)
            if run is not None:
                facts = dict(run.facts)
                if retried:
                    facts |= {"retries": str(len(retried)), "retried-for": retried[-1]}
                return replace(run, started=started, facts=facts)

    def close(self) -> None:
        """Hang up and give everything back; may be called twice."""
        self._closed = True
        try:
            self._channel.close()
        finally:
            self._state.close()

    def _attempt(self, cell: Cell, iterations: int, end: float, retried: list[str]) -> Run | None:
        """One try. ``None``: it failed in a way that may pass, which ``retried`` now names."""
        answer = Answer(())
        began = time.monotonic_ns()
        try:
            self.prepare(cell)
            argv = self._argv(cell, iterations)
            answer = self._channel.run(argv, max(end - time.monotonic(), 0.0))
            self.judge(answer)
            report = parse(answer, samples=iterations + 1)
            refuse_other_memory(cell.program, report.samples)
            wall = time.monotonic_ns() - began
        except ConnectionError as error:
            lost = NoAnswer(f"The connection to the target was lost: {error}.")
            if not self._may_retry(lost, end, retried):
                raise BackendError(lost.message, remedy="Check the target and run again.") from None
            return None
        except CellError as error:
            if self._may_retry(error, end, retried):
                return None
            wall = time.monotonic_ns() - began
            failure = failure_of(error, answer.stderr)
            return Run(failure=failure, wall_ns=wall, boot=self._boot, facts=answer.facts)
        return self._result(report, answer, wall)

    def _may_retry(self, error: CellError, end: float, retried: list[str]) -> bool:
        again = isinstance(error, Transient) and len(retried) < RETRIES and time.monotonic() < end
        if again:
            retried.append(error.message)
        return again

    def _result(self, report: Report, answer: Answer, wall: int) -> Run:
        return Run(
            samples=() if report.failure else report.samples,
            failure=report.failure,
            wall_ns=wall,
            agent_ns=report.spent_ns,
            boot=self._boot,
            facts={"cpu": str(report.agent.cpu), **report.agent.facts, **answer.facts},
        )

    def _argv(self, cell: Cell, iterations: int) -> list[str]:
        execution = self._execution(cell) if executes(cell.program) else None
        known = registry().mechanisms.get(cell.mechanism.name)
        replayed = known and known.sources and hands_out(cell.program.steps)
        if execution is None and known and known.only_executed and not replayed:
            raise Unsupported(
                f"{cell.mechanism.name} is an allocator: it serves programs that are executed.",
                remedy="Take a workload that executes one, such as pdfium.",
            )
        mechanism = str(cell.mechanism) if execution is None else AGENT_MECHANISM
        argv = [self._put(self._agent.path)]
        argv += ["--program", self._put_program(cell), "--mechanism", mechanism]
        argv += ["--pattern", cell.pattern.text, "--iterations", str(iterations)]
        if cell.pattern.file is not None:
            argv += ["--pattern-file", self._put(cell.pattern.file)]
        if execution is not None:
            argv += execution.arguments(self._put)
        return [*argv, "--thp", "on" if cell.thp else "off", *self._arguments]

    def _execution(self, cell: Cell) -> Execution:
        if cell.key not in self._executions:
            self._executions[cell.key] = plan_execution(cell, self.arch)
        return self._executions[cell.key]

    def _put_program(self, cell: Cell) -> str:
        key = id(cell.program)
        if key not in self._programs:
            text = cell.program.text()
            name = hashlib.sha256(text.encode()).hexdigest()[:16]
            path = self._state.files / f"{name}.program"
            path.write_text(text, encoding="utf-8")
            # The program is kept with its place, so that its id stays its own.
            self._programs[key] = (cell.program, self._put(path))
        return self._programs[key][1]

    def _put(self, file: Path) -> str:
        """The same content is sent once."""
        content = self._agent.digest.encode() if file == self._agent.path else file_digest(file)
        if content not in self._sent:
            self._sent[content] = self._channel.put(file)
        return self._sent[content]

    def _probe(self) -> Capabilities:
        self._check_open("capabilities")
        try:
            argv = [self._put(self._agent.path), "--probe"]
            report = parse(self._channel.run(argv, PROBE_SECONDS))
        except (CellError, ConnectionError) as error:
            raise BackendError(
                f"The agent does not run on the target: {error}",
                remedy="Check that the target is up and runs static programs of this architecture.",
            ) from None
        info = report.agent
        return Capabilities(
            kernel=info.kernel,
            arch=info.arch,
            page_size=info.page_size,
            memory=self.memory(info),
            mechanisms={
                **dict(self._without_source()),
                **{item.name: self.explain(item) for item in report.mechanisms},
            },
            metrics=self.metrics(info),
            environment={
                **info.facts,
                "agent": self._agent.digest[:16],
                "compiler": self._agent.compiler,
                **self.environment(info),
            },
        )

    @staticmethod
    def _without_source() -> Iterator[tuple[str, Availability]]:
        for name, mechanism in registry().mechanisms.items():
            if not mechanism.sources:
                yield name, AVAILABLE if mechanism.only_executed else _NO_SOURCE

    def _check_open(self, call: str) -> None:
        if self._closed:
            raise BackendError(
                f"The session is closed and cannot do {call}().", remedy="Open the target again."
            )
