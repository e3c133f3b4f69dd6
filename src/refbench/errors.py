"""The errors that refbench raises, as one small tree.

Whether a failed run may be tried again is decided by type: a :class:`Stable` error gives the
same answer every time, a :class:`Transient` one may not. Every error says what happened, to
what, and the remedy; the command line prints exactly that and never a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class RefbenchError(Exception):
    """The root. ``kind`` is the word that journals and exit codes use for it."""

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class UsageError(RefbenchError):
    """What was asked for cannot be understood: a name, an option, a file, a program."""

    kind = "usage"
    exit_code = 2


class BackendError(RefbenchError):
    """A backend could not be opened, or was asked for something in the wrong state."""

    kind = "backend"
    exit_code = 3


class StorageError(RefbenchError):
    """A journal, report or cached artefact could not be written or read back."""

    kind = "storage"
    exit_code = 4


class CellError(RefbenchError):
    """A run of one cell failed; the plan goes on with the others."""

    exit_code = 5


class Stable(CellError):
    """A failure that the same cell would meet again: it is never retried."""


class Transient(CellError):
    """A failure of the moment: it is retried, a bounded number of times."""


class Unsupported(Stable):
    """The mechanism or the step does not work here; the cell is skipped with the reason."""

    kind = "unsupported"


class LimitHit(Stable):
    """The kernel refused because a limit was reached.

    ``wanted`` is the number that the cell needs and ``limit`` the number that there is,
    both in the unit that the message names.
    """

    kind = "limit-hit"

    def __init__(self, message: str, *, wanted: int, limit: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.wanted = wanted
        self.limit = limit


class WrongContent(Stable):
    """Memory did not read as the program expects it to: the mechanism is not right here."""

    kind = "wrong-content"


class Crashed(Stable):
    """The agent ended by a signal that the program itself caused, or with a broken record."""

    kind = "crashed"


class KernelFault(Stable):
    """The kernel of the target reported a fault of its own while the cell ran.

    ``log`` has the lines of its log that say so.
    """

    kind = "kernel-fault"

    def __init__(self, message: str, *, log: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.log = log


class NoAnswer(Transient):
    """The agent's end record did not arrive: lost connection, killed from outside, deadline."""

    kind = "no-answer"
