"""The one interface behind which every backend stands, and the channel that most are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from refbench.grammar import Option, Values
from refbench.samples import Run
from refbench.words import Availability, Capabilities, Cell, Clock

API_VERSION = 1
"""The version of the plugin interface: of the hooks and of everything in this module."""


class Session(Protocol):
    """An open target: it boots or connects once and measures many cells. A context manager."""

    @property
    def clock(self) -> Clock:
        """What the nanoseconds of this session are."""

    def capabilities(self) -> Capabilities:
        """What works on this target, and why not. Asked for once; may take a second."""

    def run(self, cell: Cell, iterations: int, deadline: float) -> Run:
        """Measure ``cell`` once, in one fresh process, with one warm-up sample and
        ``iterations`` more. ``deadline`` is in seconds from now.

        A failure of the cell is *returned* (``Run.failure``).

        :raises BackendError: when the session itself is gone and cannot be used again.
        """

    def close(self) -> None:
        """Give everything back; may be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Backend(Protocol):
    """What a plugin registers."""

    name: str
    summary: str
    options: Sequence[Option]

    def probe(self) -> Availability:
        """Whether it can run here. Cheap, never raises."""

    def open(self, options: Values) -> Session:
        """Boot or connect.

        :raises BackendError: with the remedy.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """What a channel brings back of one process.

    The lines are those of :func:`lines`. ``signal`` is the number that ended the process, 0 if
    it exited, and ``deadline_passed`` says that the channel ended it because it was late.
    """

    stdout: tuple[str, ...]
    stderr: tuple[str, ...] = ()
    returncode: int = 0
    signal: int = 0
    deadline_passed: bool = False
    facts: dict[str, str] = field(default_factory=dict)


def lines(data: bytes) -> tuple[str, ...]:
    """A program's output as an :class:`Answer` has it.

    Lines end at a line feed and nowhere else, as they do not for ``str.splitlines``, and bytes
    that are no UTF-8 survive (``surrogateescape``): the agent's checksum is over what it wrote.
    """
    text = data.decode(errors="surrogateescape").split("\n")
    return tuple(text[:-1] if text[-1] == "" else text)


class Channel(Protocol):
    """The way to a machine on which the agent runs: two verbs and a goodbye."""

    def put(self, file: Path) -> str:
        """Bring a file over and return its path there.

        What was brought before stays as it is, also when its file had the same name. The session
        asks once for each content.
        """

    def run(self, argv: Sequence[str], deadline: float) -> Answer:
        """Run a program there and wait for it, ``deadline`` seconds at most.

        Never raises for what the program does; the answer says it.

        :raises ConnectionError: when the machine cannot be reached any more.
        """

    def close(self) -> None:
        """Hang up; may be called twice."""
