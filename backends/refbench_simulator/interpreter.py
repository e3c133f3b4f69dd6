"""The interpreter: a program's steps as calls of the modelled kernel, one sample at a time.

It does what ``native/agent/run.c``, ``fork.c`` and ``threads.c`` do, in the same order.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast, get_args

from refbench import program as p
from refbench.errors import CellError, LimitHit, UsageError
from refbench.program.steps import Origin, Tampering
from refbench.samples import MemorySnapshot
from refbench_simulator import (
    checking,
    handing,
    rules,
    snapshots,
    storing,
    touching,
    watching,
)
from refbench_simulator.detail import Finer
from refbench_simulator.following import Follower, Part
from refbench_simulator.mechanism import indices
from refbench_simulator.model import advice, forking, mapping, moving, reclaim
from refbench_simulator.model.machine import Machine, Refusal
from refbench_simulator.model.space import Prot
from refbench_simulator.numbering import Node
from refbench_simulator.phases import Phases
from refbench_simulator.process import Process
from refbench_simulator.repeating import Rounds

_PROTECTIONS = {"none": Prot.NONE, "read": Prot.READ, "readwrite": Prot.READ | Prot.WRITE}
_CALLS = {p.Advise: "madvise(2)", p.Protect: "mprotect(2)", p.Lock: "mlock(2), munlock(2)"}
_Thread = tuple[tuple[int, int], tuple[Node, ...]]
"""A thread's number in its group and the size of that, and its steps."""
_NO_REFERENCE = ("has no reference page", "refers to no page")
_OWN_FAULTS_A_FORK = 1
"""The parent's stack page is shared with the child after fork(2), and copied at the parent's next
store to it: tests/backends/host/test_counts.py."""


