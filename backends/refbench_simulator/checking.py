"""What is observed of a program's steps: ``native/agent/check.c`` for the model.

Errnos are Linux's and their texts glibc's, on whatever system the model runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refbench import program as p
from refbench.errors import CellError, LimitHit, Unsupported, WrongContent
from refbench.samples import Observation
from refbench_simulator import kernel_access, storing
from refbench_simulator.comparing import Bytes, Probe, Wrong, joined
from refbench_simulator.content import PATTERN, ZERO
from refbench_simulator.detail import Finer
from refbench_simulator.model import faults
from refbench_simulator.model.machine import Machine, Trapped
from refbench_simulator.model.space import NO_FILE, AddressSpace, Pte
from refbench_simulator.numbering import Node
from refbench_simulator.process import Process
from refbench_simulator.stamps import Stamp

Index = NDArray[np.int64]

EFAULT = 14
_TEXTS = {
    1: "Operation not permitted",
    2: "No such file or directory",
    5: "Input/output error",
    9: "Bad file descriptor",
    11: "Resource temporarily unavailable",
    12: "Cannot allocate memory",
    13: "Permission denied",
    EFAULT: "Bad address",
    16: "Device or resource busy",
    17: "File exists",
    19: "No such device",
    22: "Invalid argument",
    28: "No space left on device",
    38: "Function not implemented",
    95: "Operation not supported",
}
_MOST = 4096
"""MAX_OBSERVATIONS of agent.h."""
_PIECE = 256
"""PIECE of check.c: bytes that a check of every byte copies before it compares them."""
_MESSAGE, _DETAIL = 255, 95
"""Bytes that ``struct rb_error`` and ``struct observation`` have for their texts."""
_VERBS = {
    p.MapAnonymous: "map-anonymous",
    p.KernelReads: "kernel-reads",
    p.KernelWrites: "kernel-writes",
    p.KernelLog: "kernel-log",
}
_UNOBSERVED = (p.Phase, p.Measure, p.Map, p.Unmap, p.Repeat, p.Parallel, p.Threads)


def text(errno: int) -> str:
    """What strerror(3) says of an errno of Linux."""
    return _TEXTS.get(errno, f"Unknown error {errno}")


def verb(step: p.Step) -> str:
    """The word that a step begins with in a program file."""
    if isinstance(step, p.Lock):
        return "lock" if step.on else "unlock"
    return _VERBS.get(type(step), type(step).__name__.lower())


def explain(seen: Observation, *, trapped: bool = False) -> CellError:
    """Why a bad outcome ends a run that does not observe everything: ``explain()`` of check.c."""
    where = f"Line {seen.line}, {seen.step}: "
    more = f" {seen.detail}" if seen.detail else ""
    kind: type[CellError] = Unsupported
    if trapped:
        kind, what = WrongContent, f"{seen.detail}, and nobody resolved it."
    elif seen.errors:
        kind = WrongContent
        what = (
            f"{seen.errors} bytes are wrong; the first, at offset {seen.offset}, is "
            f"0x{seen.got:02x} instead of 0x{seen.wanted:02x}.{more}"
        )
    elif seen.errno:
        what = f"the kernel refused: {text(seen.errno)}.{more}"
    else:
        kind = WrongContent if seen.step in ("descriptors", "fork", "kernel-log") else Unsupported
        what = f"{seen.detail}."
    if seen.detail.startswith("unavailable:"):
        kind = Unsupported
    return kind(_cut(where + what, _MESSAGE))


def wanted(machine: Machine, content: p.Content, *, applies_pattern: bool) -> Bytes:
    """What a page should hold, ``page_size`` bytes: ``wanted_at()`` of check.c."""
    if isinstance(content, int):
        return np.full(machine.kernel.page_size, content, np.uint8)
    named = content == "pattern" and applies_pattern
    return machine.contents.base(PATTERN if named else ZERO)


def compare(
    space: AddressSpace, rows: Index, probe: Probe, page: Bytes, *, content: int | None = None
) -> Wrong:
    """The wrong bytes in ``rows``, each of which shows something, or ``content``.

    See :meth:`refbench_simulator.content.Contents.mismatches`.
    """
    machine, columns = space.machine, space.rows
    files = machine.file_contents()
    kinds = space.pte[rows]
    own = ((kinds == Pte.ANON) | (kinds == Pte.SWAP)) & (content is None)
    folio = space.folio[rows[own]]
    filed = (kinds == Pte.FILE) | (kinds == Pte.REFERENCE)
    # What was read may be in swap again by now.
    filed |= (kinds == Pte.NONE) & (space.file[rows] != NO_FILE)
    ids = np.where(filed, files[space.file[rows] - NO_FILE], ZERO).astype(np.int64)
    ids[own] = machine.folios.content[folio]
    if content is not None:
        ids[:] = content
    apart = np.zeros(rows.size, np.int64)
    apart[own] = machine.folios.home[folio] - columns.page[rows[own]]
    parts = []
    for pages in np.unique(apart).tolist():
        mine = apart == pages
        by = pages * columns.page_size
        found = machine.contents.mismatches(
            ids[mine],
            columns.page[rows[mine]] + pages,
            columns.length[rows[mine]],
            Probe(probe.start + by, probe.stride, probe.end + by),
            page,
            copies=columns.copies[rows[mine]],
            period=columns.period[rows[mine]],
        )
        address = None if found.address is None else found.address - by
        parts.append(found._replace(address=address))
    return joined(parts)


class Observer:
    """Collects the observations of one sample, or ends the run at the first bad one."""

    def __init__(self, machine: Machine, program: p.Program) -> None:
        self.machine = machine
        self.observations: list[Observation] = []
        self.everything = self._all = program.observe_all
        self._many = self._all and _observed(program.steps) >= _MOST
        self._known: set[tuple[int, bool]] = set()

    def take(self, seen: Observation, *, trapped: bool = False) -> None:
        """``observe()`` of check.c.

        :raises CellError: for a bad outcome, where not all are to be observed.
        """
        if not seen.ok and self.machine.rows.scatters:
            # Where it went wrong is not where it is taken to be.
            raise Finer
        if not self._all:
            if not seen.ok:
                raise explain(seen, trapped=trapped)
            return
        key = (seen.line, seen.ok)
        count = len(self.observations)
        if self._many and (count >= _MOST or (count >= _MOST // 2 and key in self._known)):
            return
        self._known.add(key)
        self.observations.append(seen)

    def fine(self, node: Node) -> None:
        """A step that came out well."""
        if self._all:
            self.take(_seen(node))

    def refused(self, node: Node, errno: int, detail: str = "") -> None:
        """A step that the kernel refused.

        :raises CellError: where not all are to be observed.
        """
        self.take(_seen(node, errno=errno, detail=detail))

    def trapped(self, process: Process, node: Node, trap: Trapped) -> None:
        """A touch that ended in a signal.

        :raises CellError: where not all are to be observed.
        """
        self._trap(process, node, trap, Wrong(0))

    def expect(self, process: Process, node: Node) -> None:
        """``expect_run()``: the process reads what it should find.

        :raises CellError: when something else is there, and not all is to be observed.
        """
        step = node.step
        assert isinstance(step, p.Expect)
        space = process.space
        visit = self.machine.rows.visit(step)
        start = self.base(step.region) + step.offset
        end, trap = start + step.length, None
        try:
            faults.access(space, visit.rows, store=False)
        except Trapped as trapped:
            trap = trapped
            end = self.first_access(step, trapped.row)
            if step.stride == 1:
                end -= (end - start) % _PIECE
        probe = Probe(start, step.stride, end)
        wrong = compare(space, visit.rows, probe, self._page(process, step.content))
        if trap is not None:
            self._trap(process, node, trap, wrong)
        else:
            self.take(_seen(node, wrong, self.base(step.region)))

    def kernel_reads(self, process: Process, node: Node) -> None:
        """``kernel_reads_run()``: the kernel reads what it should find.

        :raises CellError: when something else is there, and not all is to be observed.
        """
        step = node.step
        assert isinstance(step, p.KernelReads)
        base, rows = self.base(step.region), self._rows(step)
        page = self._page(process, step.content)
        start, end = base + step.offset, base + step.offset + step.length
        if step.via == "core":
            self._core(process, node, rows, Probe(start, 1, end), page)
            return
        good = kernel_access.reach(process.space, rows, step.via)
        behind = kernel_access.stop(self.machine, rows, good, step.via, start, end)
        found = compare(process.space, rows[:good], Probe(start, 1, behind), page)
        errno = kernel_access.refusal(process.space, rows[good:], step.via)
        self._passed(node, found, base, behind, end, errno)

    def kernel_writes(self, process: Process, node: Node) -> None:
        """``kernel_writes_run()``: the kernel stores a value in every byte of a range.

        :raises CellError: when it refuses, and not all is to be observed.
        """
        step = node.step
        assert isinstance(step, p.KernelWrites)
        base, rows = self.base(step.region), self._rows(step)
        start, end = base + step.offset, base + step.offset + step.length
        good = kernel_access.reach(process.space, rows, step.via, store=True)
        behind = kernel_access.stop(self.machine, rows, good, step.via, start, end)
        length = behind - start
        stored = Stamp(start, max(length, 1), 1, max(length, 1), behind, step.value, None)
        storing.put(process.space, rows[:good], stored)
        errno = kernel_access.refusal(process.space, rows[good:], step.via)
        self._passed(node, Wrong(0), base, behind, end, errno)

    def _core(self, process: Process, node: Node, rows: Index, probe: Probe, page: Bytes) -> None:
        """``core_read()`` of core.c."""
        assert isinstance(node.step, p.KernelReads)
        with kernel_access.dump_core(process, rows) as core:
            there = compare(core.space, core.pages, probe, page)
            holes = compare(core.space, core.holes, probe, page, content=ZERO)
            absent = core.absent(probe.start, probe.end, page)
        detail = f"{absent.errors} bytes are not in the core file" if absent.errors else ""
        found = joined([there, holes, absent])
        self.take(_seen(node, found, self.base(node.step.region), detail=detail))

    def base(self, region: int) -> int:
        """The address of a region."""
        return self.machine.rows.regions[region].base

    def first_access(self, step: p.Touch | p.Handout | p.Expect, row: int) -> int:
        """The address of the first byte of a row that a step accesses."""
        rows, base = self.machine.rows, self.base(step.region)
        if isinstance(step, p.Handout):
            return max(int(rows.page[row]) * rows.page_size, base + step.offset)
        return base + storing.first_access(rows, rows.visit(step).reach, row, base)[1]

    def _rows(self, step: p.KernelReads | p.KernelWrites) -> Index:
        rows = self.machine.rows.between(step.region, step.offset, step.length)
        return np.arange(rows.start, rows.stop, dtype=np.int64)

    def _page(self, process: Process, content: p.Content) -> Bytes:
        return wanted(self.machine, content, applies_pattern=process.model.applies_pattern)

    def _passed(
        self, node: Node, wrong: Wrong, base: int, behind: int, end: int, errno: int
    ) -> None:
        """``pass()`` of kernel_access.c: up to ``behind``, where the kernel refused, or ``end``."""
        if behind >= end:
            self.take(_seen(node, wrong, base))
            return
        offset = behind - base if not wrong.errors else None
        self.take(_seen(node, wrong, base, errno=errno, offset=offset))

    def _trap(self, process: Process, node: Node, trap: Trapped, wrong: Wrong) -> None:
        space, most = process.space, self.machine.kernel.max_map_count
        if not self._all and space.map_count >= most - 2:
            raise _no_vma_left(space.map_count, most)
        step = node.step
        assert isinstance(step, (p.Touch, p.Handout, p.Expect))
        address = self.first_access(step, trap.row)
        base = self.base(step.region)
        detail = f"{trap.signal} at {address:#x}, offset {address - base}"
        offset = address - base
        seen = _seen(node, wrong, base, errno=EFAULT, detail=detail, offset=offset)
        self.take(seen, trapped=True)


def _seen(
    node: Node,
    wrong: Wrong = Wrong(0),  # noqa: B008 - a tuple
    base: int = 0,
    *,
    errno: int = 0,
    detail: str = "",
    offset: int | None = None,
) -> Observation:
    first = 0 if wrong.address is None else wrong.address - base
    return Observation(
        line=node.line,
        step=verb(node.step),
        ok=not (wrong.errors or errno or detail),
        errno=errno,
        errors=wrong.errors,
        offset=first if offset is None else offset,
        got=wrong.got,
        wanted=wrong.wanted,
        detail=_cut(detail, _DETAIL),
    )


def _no_vma_left(count: int, most: int) -> LimitHit:
    """``no_vma_left()`` of check.c: a handler that splits VMAs met their limit."""
    return LimitHit(
        f"The process has {count} mappings; vm.max_map_count is {most}.",
        wanted=count + 1,
        limit=most,
        remedy="Raise it: sysctl vm.max_map_count=262144.",
    )


def _cut(message: str, most: int) -> str:
    return message.encode()[:most].decode(errors="ignore")


def _observed(steps: Sequence[p.Step]) -> int:
    """How many observations a program makes at most, up to ``_MOST``: parse.c."""
    total = 0
    for step in steps:
        match step:
            case p.Repeat():
                total += step.count * _observed(step.body)
            case p.Fork():
                total += 1 + _observed(step.child) + _observed(step.parent)
            case p.Parallel():
                for group in step.groups:
                    total += (_MOST if group.loop else group.count) * _observed(group.body)
            case _:
                total += not isinstance(step, _UNOBSERVED)
    return min(total, _MOST)
