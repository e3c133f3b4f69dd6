"""What happened to a program in the model, as a story: steps, what the kernel did in each, what
that cost, and what memory looked like afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from refbench.program import Phase, Program
from refbench.samples import Observation
from refbench_simulator.costs import Costs
from refbench_simulator.following import Part
from refbench_simulator.interpreter import Interpreter
from refbench_simulator.model.events import Event, Where
from refbench_simulator.numbering import Node
from refbench_simulator.phases import FIELDS
from refbench_simulator.picture import Picture, picture
from refbench_simulator.process import Process
from refbench_simulator.rules import Rule
from refbench_simulator.spans import Span, spans_of

MOST_TOLD = 6
"""Different repetitions of one block that are told; of further ones only the totals are kept."""
SET_UP = 0
"""The line of what a mechanism does before and behind the program."""


@dataclass(frozen=True, slots=True)
class Action:
    """What one rule did in one step. ``phase`` is empty where no clock runs; ``counters`` are
    those of :data:`refbench_simulator.phases.FIELDS`, as far as they changed."""

    rule: Rule
    what: str
    phase: str
    entries: int
    """How often the rule was applied; each time to one page or to many at once."""
    spans: tuple[Span, ...]
    events: Mapping[Event, int]
    counters: Mapping[str, int]
    ns: int
    """Modelled; never to be shown without the error of its :class:`Costs`."""
    assumed: bool = False
    """Whether the cost of one of the events was never fitted to anything."""


@dataclass(frozen=True, slots=True)
class Told:
    """One step. ``depth`` is 0 in the first process, 1 in its children. ``actions`` came before
    ``blocks``, ``after`` behind them. ``picture`` is there where memory looks different."""

    line: int
    text: str
    phase: str
    depth: int
    actions: tuple[Action, ...]
    blocks: tuple[Block, ...] = ()
    after: tuple[Action, ...] = ()
    picture: Picture | None = None
    observations: tuple[Observation, ...] = ()
    failed: bool = False
    """Whether the run ended in it."""
    untold: int = 0
    """Repetitions of its block that differed from all that are told."""


@dataclass(frozen=True, slots=True)
class Block:
    """Steps inside a step, ``times`` times all alike."""

    part: Part
    steps: tuple[Told, ...]
    times: int = 1


@dataclass(slots=True)
class Total:
    """What a phase adds up to."""

    events: Counter[Event] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Heap:
    """An action while it is being heard."""

    rule: Rule
    what: str
    phase: str
    rows: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
    entries: int = 0
    events: Counter[Event] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Frame:
    """A step while it is being taken."""

    heaps: dict[tuple[str, str, str], _Heap] = field(default_factory=dict)
    before: tuple[Action, ...] = ()
    blocks: list[Block] = field(default_factory=list)
    untold: int = 0


class Teller:
    """Follows one cell and keeps its story: that of the sample which began last.

    ``steps`` and ``totals`` (by phase; the empty name is for what no clock saw) are complete
    when the session has answered, also when the run failed.
    """

    def __init__(self, program: Program, costs: Costs) -> None:
        self.costs = costs
        self._lines = [line.strip() for line in program.text().splitlines()]
        self._clear()

    def _clear(self) -> None:
        self.steps: list[Told] = []
        self.totals: dict[str, Total] = {}
        self._frames: list[_Frame] = []
        self._blocks: list[list[Told]] = [self.steps]
        self._depth = 0
        self._muted = 0
        self._seen: dict[int, tuple[object, Picture]] = {}

    def begins(self, interpreter: Interpreter) -> None:
        """See :class:`refbench_simulator.following.Follower`."""
        self._clear()
        self._interpreter = interpreter
        self._machine = interpreter.machine
        self._counted = self._counters()

    def hear(self, rule: Rule, rows: Where, what: str, events: dict[Event, int]) -> None:
        """See :class:`refbench_simulator.model.events.Hears`."""
        now = self._counters()
        change = Counter({name: n for name, n in (now - self._counted).items() if n})
        self._counted = now
        if not events and not change and not (rule.untimed and _some(rows)):
            return
        phase = self._interpreter.phases.current
        total = self.totals.setdefault(phase, Total())
        total.events.update(events)
        total.counters.update(change)
        if self._muted or not self._frames:
            return
        heaps = self._frames[-1].heaps
        key = (phase, rule.id, what)
        heap = heaps.get(key) or heaps.setdefault(key, _Heap(rule, what, phase))
        heap.entries += 1
        heap.events.update(events)
        heap.counters.update(change)
        if rows is not None:
            if heap.rows is None:
                heap.rows = np.zeros(len(self._machine.rows), np.bool_)
            heap.rows[rows] = True

    def _counters(self) -> Counter[str]:
        counters = self._machine.counters
        return Counter({name: getattr(counters, name) for name in FIELDS})

    @contextmanager
    def step(self, node: Node | None, process: Process) -> Iterator[None]:
        """See :class:`refbench_simulator.following.Follower`."""
        frame = _Frame()
        self._frames.append(frame)
        observed = len(self._interpreter.observer.observations)
        phase, failed = self._interpreter.phases.current, False
        if node is not None and isinstance(node.step, Phase):
            phase = ""  # It is about to be left, and what it was makes no difference.
        try:
            yield
        except BaseException:
            failed = True
            raise
        finally:
            self._frames.pop()
            if not self._muted:
                actions = self._actions(frame)
                self._blocks[-1].append(
                    Told(
                        line=node.line if node else SET_UP,
                        text=self._lines[node.line - 1] if node else "",
                        phase=phase,
                        depth=self._depth,
                        actions=frame.before if frame.blocks else actions,
                        blocks=tuple(frame.blocks),
                        after=actions if frame.blocks else (),
                        picture=self._picture(process),
                        observations=() if frame.blocks else self._observed(observed),
                        failed=failed,
                        untold=frame.untold,
                    )
                )

    def _observed(self, since: int) -> tuple[Observation, ...]:
        return tuple(self._interpreter.observer.observations[since:])

    @contextmanager
    def block(self, part: Part) -> Iterator[None]:
        """See :class:`refbench_simulator.following.Follower`."""
        if not self._frames:
            yield
            return
        frame = self._frames[-1]
        if not frame.blocks and not frame.untold:
            frame.before = self._actions(frame)
        mute = frame.untold > 0
        self._muted += mute
        self._depth += part == "child"
        steps: list[Told] = []
        self._blocks.append(steps)
        try:
            yield
        finally:
            self._blocks.pop()
            self._depth -= part == "child"
            self._muted -= mute
            if not self._muted:
                _enter(frame, Block(part, tuple(steps)))

    def _actions(self, frame: _Frame) -> tuple[Action, ...]:
        """What was heard in the frame since the last call."""
        heaps, frame.heaps = frame.heaps, {}
        return tuple(self._action(heap) for heap in heaps.values())

    def _action(self, heap: _Heap) -> Action:
        rows = self._machine.rows
        return Action(
            rule=heap.rule,
            what=heap.what,
            phase=heap.phase,
            entries=heap.entries,
            spans=() if heap.rows is None else spans_of(rows, np.flatnonzero(heap.rows)),
            events=dict(heap.events),
            counters=dict(heap.counters),
            ns=self.costs.time(heap.events, rows.page_size).ns,
            assumed=not self.costs.assumed.isdisjoint(heap.events),
        )

    def _picture(self, process: Process) -> Picture | None:
        """What the process's memory looks like, where it looks different from the last time."""
        found = picture(self._machine, process)
        before = self._seen.get(self._depth)
        if before is not None and before[0] is process and before[1] == found:
            return None
        self._seen[self._depth] = (process, found)
        return None if before is None and not found.regions else found


def _some(rows: Where) -> bool:
    if rows is None:
        return False
    return rows.stop > rows.start if isinstance(rows, slice) else bool(rows.size)


def _enter(frame: _Frame, block: Block) -> None:
    """Add a block; one that is like the last is counted with it."""
    last = frame.blocks[-1] if frame.blocks else None
    if last is not None and last.part == block.part and last.steps == block.steps:
        frame.blocks[-1] = Block(block.part, block.steps, last.times + 1)
    elif len(frame.blocks) < MOST_TOLD:
        frame.blocks.append(block)
    else:
        frame.untold += 1