class Interpreter:
    """Runs one sample of a program in a machine of its own."""

    def __init__(
        self,
        machine: Machine,
        first: Process,
        observer: checking.Observer,
        *,
        index: int,
        follower: Follower | None = None,
    ) -> None:
        self.machine = machine
        self.follower = follower
        self.observer = observer
        self.index = index
        self.phases = Phases(machine)
        self.memory: dict[str, MemorySnapshot] = {}
        self.process = first
        self._thread: tuple[int, int] = (0, 0)
        self._shared: set[int] = set()
        """Touches that the first of the threads at work made for all."""

    def run(self, nodes: Sequence[Node]) -> None:
        """The whole program, with setting up before it and taking down behind it.

        :raises CellError: when the run ends there.
        """
        process = self.process
        if self.follower is not None:
            self.follower.begins(self)
        self._measure("start")
        self.phases.enter("setup")
        with self._following(None):
            process.model.setup(process.space)
        self.phases.enter("")
        self.block(nodes, "program")
        self.phases.enter("")
        with self._following(None):
            process.model.teardown(process.space)

    def _following(self, node: Node | None) -> AbstractContextManager[None]:
        return self.follower.step(node, self.process) if self.follower else nullcontext()

    def block(self, nodes: Sequence[Node], part: Part) -> None:
        """Steps in their order."""
        with self.follower.block(part) if self.follower else nullcontext():
            for node in nodes:
                with self._following(node):
                    self._step(node)

    def _step(self, node: Node) -> None:
        match node.step:
            case p.Phase(name):
                self.phases.enter(name)
            case p.Map():
                self._map(node, node.step)
            case p.MapAnonymous():
                self._map_anonymous(node, node.step)
            case p.Unmap():
                self._unmap(node, node.step)
            case p.Touch():
                self._touch(node, node.step)
            case p.Handout():
                self._hand_out(node, node.step)
            case p.Remap():
                self._remap(node, node.step)
            case p.Advise() | p.Protect() | p.Lock():
                self._call(node, node.step)
            case p.Repeat(count):
                self._repeat(node, count)
            case p.Fork():
                self._fork(node, node.step)
            case p.Parallel():
                self._parallel(node, node.step)
            case p.Reference():
                self._reference(node, node.step)
            case _:
                phase = self.phases.stop()
                self._unseen(node)
                self.phases.go(phase)
        if reclaim.limited(self.machine):
            reclaim.room(self.machine)

    def _unseen(self, node: Node) -> None:
        """Steps that the clock does not see."""
        match node.step:
            case p.Measure(label):
                self._measure(label)
            case p.Expect():
                if not (node.step.once and self.index):
                    self.observer.expect(self.process, node)
            case p.KernelReads():
                self.observer.kernel_reads(self.process, node)
            case p.KernelWrites():
                self.observer.kernel_writes(self.process, node)
            case p.Userfault():
                self._userfault(node, node.step)
            case p.Descriptors():
                watching.execute(self.process)
                self.observer.fine(node)
            case p.Settle():
                self.process.model.settle(self.process.space)
            case p.KernelLog():
                self.observer.fine(node)
            case _:
                raise UsageError(f"The model knows no step {type(node.step).__name__}.")

    def _userfault(self, node: Node, step: p.Userfault) -> None:
        rows = self.machine.rows.between(step.region, step.offset, step.length)
        start = self.machine.rows.regions[step.region].base + step.offset
        space = self.process.space
        refused = watching.supply(space, indices(rows), start, step.length, step.value)
        if refused is None:
            self.observer.fine(node)
        else:
            self.observer.refused(node, refused.errno, refused.call)

    def _measure(self, label: str) -> None:
        self.memory[label] = snapshots.take(self.machine, self.process)

    def _repeat(self, node: Node, count: int) -> None:
        def once() -> None:
            self.block(node.bodies[0], "again")

        if self.follower is not None:
            for _ in range(count):
                once()
            return
        told = len(self.observer.observations)
        rounds = Rounds(self.machine, self.process, self.phases)
        rounds.run(count, once, lambda: len(self.observer.observations) == told)

    # -- mapping ---------------------------------------------------------------------------

    def _map(self, node: Node, step: p.Map) -> None:
        region = self.process.region(step.region)
        if region.size:
            raise _fail(node, "the region is mapped already")
        rows = self.machine.rows.between(step.region, 0, step.size)
        model = self.process.model
        if step.plain:
            model.map_anonymous(self.process.space, rows, populate=False)
        else:
            model.map(self.process.space, rows, populate=step.populate)
        region.size, region.by_mechanism = step.size, not step.plain

    def _map_anonymous(self, node: Node, step: p.MapAnonymous) -> None:
        region, after = self.process.region(step.region), self.process.region(step.after)
        if region.size or not after.size:
            what = "is mapped already" if region.size else "before it is not mapped"
            raise _fail(node, f"the region {what}")
        if after.size != self.machine.rows.regions[step.after].most:
            raise _fail(node, "the model wants the region before it at its largest size")
        self.machine.system_call(what="mmap(2)")
        rows = self.machine.rows.between(step.region, 0, step.size)
        if self._observed(node, lambda: mapping.map_range(self.process.space, rows)):
            region.size, region.by_mechanism = step.size, False

    def _unmap(self, node: Node, step: p.Unmap) -> None:
        process, region = self.process, self.process.region(step.region)
        length = step.length or max(region.size - step.offset, 0)
        if not length:
            raise _fail(node, "the region is not mapped there")
        rows = self.machine.rows.between(step.region, step.offset, length)
        if region.by_mechanism:
            process.model.forget(process.space, rows)
        self.machine.system_call(what="munmap(2)")
        try:
            mapping.unmap_range(process.space, rows)
        except Refusal as refusal:
            raise LimitHit(
                f"Line {node.line}, unmap: the kernel refused: {checking.text(refusal.errno)}.",
                wanted=0,
                limit=0,
            ) from None
        if not step.offset and length >= region.size:
            region.size = 0

    def _remap(self, node: Node, step: p.Remap) -> None:
        process, rows = self.process, self.machine.rows
        source, target = process.region(step.region), process.region(step.target)
        if target.size:
            raise _fail(node, "the target is mapped already")
        new = step.new_length or step.length
        size = rows.page_size
        self.machine.system_call(what="mremap(2)")

        def move() -> None:
            moving.remap(
                process.space,
                rows.between(step.region, step.offset, step.length),
                rows.between(step.target, 0, new),
                step.length // size,
                new // size,
            )

        if self._observed(node, move):
            target.size, target.by_mechanism = new, source.by_mechanism
            if not step.offset and step.length >= source.size:
                source.size = 0

    def _call(self, node: Node, step: p.Advise | p.Protect | p.Lock) -> None:
        """A system call that the program only asks about."""
        space = self.process.space
        rows = self.machine.rows.between(step.region, step.offset, step.length)
        self.machine.system_call(what=_CALLS[type(step)])

        def call() -> None:
            match step:
                case p.Advise():
                    advice.advise(space, rows, step.advice)
                case p.Protect():
                    mapping.protect_range(space, rows, _PROTECTIONS[step.protection])
                case p.Lock():
                    advice.lock(space, rows, on=step.on)

        self._observed(node, call)

    def _reference(self, node: Node, step: p.Reference) -> None:
        model, action = self.process.model, step.action
        if action in get_args(Tampering):
            self._observed(node, lambda: model.tamper(cast(Tampering, action)))
        else:
            self._observed(node, lambda: model.refer(cast(Origin, action)))

    def _observed(self, node: Node, call: Callable[[], None]) -> bool:
        """Whether the kernel did it; if not, that is an observation."""
        try:
            call()
        except Refusal as refusal:
            detail = ""
            if isinstance(node.step, p.Reference) and refusal.errno == errno.EOPNOTSUPP:
                referring = node.step.action.startswith("from-")
                detail = "the mechanism " + _NO_REFERENCE[referring]
            self.observer.refused(node, refusal.errno, detail)
            return False
        self.observer.fine(node)
        return True

    # -- touching --------------------------------------------------------------------------

    def _touch(self, node: Node, step: p.Touch) -> None:
        space, rows = self.process.space, self.machine.rows
        visit = rows.visit(step)
        thread, threads = self._thread
        if step.shared and threads > 1:
            if not thread and touching.is_plain(space, visit.rows, step.access):
                self._shared.add(id(node))
            if id(node) not in self._shared:
                visit = rows.reached(step.region, touching.share(visit.reach, thread, threads))
            elif thread:
                # The first thread stands for all of them: each place is touched once.
                return
        self.machine.ledger.add(rules.TOUCH, visit.rows, touch=visit.places)
        self.machine.disordered = visit.reach.sorted and not rows.ordered
        walk = touching.walk(space, visit.rows, visit.reach, step)
        if walk.trap is not None and self.machine.disordered:
            raise Finer
        if walk.trap is None and visit.reach.short:
            raise Finer
        self.machine.disordered = False
        if step.access != "read":
            stamps = storing.stored(rows, step, visit.reach, walk.trap, loading=walk.loading)
            storing.put(space, walk.rows, *stamps)
        if walk.trap is not None:
            self.observer.trapped(self.process, node, walk.trap)

    def _hand_out(self, node: Node, step: p.Handout) -> None:
        trap = handing.hand_out(self.process.space, self.process.model, step)
        if trap is not None:
            self.observer.trapped(self.process, node, trap)

    # -- processes and threads -------------------------------------------------------------

    def _fork(self, node: Node, step: p.Fork) -> None:
        parent = self.process
        parent.model.before_fork(parent.space)
        self.machine.system_call(what="fork(2)")
        child = parent.fork()
        self.machine.counters.minor += _OWN_FAULTS_A_FORK
        self.machine.ledger.add(rules.OWN_STACK)
        phase = self.phases.stop()
        first, second = (child, node.bodies[0]), (parent, node.bodies[1])
        self.process = child
        self.phases.enter("atfork")
        if not child.model.after_fork_child(child.space):
            self.phases.drop("atfork")
        self.phases.enter("")
        for process, body in (second, first) if step.parent_first else (first, second):
            self.process = process
            if process is parent:
                self.phases.go(phase)
            self.block(body, "parent" if process is parent else "child")
            stopped = self.phases.stop()
            if process is parent:
                phase = stopped
        self.process = parent
        self.phases.go(phase)
        forking.end(child.space)
        child.model.exited()

    def _parallel(self, node: Node, step: p.Parallel) -> None:
        threads = [
            ((number, group.count), body)
            for group, body in zip(step.groups, node.bodies, strict=True)
            for number in range(group.count)
        ]
        # A program that observes everything asks what can go wrong.
        if self.observer.everything and self.process.model.races:
            self._race(threads)
        else:
            self._one_by_one(threads)
        self._shared.clear()

    def _one_by_one(self, threads: Sequence[_Thread]) -> None:
        """Each thread is through before the next one begins."""
        before = self._thread
        for self._thread, body in threads:
            self.block(body, "thread")
        self._thread = before

    def _race(self, threads: Sequence[_Thread]) -> None:
        """The interleaving that a mechanism has most to fear from: all others run while the
        first one's handler has opened a page and not yet filled it."""
        model = self.process.model
        model.meanwhile = lambda: self._one_by_one(threads[1:])
        self._one_by_one(threads[:1])
        model.others_run()


def _fail(node: Node, what: str) -> CellError:
    verb = type(node.step).__name__.lower().replace("mapanonymous", "map-anonymous")
    raise UsageFailure(f"Line {node.line}, {verb}: {what}.")


class UsageFailure(CellError):
    """A program that cannot be understood: ends the run, and is returned."""

    kind = "usage"
