"""What the launcher says of a program (native/launcher/), on a host's socket or a guest's port."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from refbench.backend import Answer, lines

MAX_OUTPUT = 256 << 20
"""Bytes of one agent's output; an agent that says more has gone wrong and is ended."""


@dataclass(slots=True)
class Outcome:
    """What is known so far of the program that runs."""

    texts: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    """Standard output and standard error."""
    status: str = ""
    """``exit``, ``signal``, ``unborn``; empty while it runs."""
    number: int = 0
    facts: dict[str, str] = field(default_factory=dict)
    late: bool = False
    """Ended because its deadline had passed."""

    def take(self, message: Sequence[str]) -> bool:
        """One message of three words; true when it says that the program has ended."""
        kind, what, number = message
        if kind == "ended":
            self.status = what
            self.number = int(number)
            if what == "unborn":
                self.facts["unborn"] = "killed between fork and exec"
                self.texts[1].extend(b"The agent was killed between fork and exec.\n")
            return True
        reason = os.strerror(int(number))
        if kind == "failed":
            self.facts["not-started"] = f"{what}: {reason}"
            self.texts[1].extend(f"The agent did not start: {what}: {reason}.\n".encode())
        return False

    @property
    def too_much(self) -> bool:
        """Whether it runs, and has said more than is kept."""
        return not self.status and sum(map(len, self.texts)) > MAX_OUTPUT

    def drop(self) -> None:
        """Forget what a program said that says too much."""
        self.texts[0].clear()
        self.texts[1][:] = b"It wrote more than refbench keeps and was ended.\n"

    def answer(self) -> Answer:
        """The outcome in a channel's words."""
        return Answer(
            stdout=lines(bytes(self.texts[0])),
            stderr=lines(bytes(self.texts[1])),
            returncode=self.number if self.status == "exit" else 0,
            signal=0 if self.status == "exit" else self.number,
            deadline_passed=self.late,
            facts=self.facts,
        )
