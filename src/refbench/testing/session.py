"""The promises of a backend and of its sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from refbench.backend import Backend, Session
from refbench.errors import BackendError, NoAnswer
from refbench.grammar import Option, Spec
from refbench.program import Expect, Map, Measure, Phase, Program, Repeat, Step, Touch
from refbench.testing.finding import (
    DEADLINE,
    LATE,
    BrokenError,
    Finding,
    LeftOutError,
    finding,
    want,
)
from refbench.words import Availability, Capabilities, Cell, Clock, Pattern


def declared(backend: Backend) -> None:
    """What it says of itself."""
    spec = Spec.parse(backend.name, what="target")
    want(spec == Spec(backend.name), f"{backend.name!r} is no name")
    want(bool(backend.summary.strip()), "it has no summary")
    for option in backend.options:
        want(isinstance(option, Option), f"{option!r} is no Option")
        want(bool(option.help.strip()), f"the option {option.name!r} has no help")


def probe(backend: Backend) -> None:
    """What ``probe()`` returns."""
    found = backend.probe()
    want(isinstance(found, Availability), f"it returned {found!r}")
    if not found.ok:
        want(bool(found.reason and found.remedy), "it says no without a reason and a remedy")
        raise LeftOutError(f"not available here: {found.reason} {found.remedy}")


def examine_session(session: Session) -> Iterator[Finding]:
    """Every promise of an open session; it stays open."""
    known: list[Capabilities] = []
    yield finding("the session has a clock", lambda: _clock(session))
    asked = finding("capabilities() says what works", lambda: _capable(session, known))
    yield asked
    if asked.broken:
        return
    cells = _Cells.of(known[0])
    yield finding("a run has one warm-up and the iterations", lambda: _good(session, cells))
    yield finding("wrong content is returned, not raised", lambda: _wrong(session, cells))
    yield finding("a late run is returned as no answer", lambda: _late(session, cells))
    yield finding("after a late run the next one is good", lambda: _good(session, cells))


def _clock(session: Session) -> None:
    want(isinstance(session.clock, Clock), f"its clock is {session.clock!r}")


def _capable(session: Session, known: list[Capabilities]) -> None:
    found = session.capabilities()
    known.append(found)
    size = found.page_size
    want(size >= 4096 and not size & (size - 1), f"pages of {size} bytes")
    want(bool(found.kernel and found.arch), "it does not say which kernel and architecture")
    want(any(item.ok for item in found.mechanisms.values()), "no mechanism works there")
    for kind in (found.mechanisms, found.metrics):
        for name, item in kind.items():
            want(item.ok or bool(item.reason), f"{name} does not work, and it does not say why")


@dataclass(frozen=True, slots=True)
class _Cells:
    """Cells of a few pages, under the first mechanism that works."""

    mechanism: Spec
    page: int

    @classmethod
    def of(cls, known: Capabilities) -> _Cells:
        works = [name for name, item in known.mechanisms.items() if item.ok]
        plain = [name for name in ("memset", "anon") if name in works]
        return cls(Spec((plain or works)[0]), known.page_size)

    def cell(self, name: str, *steps: Step) -> Cell:
        size = 16 * self.page
        mapped = (Phase("map"), Map(0, size), Phase("touch"))
        program = Program(name, (*mapped, *steps, Phase(), Measure("touch")))
        return Cell(f"program:{name}", self.mechanism, Pattern.parse("byte:0xAA"), program)

    def touch(self) -> Touch:
        return Touch(0, 0, 16 * self.page, "write", self.page)


def _good(session: Session, cells: _Cells) -> None:
    run = session.run(cells.cell("good", cells.touch()), 2, DEADLINE)
    want(run.failure is None, f"it failed: {run.failure}")
    indices = [sample.index for sample in run.samples]
    want(indices == [0, 1, 2], f"the samples are {indices}, not [0, 1, 2]")
    for sample in run.samples:
        want({"map", "touch"} <= set(sample.phases), f"the phases are {set(sample.phases)}")


def _wrong(session: Session, cells: _Cells) -> None:
    wrong = cells.cell("wrong", cells.touch(), Expect(0, 0, 1, "zero"))
    run = session.run(wrong, 1, DEADLINE)
    kind = run.failure.kind if run.failure else "none"
    want(kind == "wrong-content", f"the failure is {kind}")


def _late(session: Session, cells: _Cells) -> None:
    endless = cells.cell("endless", Repeat(1 << 30, (cells.touch(),)))
    run = session.run(endless, 1, LATE)
    kind = run.failure.kind if run.failure else "none"
    want(kind == NoAnswer.kind, f"the failure is {kind}")


def closed(session: Session) -> None:
    """What a closed session does."""
    try:
        session.run(_Cells(Spec("memset"), 4096).cell("closed"), 1, DEADLINE)
    except BackendError:
        return
    raise BrokenError("run() did not raise BackendError")
