"""Running a program so that its heap is recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refbench.agent import host_arch
from refbench.allocators import preload
from refbench.cache import Cache
from refbench.errors import StorageError, Unsupported, UsageError
from refbench.grammar import Spec
from refbench.interposer import EXIT_REFUSED
from refbench.trace.reader import Trace, open_trace
from refbench.trace.writer import pack
from refbench.words import Pattern

END_SECONDS = 20.0
"""How long the process that writes a trace may take to end it when the program was killed."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A trace, and how the program ended: its exit status, minus the signal that killed it."""

    trace: Trace
    status: int


def record(
    command: Sequence[str], path: Path, *, settings: str = "", cache: Cache | None = None
) -> Recorded:
    """Run ``command`` on this machine's standard streams and record its heap into ``path``.

    ``settings`` are jemalloc's: :func:`refbench.allocators.preload`. Recorded is the process of
    the command, or what it executes in its own place; processes that it starts are not.

    :raises UsageError: for a command that does not exist or cannot be recorded.
    :raises Unsupported: when this user or kernel cannot watch first touches.
    :raises StorageError: when the trace cannot be written.
    :raises BackendError: when the interposer cannot be built.
    """
    program = shutil.which(command[0])
    if program is None:
        raise UsageError(f"There is no command {command[0]!r}.", remedy="Check its name.")
    environment = _environment(path, settings, cache)
    _remove(path)
    process = subprocess.Popen([program, *command[1:]], env=environment)
    status = _wait(process)
    if not path.exists():
        raise _not_recorded(program, status)
    trace = _ended(path)
    try:
        pack(trace)
    except OSError as error:
        raise StorageError(
            f"The trace {path} cannot be made smaller: {error.strerror}.",
            remedy="It is whole as it is; free some space.",
        ) from None
    return Recorded(open_trace(path), status)


def _environment(path: Path, settings: str, cache: Cache | None) -> dict[str, str]:
    allocator = preload(
        Spec("anon"), Pattern.parse("byte:0x00"), host_arch(), settings=settings, cache=cache
    )
    told = {key: value for key, value in allocator.environment.items() if "REPORT" not in key}
    libraries = [str(allocator.files[name]) for name in allocator.preload]
    return {
        **os.environ,
        **told,
        "LD_PRELOAD": ":".join([*libraries, *filter(None, [os.environ.get("LD_PRELOAD")])]),
        "REFBENCH_TRACE": str(path.absolute()),
        # The recorder puts the number of the process in its place.
        "REFBENCH_TRACE_PROCESS": "0" * 10,
    }


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"The trace {path} cannot be replaced: {error.strerror}.",
            remedy="Name another file.",
        ) from None


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C reaches the program as well, which decides what becomes of it."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _ended(path: Path) -> Trace:
    """The trace, once its writer has ended it."""
    behind = time.monotonic() + END_SECONDS
    while True:
        try:
            return open_trace(path)
        except UsageError:
            if time.monotonic() > behind:
                raise
            time.sleep(0.05)


def _not_recorded(program: str, status: int) -> UsageError | Unsupported:
    if status == EXIT_REFUSED:
        return Unsupported(
            f"{program} could not be recorded; the last line on standard error says why.",
            remedy="docs/trace-format.md says what recording needs.",
        )
    return UsageError(
        f"{program} ran, and left no trace: it does not take its memory from malloc of a shared C "
        "library.",
        remedy="Record a dynamically linked program that is not set-user-ID.",
    )
