"""``trace`` and ``pdfium-trace``: heap traces, replayed.

What a program did with its memory, without the program: mappings, first touches, hand-outs,
purges, on every target. ``pdfium-trace`` is the one that was recorded of the workload ``pdfium``;
it is a part of refbench, so that every machine and every commit replays the same.
"""

from __future__ import annotations

import functools
from pathlib import Path

from refbench.errors import UsageError
from refbench.grammar import Option, Spec, Values
from refbench.program import Program
from refbench.words import Case, Workload

PDFIUM = Path(__file__).resolve().parent / "traces" / "pdfium.trace"
"""Recorded of ``pdfium:pages=1-100``, condensed."""
_HEADLINE = ("time.replay", "hwm", "lost", "rss.peak", "traps", "syscalls")


def _program(values: Values, page_size: int) -> Program:
    text = values.text("file")
    if not text:
        raise UsageError(
            "The workload trace needs a file.",
            remedy="Record one, refbench trace record -- COMMAND, and write trace:file=PATH.",
        )
    return replay(Path(text), page_size)


def _pdfium(_values: Values, page_size: int) -> Program:
    return replay(PDFIUM, page_size)


def replay(path: Path, page_size: int) -> Program:
    """The program of a trace; worked out once for a file as it is.

    :raises UsageError: when the file is no whole trace.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise UsageError(
            f"The trace {path} cannot be read: {error.strerror}.",
            remedy="Check the path; `refbench trace record -- COMMAND` writes one.",
        ) from None
    return _replay(path, page_size, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _replay(path: Path, page_size: int, _size: int, _changed: int) -> Program:
    from refbench.trace import compile_trace, open_trace

    return compile_trace(open_trace(path), page_size, name=f"trace-{path.stem}")


TRACE = Workload(
    "trace",
    "What a recorded program did with its heap, replayed: see `refbench trace`.",
    (Option("file", "path", "", "the trace"),),
    _program,
    _HEADLINE,
)
PDFIUM_TRACE = Workload(
    "pdfium-trace",
    "What the workload pdfium did with its heap, replayed: on every target.",
    (),
    _pdfium,
    _HEADLINE,
)
CASES: tuple[Case, ...] = (
    Case(
        "pdfium-trace",
        Spec("pdfium-trace"),
        "what 100 pages of the generated manual did with their heap, replayed",
        bench=False,
    ),
)
"""Frozen, as those of :mod:`refbench.workloads.cases`: with the trace that it replays."""
