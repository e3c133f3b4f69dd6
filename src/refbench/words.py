"""The words of refbench as frozen data: pattern, mechanism, workload, case, cell, availability.

What they mean is in docs/concepts.md. Nothing here does anything; see :mod:`refbench.program`
for programs and :mod:`refbench.samples` for what a run gives back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refbench.errors import UsageError
from refbench.grammar import Option, Spec, Values, canonical, resolve

if TYPE_CHECKING:
    from refbench.program import Program


class Clock(str, Enum):
    """What a session's nanoseconds are. Times of two clocks are never compared."""

    REAL = "real"
    INSTRUCTIONS = "instructions"
    MODELLED = "modelled"

    @property
    def counts(self) -> bool:
        """Whether it counts instead of measuring: the same run then gives the same number."""
        return self is not Clock.REAL


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether something works here; if not, why, and what the user can do about it."""

    ok: bool
    reason: str = ""
    remedy: str = ""


AVAILABLE = Availability(True)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The initial content of a page: ``byte:0xAA``, ``file:PATH``, ``tag:5`` or a sum of them.

    ``text`` names it in journals: a file by its name and its content (``file:page.bin@1b2c3d4e``),
    wherever it is.
    """

    text: str = "byte:0xAA"
    byte: int | None = 0xAA
    file: Path | None = None
    tag: int | None = None

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        :raises UsageError: when it is none, or its file is missing or empty.
        """
        byte: int | None = None
        tag: int | None = None
        file: Path | None = None
        name: list[str] = []
        for part in _PARTS.split(text):
            kind, _, value = part.partition(":")
            if kind == "byte" and byte is None and file is None:
                byte = _number(text, value, 0xFF)
            elif kind == "tag" and tag is None:
                tag = _number(text, value, 0xF)
            elif kind == "file" and byte is None and file is None and value:
                file, digest = _pattern_file(value)
                name.append(f"file:{file.name}@{digest}")
                continue
            else:
                raise UsageError(
                    f"{text!r} is no pattern.",
                    remedy="Write byte:0xAA, file:PATH, tag:5, or byte:0xAA+tag:5.",
                )
            name.append(part)
        return cls("+".join(name), byte, file, tag)

    def spelled(self) -> str:
        """What :meth:`parse` reads it from again, in whatever directory."""
        if self.file is None:
            return self.text
        tag = "" if self.tag is None else f"+tag:{self.tag}"
        return f"file:{self.file.absolute()}{tag}"


def _number(pattern: str, text: str, most: int) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise UsageError(
            f"The pattern {pattern!r} has {text!r} where a number from 0 to {most:#x} is expected.",
            remedy="Write for example byte:0xAA or tag:5.",
        )
    return number


_PARTS = re.compile(r"\+(?=(?:byte|file|tag):)")
"""Between the parts of a pattern; a path may have a plus of its own."""


def _pattern_file(text: str) -> tuple[Path, str]:
    """The file and the beginning of its SHA-256."""
    path = Path(text).expanduser()
    try:
        size = path.stat().st_size
        if not path.is_file() or not size:
            raise UsageError(
                f"The pattern file {text} is not a file with content.",
                remedy="Give a file of at most one page; its content is repeated to fill the page.",
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    except OSError as error:
        raise UsageError(
            f"The pattern file {text} cannot be read: {error.strerror}.",
            remedy="Give the path of a file that holds the page's content.",
        ) from None
    return path, digest


class Verdict(str, Enum):
    """The answer of one semantics property for one mechanism on one target."""

    MET = "met"
    NOT_MET = "not met"
    REFUSED = "refused"
    """The kernel refused the operation that the property is about (its errno is evidence)."""
    UNAVAILABLE = "unavailable"
    """The property cannot be examined here, or the mechanism does not work here."""
    FAILED = "failed"
    """The run ended without an answer: crashed, no answer."""


Populates = Literal["map", "load", "store"]
"""When a page takes memory of its own: as soon as it is mapped, at a first load or store, or
only at a first store, because loads show a shared page."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """A way to give a mapping its pattern, as a plugin registers it.

    ``sources`` are the C files that implement it (see ``native/mechanism.h``); the agent is
    built with those of every registered mechanism. ``expected`` holds the verdicts that this
    mechanism is committed to beforehand, by property, each with the reason; what it does not
    name is expected to be met. A key may carry conditions, ``fork-child@events=fork``: see
    :mod:`refbench.semantics.expected`.
    """

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    sources: tuple[Path, ...] = ()
    expected: Mapping[str, tuple[Verdict, str]] = field(default_factory=dict)
    applies_pattern: bool = True
    """False for a baseline, whose clean pages read as zero."""
    populates: Populates = "load"
    owns_signals: bool = False
    """True when it takes the process's fault signals: refused by :mod:`refbench.native`."""
    only_executed: bool = False
    """True for an allocator that comes as it is, without C sources of ours: it serves programs
    that a workload executes, and nothing else (:mod:`refbench.allocators`)."""
    model: str = ""
    """What stands for it in the simulator, as ``package.module:Class``; empty: refbench's own
    model of that name, where there is one."""

    def canonical(self, spec: Spec) -> Spec:
        """``spec`` checked against the options, in its normal spelling."""
        return canonical(spec, self.options, what="mechanism")


@dataclass(frozen=True, slots=True)
class Workload:
    """A deterministic program over memory, with parameters.

    ``build`` gets the checked parameters and the page size in bytes.
    ``headline`` names at most seven metrics (:mod:`refbench.metrics`) that asv tracks.
    """

    name: str
    summary: str
    options: tuple[Option, ...]
    build: Callable[[Values, int], Program]
    headline: tuple[str, ...]

    def canonical(self, spec: Spec) -> Spec:
        """``spec`` checked against the options, in its normal spelling."""
        return canonical(spec, self.options, what="workload")

    def program(self, spec: Spec, page_size: int) -> Program:
        """The program of ``spec`` for a page size.

        :raises UsageError: for an option that is wrong or that the page size rules out.
        """
        return self.build(resolve(spec, self.options, what="workload"), page_size)


@dataclass(frozen=True, slots=True)
class Case:
    """A named, frozen preset of a workload: what the history tracks."""

    name: str
    workload: Spec
    summary: str
    bench: bool = True
    """Whether it is measured, too, where nobody names any."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One case or workload, one mechanism, one pattern: the unit that is measured."""

    workload: str
    """The canonical workload, ``program:FILE`` for a program of the user's own."""
    mechanism: Spec
    pattern: Pattern
    program: Program
    case: str = ""
    thp: bool = False
    """Whether transparent huge pages may be used; ``off`` by prctl otherwise."""

    @property
    def label(self) -> str:
        """What people read: the case where there is one, else the workload."""
        return self.case or self.workload

    @property
    def key(self) -> str:
        """A stable text that is equal exactly for equal cells."""
        program = hashlib.sha256(self.program.text().encode()).hexdigest()[:16]
        thp = "on" if self.thp else "off"
        return f"{self.workload}|{self.mechanism}|{self.pattern.text}|thp={thp}|{program}"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a session found on its target."""

    kernel: str
    arch: str
    page_size: int
    memory: int
    """Bytes of memory that a cell may hope for."""
    mechanisms: Mapping[str, Availability]
    metrics: Mapping[str, Availability]
    """By group: ``cgroup``, ``slab``, ``kernel-log``, ``swap``, ``ksm``."""
    environment: Mapping[str, str]
    """Everything that the numbers depend on and that a comparison must find equal or shown:
    CPU, governor, THP, ``fault_around_bytes``, ``vm.*`` settings, agent and compiler hashes."""
