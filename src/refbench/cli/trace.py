"""``refbench trace``: record the heap of any program, and look at what was recorded."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from refbench.cli.screen import Screen, count, grid, with_screen
from refbench.errors import StorageError
from refbench.report.units import size
from refbench.trace import Trace, compile_trace, open_trace
from refbench.trace.compiling import write_condensed
from refbench.trace.recording import record
from refbench.trace.summary import Summary, summarise

_EPILOG = """\b
Examples:
  refbench trace record -- xz -T2 -k FILE
  refbench trace show refbench.trace
  refbench trace condense refbench.trace small.trace
  refbench run -w trace:file=refbench.trace -m anon,memset
"""
_FILE = click.Path(path_type=Path, dir_okay=False)


class SizeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks of a range of sizes as JSON."""

    most: int
    blocks: int
    bytes: int
    reused: int
    freed: int
    median_life: int | None
    """Hand-outs until it was freed, rounded up to a power of two."""


class TraceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A trace as JSON."""

    path: str
    page_size: int
    facts: dict[str, str]
    ending: dict[str, str]
    cut: str
    events: int
    blocks: int
    bytes: int
    never_freed: int
    threads: int
    forks: int
    mapped_bytes: int
    zero_bytes: int
    purged_bytes: int
    pages_loaded: int
    pages_stored: int
    steps: int
    sizes: tuple[SizeRecord, ...]


@click.group(epilog=_EPILOG, short_help="Record the heap of a program; look at a trace.")
def command() -> None:
    """Record the heap of any program as a trace, which is a workload: trace:file=PATH."""


@command.command("record", context_settings={"ignore_unknown_options": True})
@click.option(
    "-o", "--output", type=_FILE, default="refbench.trace", show_default=True, help="The trace."
)
@click.option("--settings", default="", metavar="KEY:VALUE,...", help="jemalloc's settings.")
@click.argument("argv", nargs=-1, required=True, metavar="-- COMMAND...")
@with_screen
@click.pass_context
def record_command(
    ctx: click.Context, screen: Screen, output: Path, settings: str, argv: tuple[str, ...]
) -> None:
    """Run COMMAND and record its heap. Exits with the command's own status.

    Watching first touches needs a userfaultfd that sees the kernel's accesses, too: root, or
    vm.unprivileged_userfaultfd=1, or access to /dev/userfaultfd.
    """
    found = record(argv, output, settings=settings)
    trace = found.trace
    screen.note(f"{output}: {count(trace.events, 'event')}, {size(output.stat().st_size)}.")
    if found.status:
        ended = f"signal {-found.status}" if found.status < 0 else f"status {found.status}"
        screen.note(f"The command ended with {ended}.", style="yellow")
    ctx.exit(found.status if found.status >= 0 else 128 - found.status)


@command.command("show")
@click.argument("path", type=_FILE)
@click.option("--salvage", is_flag=True, help="Take what is whole of a trace that was cut short.")
@with_screen
def show_command(screen: Screen, path: Path, *, salvage: bool) -> None:
    """Show what a trace consists of, and the program that it compiles to."""
    trace = open_trace(path, salvage=salvage)
    summary = summarise(trace)
    steps = len(compile_trace(trace, trace.page_size, name="trace").steps)
    if screen.json:
        screen.emit(_record(trace, summary, steps))
        return
    screen.table(grid(("", ""), _facts(trace, summary, steps)))
    screen.say()
    screen.table(
        grid(
            ("blocks up to", "count", "requested", "reused", "freed", "half of these within"),
            [
                (
                    size(each.most),
                    each.count,
                    size(each.size),
                    f"{each.reused / each.count:.0%}",
                    f"{each.freed / each.count:.0%}",
                    "-" if each.life is None else count(each.life, "hand-out"),
                )
                for _, each in sorted(summary.classes.items())
            ],
        )
    )


@command.command("condense")
@click.argument("path", type=_FILE)
@click.argument("output", type=_FILE)
@with_screen
def condense_command(screen: Screen, path: Path, output: Path) -> None:
    """Write a smaller trace, without single blocks, that compiles to the same program."""
    trace = open_trace(path)
    try:
        write_condensed(trace, output)
    except OSError as error:
        raise StorageError(
            f"The trace {output} cannot be written: {error.strerror}.", remedy="Name another file."
        ) from None
    screen.note(f"{output}: {size(output.stat().st_size)} of {size(path.stat().st_size)}.")


def _facts(trace: Trace, summary: Summary, steps: int) -> list[tuple[str, str]]:
    rows = [(key, value) for key, value in trace.facts.items()]
    rows += [("page size", size(trace.page_size)), ("events", str(trace.events))]
    if trace.cut:
        rows.append(("cut short", trace.cut))
    return [
        *rows,
        ("blocks", f"{summary.blocks}, {size(summary.size)}, {summary.live} never freed"),
        ("threads", str(summary.threads)),
        ("forks", str(summary.forks)),
        ("mapped", f"{size(summary.mapped)}, and {size(summary.zero)} for large callocs"),
        ("purged", size(summary.purged)),
        ("first touches", f"{summary.stores} pages stored to, {summary.loads} loaded from first"),
        ("program", count(steps, "step")),
        *((f"at exit: {key}", value) for key, value in trace.ending.items()),
    ]


def _record(trace: Trace, summary: Summary, steps: int) -> TraceRecord:
    return TraceRecord(
        path=str(trace.path),
        page_size=trace.page_size,
        facts=trace.facts,
        ending=trace.ending,
        cut=trace.cut,
        events=trace.events,
        blocks=summary.blocks,
        bytes=summary.size,
        never_freed=summary.live,
        threads=summary.threads,
        forks=summary.forks,
        mapped_bytes=summary.mapped,
        zero_bytes=summary.zero,
        purged_bytes=summary.purged,
        pages_loaded=summary.loads,
        pages_stored=summary.stores,
        steps=steps,
        sizes=tuple(
            SizeRecord(
                most=each.most,
                blocks=each.count,
                bytes=each.size,
                reused=each.reused,
                freed=each.freed,
                median_life=each.life,
            )
            for _, each in sorted(summary.classes.items())
        ),
    )
