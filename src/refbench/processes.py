"""Which process is which: a pid together with the moment at which it started."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MARK = "REFBENCH_MARK"
"""The environment variable that tells whose a process is."""
_PROC = Path("/proc")
_LOOK_AGAIN = 0.002


@dataclass(frozen=True, slots=True)
class Identity:
    """A process that no other can be taken for, until the next boot.

    ``start`` is field 22 of ``/proc/PID/stat`` (proc(5)), in clock ticks since boot; 0 on a
    system without ``/proc``, where the pid alone has to do.
    """

    pid: int
    start: int

    @classmethod
    def current(cls) -> Self:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has ``pid`` now."""
        fields = stat_fields(pid)
        return cls(pid, int(fields[19]) if fields else 0)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """What :meth:`__str__` wrote at the start of ``text``; ``None`` if nothing did."""
        pid, _, rest = text.partition("-")
        start = rest.partition("-")[0]
        return cls(int(pid), int(start)) if pid.isdecimal() and start.isdecimal() else None

    @property
    def alive(self) -> bool:
        """Whether it still runs. A zombie does not."""
        if self.start:
            fields = stat_fields(self.pid)
            return bool(fields) and fields[0] not in "ZX" and int(fields[19]) == self.start
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def __str__(self) -> str:
        return f"{self.pid}-{self.start}"


def stat_fields(pid: int) -> list[str]:
    """``/proc/PID/stat`` from field 3, the state, on; empty when there is no such process.

    The command's name is left out: it may hold blanks and brackets.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def marked(mark: str) -> Iterator[int]:
    """The pids of the running processes that have the variable :data:`MARK` set to ``mark``.

    Whatever a launcher starts inherits it, and cannot leave it behind as it can leave a process
    group, a session or its parent.
    """
    wanted = f"{MARK}={mark}".encode()
    try:
        pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    except OSError:
        return
    for pid in pids:
        try:
            variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in variables:
            yield pid


def kill_marked(mark: str, seconds: float) -> bool:
    """Kill the processes of :func:`marked`; true when the last one is gone in time."""
    end = time.monotonic() + seconds
    while members := list(marked(mark)):
        if time.monotonic() > end:
            return False
        for pid in members:
            kill(pid)
        time.sleep(_LOOK_AGAIN)
    return True


def kill(pid: int) -> None:
    """SIGKILL, if it is still there and ours."""
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def boot_id() -> str:
    """The kernel's name for this boot; empty where it has none."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
