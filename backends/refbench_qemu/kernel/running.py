"""Running a program for long: its lines as they come, its log, and an end when it is to end."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from refbench.errors import BackendError

TICK = 1.0
"""Seconds between two looks at the clock while nothing is printed."""
SILENT = 3600.0
"""Seconds without a line after which a program counts as stuck: linking takes minutes at most."""
_GRACE = 10.0
_KEPT = 400


class Ended(Exception):
    """A program ended with an error; ``lines`` are its last ones."""

    def __init__(self, status: int, lines: Sequence[str]) -> None:
        super().__init__(status)
        self.status = status
        self.lines = tuple(lines)


def run(
    argv: Sequence[str],
    directory: Path,
    environment: Mapping[str, str],
    log: Path,
    told: Callable[[str], object],
) -> None:
    """Run ``argv``, append what it prints to ``log``, and give each line to ``told``, which also
    gets an empty one now and then. Whatever is raised in between, what was started is ended.

    :raises Ended: when it ends with an error.
    :raises BackendError: when it cannot be started, or hangs.
    """
    try:
        process = subprocess.Popen(
            argv,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise BackendError(
            f"The program {argv[0]} cannot be started: {error.strerror}.",
            remedy="Install it, or mend PATH.",
        ) from None
    lines: deque[str] = deque(maxlen=_KEPT)
    try:
        with log.open("ab", buffering=0) as kept:
            _listen(process, kept.write, lines, told, argv[0])
        status = process.wait(_GRACE)
    finally:
        _end(process)
    if status:
        raise Ended(status, lines)


def _listen(
    process: subprocess.Popen[bytes],
    keep: Callable[[bytes], object],
    lines: deque[str],
    told: Callable[[str], object],
    name: str,
) -> None:
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    rest = b""
    heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(TICK):
                if time.monotonic() - heard > SILENT:
                    raise BackendError(
                        f"The program {name} has said nothing for {SILENT:.0f} s and was ended.",
                        remedy="Try again when the machine has less to do.",
                    )
                told("")
                continue
            data = os.read(descriptor, 1 << 16)
            if not data:
                return
            heard = time.monotonic()
            keep(data)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                text = line.decode(errors="replace").rstrip()
                lines.append(text)
                told(text)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole session of a process, first kindly: make removes half-written targets."""
    assert process.stdout is not None
    process.stdout.close()
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
                break
    # What it started may outlive it for a moment; its group's number is not used again till then.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
